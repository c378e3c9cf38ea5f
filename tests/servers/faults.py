"""An HTTP/1.1 proxy in front of a real server that counts requests and breaks the ones it is told to break.

Bodies are streamed, never held. The client's Host header reaches the server as it was sent, so signatures stay valid.
Without an upstream it is a forward proxy (absolute-form requests and CONNECT), which proves that a client used it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.servers.http1 import CHUNK, BrokenConnection, Head, frame, has_body, is_until_eof, pieces, read_head

MAX_HEAD = 256 * 1024
FLIPPED = bytes(b ^ 0xFF for b in range(256))
LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"

Kind = Literal["pass", "status", "redirect", "html", "reset", "truncate", "short", "wrong", "stall", "slow"]
OWN_ANSWERS = frozenset({"status", "redirect", "html"})
ENDS_EARLY = frozenset({"reset", "truncate"})


@dataclass(frozen=True)
class Fault:
    """What happens to the requests that match.

    Attributes:
        match: regular expression, searched in `"METHOD /path?query"` (`"CONNECT host:port"` for a tunnel).
        kind: `status` answers with `status`, `headers`, `body`; `redirect` with 302 (or `status`) to `location`;
            `html` with 200 and a login page. The others forward the request and then, in the body:
            `reset` sends `after` bytes and a TCP reset; `truncate` sends `after` bytes of the full Content-Length and
            closes; `short` announces and sends only `after` bytes; `wrong` flips every byte from `after` on; `stall`
            sends `after` bytes, then nothing until the client leaves; `slow` sends `rate` bytes a second.
            `pass` changes nothing and is there for `before`.
        times: how many requests it hits; None: all.
        skip: how many matching requests pass untouched first.
        on: which body is broken: the answer's or the request's (uploads).
        before: called, in a thread, before the request is forwarded (to change something at the right moment).
    """

    match: str
    kind: Kind
    times: int | None = 1
    skip: int = 0
    after: int = 0
    rate: int = 1024
    on: Literal["response", "request"] = "response"
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    location: str = ""
    before: Callable[[], None] | None = None


NO_FAULT = Fault("", "pass")


@dataclass
class _Entry:
    fault: Fault
    hits: int = 0


@dataclass
class Seen:
    """One request as it arrived; `status` is 0 until the answer's head came, `sent` counts bytes of its body."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    at: float
    status: int = 0
    received: int = 0
    sent: int = 0
    fault: str = ""

    @property
    def line(self) -> str:
        """What a fault's `match` is searched in."""
        return f"{self.method} {self.path}" + (f"?{self.query}" if self.query else "")


class FaultProxy:
    """A running proxy; made by `start_fault_proxy`."""

    def __init__(self, upstream: str | None) -> None:
        self._upstream = _address(upstream) if upstream else None
        self._lock = threading.Lock()
        self._faults: list[_Entry] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="fault-proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.requests: list[Seen] = []

    @property
    def url(self) -> str:
        """Where clients go."""
        return f"http://127.0.0.1:{self.port}"

    def inject(self, *faults: Fault) -> None:
        """Adds faults; the first added that matches and has not run out hits a request."""
        with self._lock:
            self._faults += [_Entry(fault) for fault in faults]

    def clear(self) -> None:
        """Forgets all faults and all requests seen."""
        with self._lock:
            self._faults.clear()
            self.requests = []

    def count(self, match: str) -> int:
        """How many requests so far match."""
        return len(self.matching(match))

    def matching(self, match: str) -> list[Seen]:
        """The requests so far that match, oldest first."""
        return [seen for seen in list(self.requests) if re.search(match, seen.line)]

    def start(self) -> None:
        """Listens on a free port of 127.0.0.1."""
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fault proxy did not start")

    def stop(self) -> None:
        """Ends every connection and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", 0, limit=MAX_HEAD, backlog=512)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(BrokenConnection, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; returns whether the connection lives on."""
        head = await read_head(reader)
        method, target, _version = head.start.split(" ", 2)
        path, _, query = _origin_form(target).partition("?")
        seen = Seen(method, path, query, {k.lower(): v for k, v in head.fields}, time.monotonic())
        self.requests.append(seen)
        fault = self._hit(seen)
        exchange = _Exchange(seen, fault, head, reader, writer)
        if fault.before:
            await asyncio.to_thread(fault.before)
        if fault.kind in OWN_ANSWERS:
            return await exchange.answer()
        if method == "CONNECT":
            return await exchange.tunnel()
        host, port = self._upstream or _address(target)
        return await exchange.forward(host, port)

    def _hit(self, seen: Seen) -> Fault:
        with self._lock:
            for entry in self._faults:
                fault, hits = entry.fault, entry.hits
                spent = fault.times is not None and hits >= fault.skip + fault.times
                if spent or not re.search(fault.match, seen.line):
                    continue
                entry.hits += 1
                if hits >= fault.skip:
                    seen.fault = fault.kind
                    return fault
        return NO_FAULT


@contextmanager
def start_fault_proxy(upstream: str | None) -> Iterator[FaultProxy]:
    """Runs a proxy in front of `upstream` (`http://host:port`); None makes it a forward proxy."""
    proxy = FaultProxy(upstream)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def _origin_form(target: str) -> str:
    if "://" not in target:
        return target
    parts = urlsplit(target)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@dataclass
class _Exchange:
    """One request on its way: what arrived, what is to happen to it, and the client's two streams."""

    seen: Seen
    fault: Fault
    head: Head
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def _on(self, side: str) -> Fault:
        return self.fault if self.fault.on == side else NO_FAULT

    async def answer(self) -> bool:
        """Answers in the server's stead, after a body that is already on its way: the client then sees it."""
        fault = self.fault
        if "100-continue" not in self.head.get("expect").lower():
            async for piece, _raw in pieces(self.reader, self.head, method=self.seen.method, is_request=True):
                self.seen.received += len(piece)
        status = fault.status or {"redirect": 302, "html": 200}[fault.kind]
        body = fault.body or (LOGIN_PAGE if fault.kind == "html" else b"")
        answer = Head(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", list(fault.headers.items()))
        if fault.kind == "html":
            answer.put("Content-Type", "text/html; charset=utf-8")
        if fault.location:
            answer.put("Location", fault.location)
        answer.put("Content-Length", str(len(body)))
        answer.put("Connection", "close")
        self.seen.status = status
        self.writer.write(answer.render() + (b"" if self.seen.method == "HEAD" else body))
        await self.writer.drain()
        return False

    async def tunnel(self) -> bool:
        """Joins the client with the host that CONNECT names."""
        host, _, port = self.seen.path.rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        self.seen.status = 200
        self.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        ways = [asyncio.create_task(_copy(self.reader, up_writer)), asyncio.create_task(_copy(up_reader, self.writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up_writer.close()
            await _cancel(*ways)
        return False

    async def forward(self, host: str, port: int) -> bool:
        """Passes request and answer through, broken as the fault says; returns whether the connection lives on."""
        up_reader, up_writer = await asyncio.open_connection(host, port, limit=MAX_HEAD)
        sending = asyncio.create_task(self._send_request(up_writer))
        try:
            answer = await self._answer_head(up_reader, sending)
            self.seen.status = int(answer.start.split(" ", 2)[1])
            await self._send_response(answer, up_reader)
            return sending.done() and "close" not in self.head.get("connection").lower()
        finally:
            up_writer.close()
            await _cancel(sending)

    async def _answer_head(self, up_reader: asyncio.StreamReader, sending: asyncio.Task[None]) -> Head:
        """Returns the final head; interim ones (100 Continue) pass through. A request that broke on its way raises."""
        while True:
            reading = asyncio.create_task(read_head(up_reader))
            try:
                await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
                head = await reading
            finally:
                await _cancel(reading)
            if not head.start.split(" ", 2)[1].startswith("1"):
                return head
            self.writer.write(head.render())
            await self.writer.drain()

    async def _send_request(self, up_writer: asyncio.StreamWriter) -> None:
        """Sends head and body on; a fault on the request's body resets or holds both connections."""
        method, target, version = self.head.start.split(" ", 2)
        sent = Head(f"{method} {_origin_form(target)} {version}", list(self.head.fields))
        sent.drop("connection", "proxy-connection", "keep-alive", "proxy-authorization")
        sent.put("Connection", "close")
        up_writer.write(sent.render())
        fault = self._on("request")
        body = pieces(self.reader, self.head, method=self.seen.method, is_request=True)
        async for piece, raw in _break(body, fault, up_writer, self.reader):
            self.seen.received += len(piece)
            up_writer.write(frame(piece, raw, self.head))
            await up_writer.drain()
        if fault.kind in ENDS_EARLY:
            _abort(self.writer) if fault.kind == "reset" else self.writer.close()
            raise BrokenConnection

    async def _send_response(self, head: Head, up_reader: asyncio.StreamReader) -> None:
        fault = self._on("response")
        body = pieces(up_reader, head, method=self.seen.method, is_request=False)
        sent = Head(head.start, list(head.fields))
        sent.drop("connection", "keep-alive")
        if is_until_eof(head) and has_body(self.seen.method, self.seen.status):
            sent.put("Connection", "close")
        if fault.kind == "short":
            return await self._send_short(sent, body)
        self.writer.write(sent.render())
        async for piece, raw in _break(body, fault, self.writer, self.reader):
            self.seen.sent += len(piece)
            self.writer.write(frame(piece, raw, head))
            await self.writer.drain()
        if fault.kind == "reset":
            _abort(self.writer)
        if fault.kind in ENDS_EARLY or sent.get("connection") == "close":
            raise BrokenConnection
        return None

    async def _send_short(self, head: Head, body: AsyncIterator[tuple[bytes, bytes]]) -> None:
        size = self.fault.after
        kept = b""
        async for piece, _raw in body:
            kept += piece
            if len(kept) >= size:
                break
        kept = kept[:size]
        head.drop("transfer-encoding", "content-length")
        head.put("Content-Length", str(len(kept)))
        head.put("Connection", "close")
        self.seen.sent += len(kept)
        self.writer.write(head.render() + kept)
        await self.writer.drain()
        raise BrokenConnection


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(CHUNK):
        writer.write(piece)
        await writer.drain()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _break(
    body: AsyncIterator[tuple[bytes, bytes]], fault: Fault, writer: asyncio.StreamWriter, client: asyncio.StreamReader
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yields the body as the fault leaves it; after `reset` and `truncate` it simply ends early."""
    breaker = {"wrong": _flip, "slow": _slow}.get(fault.kind)
    if breaker is None and fault.kind != "pass":
        breaker = _cut
    async for item in breaker(body, fault) if breaker else body:
        yield item
    if fault.kind == "stall":
        await writer.drain()
        await _client_gone(client)


async def _flip(body: AsyncIterator[tuple[bytes, bytes]], fault: Fault) -> AsyncIterator[tuple[bytes, bytes]]:
    done = 0
    async for piece, raw in body:
        keep = max(0, min(len(piece), fault.after - done))
        yield piece[:keep] + piece[keep:].translate(FLIPPED), raw
        done += len(piece)


async def _cut(body: AsyncIterator[tuple[bytes, bytes]], fault: Fault) -> AsyncIterator[tuple[bytes, bytes]]:
    left = fault.after
    async for piece, raw in body:
        if raw or not left:
            return
        yield piece[:left], b""
        left -= len(piece[:left])


async def _slow(body: AsyncIterator[tuple[bytes, bytes]], fault: Fault) -> AsyncIterator[tuple[bytes, bytes]]:
    step = max(1, fault.rate // 10)
    async for piece, raw in body:
        for start in range(0, len(piece), step):
            yield piece[start : start + step], b""
            await asyncio.sleep(step / fault.rate)
        if raw:
            yield b"", raw


async def _client_gone(client: asyncio.StreamReader) -> None:
    while await client.read(CHUNK):
        pass
    raise BrokenConnection


def _abort(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with a TCP reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
