"""Requests to the API server, with objects as plain dicts: one method a verb, one error a kind of failure.

Objects go in and come out as the API has them; the models of `kubernetes.aio` are not used. Nothing is repeated here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import aiohttp

from datacube_flows.cluster.connection import CredentialError
from datacube_flows.cluster.errors import Silent, Unavailable, error_from_status
from datacube_flows.cluster.resource import PODS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from kubernetes.aio.client import ApiClient

    from datacube_flows.cluster.resource import Resource

Object = dict[str, Any]

REQUEST_SECONDS: Final = 5.0

_JSON: Final = "application/json"
_ANY: Final = "application/json, */*"
"""A log is plain text; a refusal is still a `Status`."""

_OK: Final = range(200, 300)
_FOREIGN: Final = (aiohttp.ClientError, TimeoutError, OSError, CredentialError, json.JSONDecodeError)
"""What the transport raises where a request or its answer got lost on the way."""


@dataclass(frozen=True)
class WatchEvent:
    """What a watch tells.

    `OPENED` without an object once the server has accepted the watch; then `ADDED`, `MODIFIED`, `DELETED` and
    `BOOKMARK` with the object, and `ERROR` with a `Status`.
    """

    type: str
    object: Object


@dataclass(frozen=True)
class Request:
    """What is sent; `verb` is the API's word for it, as RBAC has it."""

    method: str
    verb: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content: str = _JSON
    accept: str = _JSON

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


class Client:
    """The verbs. All methods raise `ApiError`s.

    Args:
        api: an open connection.
        manager: who is said to have written what is written.
    """

    def __init__(self, api: ApiClient, *, manager: str) -> None:
        self._api, self._manager = api, manager
        self._managed = {"fieldManager": manager}

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """Returns the object as it is now."""
        return await self._ask(Request("GET", "get", resource.path(namespace, name)), REQUEST_SECONDS)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        name: str = "",
        version: str,
        seconds: float,
        idle_seconds: float,
    ) -> AsyncGenerator[WatchEvent]:
        """Yields what happens after a version, until the server ends the watch.

        Args:
            resource: what to watch.
            namespace: where; None is everywhere.
            labels: a label selector.
            name: of the only object to watch.
            version: the resourceVersion to go on from.
            seconds: after which the server ends the watch.
            idle_seconds: without a byte, after which `Silent` is raised.
        """
        query = {"labelSelector": labels, "resourceVersion": version, "timeoutSeconds": str(max(1, int(seconds)))}
        query |= {"fieldSelector": f"metadata.name={name}" if name else ""}
        query = set_fields(query) | {"watch": "true", "allowWatchBookmarks": "true"}
        request = Request("GET", "watch", resource.path(namespace), query)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=idle_seconds)
        with _mapped(request):
            async with self._send(request, timeout) as response:
                yield WatchEvent("OPENED", {})
                try:
                    async for line in _lines(response.content.iter_any()):
                        told = json.loads(line)
                        yield WatchEvent(told["type"], told["object"])
                except aiohttp.SocketTimeoutError:
                    raise Silent(str(request), 0, "Silent") from None

    async def read_log(self, namespace: str, pod: str, container: str, *, tail_lines: int, limit_bytes: int) -> str:
        """Returns the last lines of a container's log, of them at most so many bytes, and no older container's.

        What is no UTF-8 is replaced. The server cuts the end off where the lines are more than `limit_bytes`.
        """
        query = {"container": container, "tailLines": str(tail_lines), "limitBytes": str(limit_bytes)}
        request = Request("GET", "get", PODS.path(namespace, pod, "log"), query, accept=_ANY)
        with _mapped(request):
            async with self._send(request, aiohttp.ClientTimeout(total=REQUEST_SECONDS)) as response:
                return (await _read(response.content, limit_bytes)).decode(errors="replace")

    async def create(self, resource: Resource, namespace: str | None, body: Mapping[str, Any]) -> Object:
        """Makes the object; raises `AlreadyExists` where its name is taken."""
        return await self._write(Request("POST", "create", resource.path(namespace), self._managed, body))

    async def apply(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any], *, subresource: str | None = None
    ) -> Object:
        """Has the fields of the body as they are there, whoever wrote them before (server-side apply, forced)."""
        path = resource.path(namespace, body["metadata"]["name"], subresource)
        query = self._managed | {"force": "true"}
        return await self._write(Request("PATCH", "patch", path, query, body, "application/apply-patch+yaml"))

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str,
        version: str = "",
        propagation: str = "Background",
    ) -> None:
        """Deletes the object of this uid, and no other that has taken its name (`Conflict`).

        Args:
            resource: what is deleted.
            namespace: where.
            name: of the object.
            uid: of the object.
            version: where given, the object is deleted only while it has this resourceVersion (else `Conflict`).
            propagation: what becomes of what it owns.
        """
        preconditions = set_fields({"uid": uid, "resourceVersion": version})
        body = {"propagationPolicy": propagation, "preconditions": preconditions}
        await self._write(Request("DELETE", "delete", resource.path(namespace, name), body=body))

    async def _write(self, request: Request) -> Object:
        return await self._ask(request, REQUEST_SECONDS)

    async def _ask(self, request: Request, seconds: float) -> Object:
        with _mapped(request):
            async with self._send(request, aiohttp.ClientTimeout(total=seconds)) as response:
                answer: Object = json.loads(await response.read())
                return answer

    def _count(self, verb: str, code: int) -> None:
        """Is told of each request and its status, 0 where there was no answer; here nobody counts."""

    @asynccontextmanager
    async def _send(self, request: Request, timeout: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """Has an answer whose status is good; counts it."""
        headers = {"Content-Type": request.content, "Accept": request.accept, "User-Agent": self._manager}
        await self._api.update_params_for_auth(headers, {}, ["BearerToken"], request.path, request.method, request.body)
        url = self._api.configuration.host + request.path + (f"?{urlencode(request.query)}" if request.query else "")
        code = 0
        try:
            answer = await self._api.rest_client.request(
                request.method, url, headers=headers, body=request.body, _request_timeout=timeout
            )
            response: aiohttp.ClientResponse = answer.response
            code = response.status
        finally:
            self._count(request.verb, code)
        async with response:
            if code not in _OK:
                status = _status(await response.read())
                wait = _seconds(response.headers.get("Retry-After", ""))
                raise error_from_status(str(request), status, code=code, retry_after=wait)
            try:
                yield response
            except BaseException:
                _break_off(response)
                raise


def set_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """Returns the fields that say something."""
    return {name: value for name, value in fields.items() if value}


def _break_off(response: aiohttp.ClientResponse) -> None:
    """Ends a connection whose answer is not wanted to its end; a polite end would wait for the other side."""
    transport = response.connection and response.connection.transport
    if transport is not None:
        transport.abort()


@contextmanager
def _mapped(request: Request) -> Iterator[None]:
    """Tells errors of the transport as `Unavailable`; their texts may quote a credential, of a proxy for instance."""
    try:
        yield
    except _FOREIGN as error:
        raise Unavailable(str(request), 0, type(error).__name__) from None


async def _read(stream: aiohttp.StreamReader, limit: int) -> bytes:
    """Returns what a stream holds, and of it no more than the limit, whatever the server sends."""
    found = bytearray()
    while len(found) < limit and (chunk := await stream.read(limit - len(found))):
        found += chunk
    return bytes(found)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yields whole lines, however long: aiohttp's own reader refuses those above its buffer."""
    rest: list[bytes] = []
    async for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*rest, line])
            rest.clear()
        rest.append(last)


def _status(body: bytes) -> Object:
    """The `Status` that an answer holds; empty where something else than the API server answered."""
    try:
        status = json.loads(body)
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


def _seconds(header: str) -> float:
    return float(header) if header.isdecimal() else 0.0
