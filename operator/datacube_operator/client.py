"""Requests of the operator to the API server: the library's, counted, and its writes fenced.

Every write asks the fence first and is given up before the fence closes. What was already on its way, or with a process
that is frozen between the question and the sending, may still arrive: so names are the same in every replica, and
creates are safe to repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.cluster import client as library
from datacube_flows.cluster import connection
from datacube_flows.cluster.client import REQUEST_SECONDS, Object, Request, WatchEvent, set_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from kubernetes.aio.client import ApiClient

    from datacube_operator.fence import Fence
    from datacube_operator.metrics import Metrics
    from datacube_operator.resource import Resource

__all__ = ["FIELD_MANAGER", "REQUEST_SECONDS", "Client", "Object", "Page", "WatchEvent", "connect"]

FIELD_MANAGER: Final = "datacube"
LIST_SECONDS: Final = 30.0
"""A page of large objects over a slow line takes longer than a single one."""


@dataclass(frozen=True)
class Page:
    """A part of a list; `token` asks for the next part and is empty in the last one."""

    items: list[Object]
    version: str
    token: str


@asynccontextmanager
async def connect(kubeconfig: Path | None = None) -> AsyncIterator[ApiClient]:
    """Has a connection to the cluster of a kubeconfig, or to that in which this process runs as a pod.

    Raises:
        NoConnection: the kubeconfig, or the pod's account, cannot be used.
    """
    async with connection.connect(connection.Place(kubeconfig)) as made:
        yield made.api


class Client(library.Client):
    """The verbs. All methods raise `ApiError`s, the writing ones `NotLeader` too."""

    def __init__(self, api: ApiClient, fence: Fence, metrics: Metrics) -> None:
        super().__init__(api, manager=FIELD_MANAGER)
        self._fence, self._metrics = fence, metrics

    async def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", limit: int = 500, token: str = ""
    ) -> Page:
        """Returns one page of what a label selector selects; raises `Gone` where the token is too old."""
        query = set_fields({"labelSelector": labels, "limit": str(limit), "continue": token})
        found = await self._ask(Request("GET", "list", resource.path(namespace), query), LIST_SECONDS)
        about = found.get("metadata") or {}
        return Page(found.get("items") or [], about.get("resourceVersion", ""), about.get("continue") or "")

    async def replace(self, resource: Resource, namespace: str | None, body: Mapping[str, Any]) -> Object:
        """Writes the whole object; raises `Conflict` unless it still has the resourceVersion that the body names."""
        path = resource.path(namespace, body["metadata"]["name"])
        return await self._write(Request("PUT", "update", path, self._managed, body))

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        subresource: str | None = None,
    ) -> Object:
        """Changes the object: a mapping is a merge patch, a sequence a JSON patch."""
        kind = "merge-patch" if isinstance(body, Mapping) else "json-patch"
        path = resource.path(namespace, name, subresource)
        return await self._write(Request("PATCH", "patch", path, self._managed, body, f"application/{kind}+json"))

    async def _write(self, request: Request) -> Object:
        return await self._ask(request, min(REQUEST_SECONDS, self._fence.remaining()))

    def _count(self, verb: str, code: int) -> None:
        self._metrics.requests.labels(verb, code or "none").inc()
