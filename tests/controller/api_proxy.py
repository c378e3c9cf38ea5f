"""A proxy in front of a real API server, which breaks requests and streams as a test says.

It speaks plain HTTP on loopback, so that faults are made where requests are whole; the operator's own TLS is tested
without it. Upstream it shows the administrator's certificate, or none, so that the rights are those of the token that
a client sends.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import aiohttp
from aiohttp import web
from datacube_operator.client import connect
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

Rights = Literal["administrator", "client"]

HOP_BY_HOP: Final = {"connection", "content-length", "transfer-encoding", "host"}


@dataclass
class Fault:
    """What becomes of requests whose `VERB path?query` matches, so many times.

    With a status the proxy answers itself, by `text` or else by `body`; with `hold` it does nothing at all; else it
    passes the request on and loses the answer. `skip` lets so many pass before; `act` is called when the request has
    come so far. With a `gate` the request is whole, and only waits for it to open.
    """

    match: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    times: int = 1
    hold: bool = False
    skip: int = 0
    act: Callable[[], None] = lambda: None
    gate: asyncio.Event | None = None


@dataclass
class Seen:
    line: str
    at: float
    status: int = 0
    """What the server answered; 0 where it was not asked, or has not answered yet."""


class ApiProxy:
    """The proxy while it runs."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self._upstream, self._session = upstream, session
        self._streams: dict[web.StreamResponse, asyncio.Event] = {}
        self._transports: set[asyncio.Transport] = set()
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.cut = False
        """Whether nothing passes: new requests are reset. `part` resets those under way, too."""
        self.url = ""

    def times_of(self, match: str) -> list[float]:
        """When requests arrived whose line matches."""
        return [seen.at for seen in self.seen if re.search(match, seen.line)]

    async def until(self, match: str, count: int, seconds: float = 15) -> None:
        """Returns when so many such requests have arrived."""
        async with asyncio.timeout(seconds):
            while len(self.times_of(match)) < count:
                await asyncio.sleep(0.02)

    async def streaming(self, seconds: float = 20) -> None:
        """Returns when a watch is open."""
        async with asyncio.timeout(seconds):
            while not self._streams:
                await asyncio.sleep(0.02)

    def part(self) -> None:
        """Parts the client from the server, in mid-word."""
        self.cut = True
        for transport in list(self._transports):
            transport.abort()

    def silence(self) -> None:
        """Lets the streams that are open stay open, and say nothing more."""
        for silent in self._streams.values():
            silent.set()

    async def say(self, event: Mapping[str, Any]) -> None:
        """Says an event in every open stream, and silences them."""
        self.silence()
        for response in list(self._streams):
            await response.write(json.dumps(event).encode() + b"\n")

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        line = f"{request.method} {request.raw_path}"
        seen = Seen(line, time.monotonic())
        self.seen.append(seen)
        assert request.transport is not None
        if self.cut:
            request.transport.abort()
            return web.Response()
        fault = self._hit(line)
        if fault is not None and (fault.status or fault.hold):
            return await self._answer(fault)
        if fault is not None and fault.gate is not None:
            await fault.gate.wait()
            fault = None
        self._transports.add(request.transport)
        try:
            return await self._pass_on(request, seen, fault)
        finally:
            self._transports.discard(request.transport)

    async def _answer(self, fault: Fault) -> web.StreamResponse:
        fault.act()
        if fault.hold:
            await asyncio.Event().wait()  # until the client goes, which cancels this
        if fault.text:
            return web.Response(text=fault.text, status=fault.status, headers=fault.headers)
        return web.json_response(dict(fault.body), status=fault.status, headers=fault.headers)

    def _hit(self, line: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.search(fault.match, line):
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    async def _pass_on(self, request: web.Request, seen: Seen, fault: Fault | None) -> web.StreamResponse:
        url = URL(self._upstream + request.raw_path, encoded=True)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body) as answer:
            seen.status = answer.status
            if fault is not None:
                await answer.read()
                fault.act()
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            sent = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=sent)
            try:
                with suppress(ConnectionError):  # the client may have gone, as one that is killed has
                    await response.prepare(request)
                    await self._copy(answer, response, is_watch="watch=true" in request.raw_path)
            finally:
                transport = answer.connection and answer.connection.transport
                if transport is not None:  # not read to its end: a polite end would wait for the server
                    transport.abort()
            return response

    async def _copy(self, answer: aiohttp.ClientResponse, response: web.StreamResponse, *, is_watch: bool) -> None:
        silent = asyncio.Event()
        if is_watch:
            self._streams[response] = silent
        try:
            async for chunk in answer.content.iter_any():
                if silent.is_set():
                    await asyncio.Event().wait()  # until the client goes, which cancels this
                await response.write(chunk)
            if silent.is_set():
                await asyncio.Event().wait()
        except (aiohttp.ClientError, ConnectionError):
            pass  # one of the two has gone
        finally:
            self._streams.pop(response, None)


@asynccontextmanager
async def start_api_proxy(kubeconfig: Path, *, rights: Rights = "administrator") -> AsyncIterator[ApiProxy]:
    """Runs a proxy before the server of a kubeconfig, which gives all clients its user's rights, or each its own."""
    async with connect(kubeconfig) as api:
        upstream, context = api.configuration.host, api.rest_client.ssl_context
        if rights == "client":
            context = ssl.create_default_context(cafile=api.configuration.ssl_ca_cert)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout) as session,
        _serving(ApiProxy(upstream, session)) as proxy,
    ):
        yield proxy


@asynccontextmanager
async def _serving(proxy: ApiProxy) -> AsyncIterator[ApiProxy]:
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", proxy.pass_on)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield proxy
    finally:
        await runner.cleanup()


def write_kubeconfig(file: Path, url: str, token: str = "") -> Path:
    """Writes the kubeconfig of a server that is shown a token, or asks for nothing."""
    named = {
        "clusters": [{"name": "proxy", "cluster": {"server": url}}],
        "users": [{"name": "proxy", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "proxy", **named}))
    return file
