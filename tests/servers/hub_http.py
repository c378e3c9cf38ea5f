"""The local hub's HTTP side: one threaded server, a table of routes, answers and errors shaped like the hub's own."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 1 << 20


class HubError(Exception):
    """An answer that is an error, with the headers that clients tell errors apart by."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code

    def answer(self) -> Answer:
        headers = {"X-Error-Message": self.message} | ({"X-Error-Code": self.code} if self.code else {})
        return Answer.json({"error": self.message}, status=self.status, headers=headers)


@dataclass
class Answer:
    """What is sent back: bytes, or a slice of a file that is streamed from disk."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None

    @classmethod
    def json(cls, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
        body = json.dumps(value).encode()
        return cls(status, body, {"Content-Type": "application/json; charset=utf-8"} | (headers or {}))


@dataclass
class Request:
    """One request as it arrived; kept in `Hub.requests`."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    port: int
    status: int = 0

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


class Call:
    """A request being answered: gives routes its body, in pieces or whole."""

    def __init__(self, request: Request, handler: BaseHTTPRequestHandler) -> None:
        self.request = request
        self._handler = handler
        self._left = int(request.headers.get("content-length") or 0)

    def pieces(self) -> Any:
        while self._left:
            piece = self._handler.rfile.read1(min(CHUNK, self._left))  # type: ignore[attr-defined]
            if not piece:
                raise ConnectionError("the client left in the middle of a body")
            self._left -= len(piece)
            yield piece

    def body(self) -> bytes:
        return b"".join(self.pieces())

    def json(self) -> Any:
        return json.loads(self.body() or b"{}")

    def absolute(self, path: str) -> str:
        """URL of a path on this server as the client sees it, so that a proxy in front stays in the way."""
        return f"http://{self.request.host}{path}"


Route = Callable[..., Answer]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def route(methods: str, pattern: str) -> Callable[[Route], Route]:
    """Registers a function `(hub, call, **groups)` for a path."""

    def register(function: Route) -> Route:
        for method in methods.split():
            ROUTES.append((method, re.compile(pattern + r"\Z"), function))
        return function

    return register


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: HubServer

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _any(self) -> None:
        parts = urlsplit(self.path)
        query = {k: v[-1] for k, v in parse_qs(parts.query).items()}
        headers = {k.lower(): v for k, v in self.headers.items()}
        request = Request(self.command, parts.path, query, headers, self.server.server_port)
        hub = self.server.hub
        hub.requests.append(request)
        call = Call(request, self)
        try:
            answer = self._dispatch(hub, call)
        except HubError as error:
            answer = error.answer()
        for _rest in call.pieces():
            pass  # an error was answered before the body was read
        request.status = answer.status
        hub.log(f"{request.port} {request.line} {headers.get('range', '')} {answer.status}")
        self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any

    def _dispatch(self, hub: Any, call: Call) -> Answer:
        for method, pattern, function in ROUTES:
            if method == call.request.method and (match := pattern.match(call.request.path)):
                return function(hub, call, **{k: unquote(v or "") for k, v in match.groupdict().items()})
        raise HubError(404, f"no such page: {call.request.path}")

    def _send(self, answer: Answer) -> None:
        start, size = 0, len(answer.body)
        if answer.file is not None:
            answer, start, size = self._ranged(answer)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.file is None:
            self.wfile.write(answer.body)
        elif size:
            self.wfile.flush()
            with answer.file.open("rb") as stream:
                self.connection.sendfile(stream, start, size)

    def _ranged(self, answer: Answer) -> tuple[Answer, int, int]:
        assert answer.file is not None
        total = answer.file.stat().st_size
        answer.headers["Accept-Ranges"] = "bytes"
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return answer, 0, total
        start, end = int(match[1]), min(int(match[2] or total - 1), total - 1)
        if start > end:
            return Answer(416, b"", {"Content-Range": f"bytes */{total}"}), 0, 0
        answer.status = 206
        answer.headers["Content-Range"] = f"bytes {start}-{end}/{total}"
        return answer, start, end - start + 1

    def log_message(self, format: str, *args: Any) -> None:
        pass  # requests go to the hub's own log


class HubServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, hub: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="hub", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        import traceback

        self.hub.log(traceback.format_exc())

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
