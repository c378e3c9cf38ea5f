"""Requests to the API server, with objects as plain dicts: one method a verb, one error a kind of failure.

Built on the transport of `kubernetes.aio` (TLS, tokens and their refresh); its models are not used. Every write asks
the fence first and is given up before the fence closes. What was already on its way, or with a process that is frozen
between the question and the sending, may still arrive: so names are the same in every replica, and creates are safe
to repeat.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from datacube_operator.errors import NoConnection, Silent, Unavailable, error_from_status
from datacube_operator.resource import PODS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from datacube_operator.fence import Fence
    from datacube_operator.metrics import Metrics
    from datacube_operator.resource import Resource

Object = dict[str, Any]

FIELD_MANAGER: Final = "datacube"
REQUEST_SECONDS: Final = 5.0
LIST_SECONDS: Final = 30.0
"""A page of large objects over a slow line takes longer than a single one."""

_JSON: Final = "application/json"
_ANY: Final = "application/json, */*"
"""A log is plain text; a refusal is still a `Status`."""

_MANAGED: Final = {"fieldManager": FIELD_MANAGER}
_OK: Final = range(200, 300)
_FOREIGN: Final = (aiohttp.ClientError, TimeoutError, OSError, config.ConfigException, json.JSONDecodeError)
"""What the transport raises where a request or its answer got lost on the way."""


@dataclass(frozen=True)
class Page:
    """A part of a list; `token` asks for the next part and is empty in the last one."""

    items: list[Object]
    version: str
    token: str


@dataclass(frozen=True)
class WatchEvent:
    """What a watch tells.

    `OPENED` without an object once the server has accepted the watch; then `ADDED`, `MODIFIED`, `DELETED` and
    `BOOKMARK` with the object, and `ERROR` with a `Status`.
    """

    type: str
    object: Object


@dataclass(frozen=True)
class _Request:
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


@asynccontextmanager
async def connect(kubeconfig: Path | None = None) -> AsyncIterator[ApiClient]:
    """Has a connection to the cluster of a kubeconfig, or to that in which this process runs as a pod.

    Raises:
        NoConnection: the kubeconfig, or the pod's account, cannot be used.
    """
    settings = Configuration()
    loader = await _load(kubeconfig, settings)
    refresh = loader and asyncio.create_task(config.refresh_token(loader, settings))
    settings.proxy = settings.proxy or _proxy_of_environment(settings.host)
    settings.client_session_kwargs = {
        "trust_env": False
    }  # else each request asks a thread for a proxy and for ~/.netrc
    async with ApiClient(configuration=settings) as api:
        try:
            yield api
        finally:
            if refresh is not None:
                refresh.cancel()


async def _load(kubeconfig: Path | None, settings: Configuration) -> Any:
    """Fills the settings; returns what renews the token of a kubeconfig."""
    try:
        if kubeconfig is not None:
            return await config.load_kube_config(
                config_file=str(kubeconfig), client_configuration=settings, persist_config=False
            )
        config.load_incluster_config(client_configuration=settings)
    except Exception as error:  # of a parser, a file, a library; their texts may quote a credential
        place = "this is no pod with an account: give --kubeconfig" if kubeconfig is None else f"look at '{kubeconfig}'"
        raise NoConnection(f"the API server's address or credentials are not to be had, {place}") from error
    return None


def _proxy_of_environment(server: str) -> str | None:
    """Returns the proxy that the environment names for a server, as kubectl takes it; None where it names none."""
    url = urlsplit(server)
    return None if not url.hostname or proxy_bypass(url.hostname) else getproxies().get(url.scheme)


class Client:
    """The verbs. All methods raise `ApiError`s, the writing ones `NotLeader` too."""

    def __init__(self, api: ApiClient, fence: Fence, metrics: Metrics) -> None:
        self._api, self._fence, self._metrics = api, fence, metrics

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """Returns the object as it is now."""
        return await self._ask(_Request("GET", "get", resource.path(namespace, name)), REQUEST_SECONDS)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", limit: int = 500, token: str = ""
    ) -> Page:
        """Returns one page of what a label selector selects; raises `Gone` where the token is too old."""
        query = _set({"labelSelector": labels, "limit": str(limit), "continue": token})
        found = await self._ask(_Request("GET", "list", resource.path(namespace), query), LIST_SECONDS)
        about = found.get("metadata") or {}
        return Page(found.get("items") or [], about.get("resourceVersion", ""), about.get("continue") or "")

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        version: str,
        seconds: float,
        idle_seconds: float,
    ) -> AsyncGenerator[WatchEvent]:
        """Yields what happens after a version, until the server ends the watch.

        Args:
            resource: what to watch.
            namespace: where; None is everywhere.
            labels: a label selector.
            version: the resourceVersion to go on from.
            seconds: after which the server ends the watch.
            idle_seconds: without a byte, after which `Silent` is raised.
        """
        query = _set({"labelSelector": labels, "resourceVersion": version, "timeoutSeconds": str(max(1, int(seconds)))})
        query |= {"watch": "true", "allowWatchBookmarks": "true"}
        request = _Request("GET", "watch", resource.path(namespace), query)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=idle_seconds)
        with _mapped(request):
            async with self._send(request, timeout) as response:
                yield WatchEvent("OPENED", {})
                try:
                    async for line in _lines(response.content.iter_any()):
                        told = json.loads(line)
                        yield WatchEvent(told["type"], told["object"])
                except aiohttp.SocketTimeoutError as error:
                    raise Silent(str(request), 0, "Silent") from error

    async def read_log(self, namespace: str, pod: str, container: str, *, tail_lines: int, limit_bytes: int) -> str:
        """Returns the last lines of a container's log, of them at most so many bytes, and no older container's.

        What is no UTF-8 is replaced. The server cuts the end off where the lines are more than `limit_bytes`.
        """
        query = {"container": container, "tailLines": str(tail_lines), "limitBytes": str(limit_bytes)}
        request = _Request("GET", "get", PODS.path(namespace, pod, "log"), query, accept=_ANY)
        with _mapped(request):
            async with self._send(request, aiohttp.ClientTimeout(total=REQUEST_SECONDS)) as response:
                return (await _read(response.content, limit_bytes)).decode(errors="replace")

    async def create(self, resource: Resource, namespace: str | None, body: Mapping[str, Any]) -> Object:
        """Makes the object; raises `AlreadyExists` where its name is taken."""
        return await self._write(_Request("POST", "create", resource.path(namespace), _MANAGED, body))

    async def replace(self, resource: Resource, namespace: str | None, body: Mapping[str, Any]) -> Object:
        """Writes the whole object; raises `Conflict` unless it still has the resourceVersion that the body names."""
        path = resource.path(namespace, body["metadata"]["name"])
        return await self._write(_Request("PUT", "update", path, _MANAGED, body))

    async def apply(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any], *, subresource: str | None = None
    ) -> Object:
        """Has the fields of the body as they are there, whoever wrote them before (server-side apply, forced)."""
        path = resource.path(namespace, body["metadata"]["name"], subresource)
        query = _MANAGED | {"force": "true"}
        return await self._write(_Request("PATCH", "patch", path, query, body, "application/apply-patch+yaml"))

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
        return await self._write(_Request("PATCH", "patch", path, _MANAGED, body, f"application/{kind}+json"))

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
        body = {"propagationPolicy": propagation, "preconditions": _set({"uid": uid, "resourceVersion": version})}
        await self._write(_Request("DELETE", "delete", resource.path(namespace, name), body=body))

    async def _write(self, request: _Request) -> Object:
        return await self._ask(request, min(REQUEST_SECONDS, self._fence.remaining()))

    async def _ask(self, request: _Request, seconds: float) -> Object:
        with _mapped(request):
            async with self._send(request, aiohttp.ClientTimeout(total=seconds)) as response:
                answer: Object = json.loads(await response.read())
                return answer

    @asynccontextmanager
    async def _send(self, request: _Request, timeout: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """Has an answer whose status is good; counts it."""
        headers = {"Content-Type": request.content, "Accept": request.accept, "User-Agent": FIELD_MANAGER}
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
            self._metrics.requests.labels(request.verb, code or "none").inc()
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


def _break_off(response: aiohttp.ClientResponse) -> None:
    """Ends a connection whose answer is not wanted to its end; a polite end would wait for the other side."""
    transport = response.connection and response.connection.transport
    if transport is not None:
        transport.abort()


@contextmanager
def _mapped(request: _Request) -> Iterator[None]:
    """Tells errors of the transport as `Unavailable`."""
    try:
        yield
    except _FOREIGN as error:
        raise Unavailable(str(request), 0, type(error).__name__) from error


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


def _set(query: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if value}
