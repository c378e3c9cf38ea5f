"""Answers of the Git server, and the ways in which they can be made to go wrong."""

from __future__ import annotations

import re
import socket
import struct
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from http.server import BaseHTTPRequestHandler

LOGIN_PAGE = b"<html><body><form action='/login'>Please sign in</form></body></html>"


class Ending(StrEnum):
    """How the body of an answer ends."""

    WHOLE = "whole"
    TRUNCATED = "truncated"
    RESET = "reset"
    STALLED = "stalled"


@dataclass(frozen=True)
class Response:
    """What goes back to the client."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    ending: Ending = Ending.WHOLE

    def send(self, handler: BaseHTTPRequestHandler, stopping: threading.Event) -> None:
        """Writes it, half of it where the ending says so."""
        handler.send_response(self.status)
        for name, value in self.headers.items():
            if name.lower() != "content-length":
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(self.body)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        whole = self.ending is Ending.WHOLE
        handler.wfile.write(self.body if whole else self.body[: len(self.body) // 2])
        handler.wfile.flush()
        if self.ending is Ending.STALLED:
            stopping.wait(60)
        if self.ending is Ending.RESET:
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.shutdown(socket.SHUT_RD)


@dataclass
class Fault:
    """A change to the next `times` answers whose path matches.

    Attributes:
        pattern: regular expression, searched in the path with its query.
        status: answers with this status and nothing else.
        retry_after: seconds, sent with the status.
        location: redirects there, the request's own path kept.
        login_page: answers 200 with an HTML page.
        flips_bytes: same length, other content.
    """

    pattern: str
    times: int = 1
    status: int = 0
    retry_after: int = 0
    location: str = ""
    login_page: bool = False
    flips_bytes: bool = False
    ending: Ending = Ending.WHOLE
    _path: str = ""

    def takes(self, path: str) -> bool:
        """Whether this request meets the fault; counts it."""
        if not self.times or not re.search(self.pattern, path):
            return False
        self.times -= 1
        self._path = path
        return True

    def change(self, response: Response) -> Response:
        """Returns the answer that goes wrong."""
        if self.location:
            return Response(302, {"Location": self.location + self._path}, b"")
        if self.login_page:
            return Response(200, {"Content-Type": "text/html"}, LOGIN_PAGE)
        if self.status:
            headers = {"Retry-After": str(self.retry_after)} if self.retry_after else {}
            return Response(self.status, headers, b"a fault\n")
        body = bytes(b ^ 0xFF for b in response.body) if self.flips_bytes else response.body
        return replace(response, body=body, ending=self.ending)
