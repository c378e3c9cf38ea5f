"""What content must hash to, as far as a store says it: MD5 or MD5 of parts in an ETag, or the object's own checksum.

Pure computing; asks no store.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIB: Final = 1024 * 1024
MAX_PARTS: Final = 10_000
PART_SIZE: Final = 8 * MIB
"""Smallest part that an upload of ours has; objects up to this size travel whole."""

READ_SIZE: Final = 1 * MIB
_ETAG = re.compile(r'"?([0-9a-f]{32})(?:-(\d{1,5}))?"?')
_COMMON_PART_SIZES: Final = tuple(
    n * MIB for n in (8, 5, 16, 64, 50, 32, 10, 100, 128, 25, 20, 15, 200, 250, 256, 500, 512, 1024)
)


class Hasher(Protocol):
    """Takes content in order and says what it hashes to."""

    def update(self, data: bytes | bytearray, /) -> None:
        """Takes the next bytes."""

    def value(self) -> str:
        """What the content so far hashes to, as the store writes it."""


class EtagHash:
    """The ETag that S3 gives content: its MD5, or of an upload in parts the MD5 of their MD5s and their number."""

    def __init__(self, part_size: int | None = None) -> None:
        self._part_size, self._filled = part_size, 0
        self._md5, self._parts = _md5(), bytearray()

    def update(self, data: bytes | bytearray, /) -> None:
        """Takes the next bytes."""
        if self._part_size is None:
            self._md5.update(data)
            return
        view = memoryview(data)
        while view:
            piece = view[: self._part_size - self._filled]
            self._md5.update(piece)
            self._filled += len(piece)
            view = view[len(piece) :]
            if self._filled == self._part_size:
                self._end_part()

    def _end_part(self) -> None:
        self._parts += self._md5.digest()
        self._md5, self._filled = _md5(), 0

    def value(self) -> str:
        """The ETag without its quotes."""
        if self._part_size is None:
            return str(self._md5.hexdigest())
        parts = bytes(self._parts) + (self._md5.digest() if self._filled else b"")
        return f"{_md5(parts).hexdigest()}-{len(parts) // 16}"


class ChecksumHash:
    """A checksum that S3 keeps beside an object, in base64."""

    def __init__(self, algorithm: str) -> None:
        self._crc = 0
        self._hash = None if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)

    def update(self, data: bytes | bytearray, /) -> None:
        """Takes the next bytes."""
        if self._hash is None:
            self._crc = zlib.crc32(data, self._crc)
        else:
            self._hash.update(data)

    def value(self) -> str:
        """The checksum in base64."""
        raw = self._crc.to_bytes(4, "big") if self._hash is None else self._hash.digest()
        return base64.b64encode(raw).decode()


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the content must hash to, and a maker of the hasher for it."""

    value: str
    make: Callable[[], Hasher]


def _md5(data: bytes = b"") -> Any:
    return hashlib.md5(data, usedforsecurity=False)


def is_etag_of_parts(etag: str) -> bool:
    """Whether the object was uploaded in parts."""
    match = _ETAG.fullmatch(etag)
    return bool(match and match[2])


def expect_etag(etag: str, size: int, *, part_size: int | None = None) -> tuple[Expectation, ...]:
    """Returns what content with this ETag may have to hash to: one way, or one per size that its parts may have had.

    Empty when the ETag says nothing about content (encrypted objects, other services).

    Args:
        etag: as the store writes it.
        size: of the object.
        part_size: size of its first part where it is known.
    """
    match = _ETAG.fullmatch(etag)
    if match is None:
        return ()
    if match[2] is None:
        return (Expectation(match[1], EtagHash),)
    sizes = candidate_part_sizes(size, int(match[2]), known=part_size)
    value = f"{match[1]}-{int(match[2])}"
    return tuple(Expectation(value, lambda p=p: EtagHash(p)) for p in sizes)  # type: ignore[misc]


def candidate_part_sizes(size: int, parts: int, *, known: int | None = None) -> tuple[int, ...]:
    """Returns the part sizes with which an upload of `size` bytes has that many parts, likeliest first.

    A known size that fits is the only one. Otherwise those that common tools use, and the evenly divided one rounded up
    to whole MiB, as tools do when there would be more than 10,000 parts.
    """
    if not parts or not size:
        return ()
    even = -(-size // parts)
    sizes = (known,) if known else (*_COMMON_PART_SIZES, math.ceil(even / MIB) * MIB, even)
    return tuple(dict.fromkeys(p for p in sizes if p and -(-size // p) == parts))


def expect_checksum(answer: Mapping[str, Any]) -> Expectation | None:
    """Returns what HEAD's checksum says of the whole object, None where it says nothing that can be computed here."""
    if answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    for name, algorithm in (("ChecksumSHA256", "sha256"), ("ChecksumSHA1", "sha1"), ("ChecksumCRC32", "crc32")):
        value = answer.get(name, "")
        if value and "-" not in value:
            return Expectation(value, lambda a=algorithm: ChecksumHash(a))  # type: ignore[misc]
    return None


def upload_part_size(size: int) -> int:
    """Returns the size of the parts that a file of `size` bytes is sent in: 8 MiB, more where 10,000 do not suffice."""
    return max(PART_SIZE, math.ceil(size / MAX_PARTS / MIB) * MIB)


def hash_file(descriptor: int, hasher: Hasher) -> str:
    """Feeds an open file to the hasher from its beginning and returns the value."""
    offset = 0
    while data := os.pread(descriptor, READ_SIZE, offset):
        hasher.update(data)
        offset += len(data)
    return hasher.value()
