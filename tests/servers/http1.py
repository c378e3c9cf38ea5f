"""HTTP/1.1 messages on asyncio streams, as much as a proxy needs: heads, and bodies piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

CHUNK = 64 * 1024


class BrokenConnection(Exception):
    """The connection ends here, as a fault or a peer wants it."""


@dataclass
class Head:
    start: str
    fields: list[tuple[str, str]]

    def get(self, name: str, default: str = "") -> str:
        return next((v for k, v in self.fields if k.lower() == name), default)

    def put(self, name: str, value: str) -> None:
        self.fields = [(k, v) for k, v in self.fields if k.lower() != name.lower()] + [(name, value)]

    def drop(self, *names: str) -> None:
        self.fields = [(k, v) for k, v in self.fields if k.lower() not in names]

    def render(self) -> bytes:
        lines = [self.start, *(f"{k}: {v}" for k, v in self.fields), "", ""]
        return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head:
    raw = await reader.readuntil(b"\r\n\r\n")
    start, *lines = raw.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    return Head(start, [(name.strip(), value.strip()) for name, _, value in pairs])


def is_until_eof(head: Head) -> bool:
    return not head.get("content-length") and "chunked" not in head.get("transfer-encoding").lower()


def has_body(method: str, status: int) -> bool:
    return method != "HEAD" and status not in (204, 304)


async def pieces(
    reader: asyncio.StreamReader, head: Head, *, method: str, is_request: bool
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yields the body as (payload, raw); `raw` is set where bytes travel as they are: the end of a chunked body."""
    if not is_request and not has_body(method, int(head.start.split(" ", 2)[1])):
        return
    if "chunked" in head.get("transfer-encoding").lower():
        async for item in _chunks(reader):
            yield item
    elif head.get("content-length"):
        left = int(head.get("content-length"))
        while left and (piece := await reader.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece, b""
        if left:
            raise BrokenConnection
    elif not is_request:
        while piece := await reader.read(CHUNK):
            yield piece, b""


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bytes]]:
    while True:
        line = await reader.readuntil(b"\r\n")
        left = int(line.split(b";")[0], 16)
        if left == 0:
            break
        while left:
            piece = await reader.read(min(CHUNK, left))
            if not piece:
                raise BrokenConnection
            left -= len(piece)
            yield piece, b""
        await reader.readexactly(2)
    end = b"0\r\n"
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        end += line
    yield b"", end + b"\r\n"


def frame(piece: bytes, raw: bytes, head: Head) -> bytes:
    if raw or "chunked" not in head.get("transfer-encoding").lower():
        return raw or piece
    return b"%x\r\n%b\r\n" % (len(piece), piece)
