"""Compares the store with the folder: what a download adds, updates and leaves and, in a sync, deletes.

Reads the volume without following links; changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan
from datacube_flows.errors import TransferError
from datacube_flows.transfers.base import NEVER_MOVED
from datacube_flows.transfers.failures import free_bytes
from datacube_flows.transfers.paths import check_names
from datacube_flows.transfers.s3_integrity import expect_etag, hash_file, is_etag_of_parts
from datacube_flows.transfers.s3_loop import work_off

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from datacube_flows.transfers.base import Settings
    from datacube_flows.transfers.s3_integrity import Expectation
    from datacube_flows.transfers.s3_objects import RemoteObject, RemoteTree

HASHING_AT_ONCE = 2
CHECKSUM, SIZE, NONE = "checksum", "size", "none"


@dataclass(frozen=True, slots=True)
class Move:
    """An object to fetch; `replaced` is the size of the file that it replaces, None when it is new."""

    remote: RemoteObject
    replaced: int | None


@dataclass(frozen=True, slots=True)
class Selection:
    """What a download would do.

    Attributes:
        moves: objects to fetch.
        unchanged: files that are there already and are right.
        verified: how the unchanged ones were compared: `checksum` when all of them were by content.
        doomed: names of files that a sync deletes.
    """

    moves: tuple[Move, ...]
    unchanged: int
    verified: str
    doomed: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(m.remote.size for m in self.moves)

    def plan(self) -> ChangePlan:
        """The numbers for a dry run."""
        updates = sum(m.replaced is not None for m in self.moves)
        return ChangePlan(len(self.moves) - updates, updates, len(self.doomed), self.size)


class LocalTree:
    """Looks up names below a folder without following links, remembering the folders on the way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._there: dict[str, bool] = {"": True}

    def find(self, name: str) -> os.stat_result | None:
        """Returns what is at `name`, None when nothing is.

        Raises:
            TransferError: PathCollision where a folder is there, or a file or link where a folder is needed.
        """
        parent = name.rpartition("/")[0]
        if not self._is_folder(parent):
            return None
        found = self._look(name)
        if found and stat.S_ISDIR(found.st_mode):
            raise TransferError(Reason.PATH_COLLISION, f"'{name}' is a folder on the volume: move it away")
        return found

    def _is_folder(self, name: str) -> bool:
        if name not in self._there:
            self._there[name] = self._is_folder(name.rpartition("/")[0]) and self._check_folder(name)
        return self._there[name]

    def _check_folder(self, name: str) -> bool:
        found = self._look(name)
        if found and not stat.S_ISDIR(found.st_mode):
            message = f"'{name}' on the volume is a file or a symbolic link where a folder is needed: move it away"
            raise TransferError(Reason.PATH_COLLISION, message)
        return found is not None

    def _look(self, name: str) -> os.stat_result | None:
        try:
            return os.lstat(self._folder / name)
        except FileNotFoundError:
            return None


async def select(folder: Path, tree: RemoteTree, settings: Settings) -> Selection:
    """Compares the store's objects with the folder and returns what is to be done.

    A file is unchanged when its size is the object's and its content hashes to the ETag; where the ETag does not tell
    (or `verify` asks for no checksum), when its time is the object's, which a download sets.

    `sync` of a single object deletes nothing: it says nothing about the files beside it (rclone does the same).

    Raises:
        TransferError: PathCollision for names that cannot be files there; TooManyDeletes beyond `max_delete`.
    """
    check_names(o.name for o in tree.objects)
    check_names(tree.folders and [f"{f}/x" for f in tree.folders if f])
    local = LocalTree(folder)
    moves: list[Move] = []
    verified = [CHECKSUM]

    async def compare(remote: RemoteObject) -> None:
        found = local.find(remote.name)
        if found is None:
            moves.append(Move(remote, None))
            return
        how = await _same(folder / remote.name, found, remote, settings)
        if how is None:
            moves.append(Move(remote, found.st_size))
        elif how != CHECKSUM:
            verified[0] = how

    await work_off(tree.objects, compare, concurrency=HASHING_AT_ONCE)
    doomed = tuple(_doomed(folder, tree)) if settings.sync and not tree.is_single else ()
    _check_deletes(doomed, settings.max_delete)
    moves.sort(key=lambda m: m.remote.key)
    return Selection(tuple(moves), len(tree.objects) - len(moves), verified[0], doomed)


async def _same(path: Path, found: os.stat_result, remote: RemoteObject, settings: Settings) -> str | None:
    """Returns how the file was found to be the object, None when it is not."""
    if not stat.S_ISREG(found.st_mode) or found.st_size != remote.size:
        return None
    expected = expect_etag(remote.etag, remote.size) if settings.verify == CHECKSUM else ()
    if expected and remote.size and await asyncio.to_thread(_matches, path, expected):
        return CHECKSUM
    if not remote.size:
        return CHECKSUM
    is_plain = len(expected) == 1 and "-" not in expected[0].value
    return None if is_plain or int(found.st_mtime) != int(remote.mtime) else SIZE


def _matches(path: Path, expected: tuple[Expectation, ...]) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return any(hash_file(descriptor, e.make()) == e.value for e in expected)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of files that another program was to fetch: those not there, and how the others were verified."""

    lacking: set[str]
    verified: str


async def verify_placed(folder: Path, remotes: list[RemoteObject], settings: Settings) -> Placed:
    """Compares files with the objects that they were fetched from.

    Raises:
        TransferError: IntegrityMismatch where a file has another size or content than its object.
    """
    local, lacking, verified = LocalTree(folder), set(), [CHECKSUM]

    async def verify(remote: RemoteObject) -> None:
        found = local.find(remote.name)
        if found is None:
            lacking.add(remote.name)
            return
        expected = expect_etag(remote.etag, remote.size) if settings.verify == CHECKSUM else ()
        right = found.st_size == remote.size and stat.S_ISREG(found.st_mode)
        if right and expected:
            right = await asyncio.to_thread(_matches, folder / remote.name, expected)
        if not right and not (expected and is_etag_of_parts(remote.etag) and found.st_size == remote.size):
            raise TransferError(
                Reason.INTEGRITY_MISMATCH, f"'{remote.name}' is not what the store holds: run again, or remove it"
            )
        if not right or not expected:
            verified[0] = SIZE

    await work_off(remotes, verify, concurrency=HASHING_AT_ONCE)
    return Placed(lacking, verified[0])


def _doomed(folder: Path, tree: RemoteTree) -> Iterator[str]:
    """Names of regular files below the folder that the source lacks.

    Links and special files are never deleted: a bucket cannot hold one, so its absence there says nothing about them.
    """
    kept = {o.name for o in tree.objects}
    yield from (name for name in walk_files(folder) if name not in kept)


def walk_files(folder: Path, prefix: str = "") -> Iterator[str]:
    """Yields the names of all regular files, except in what is never moved; enters no linked folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if name in NEVER_MOVED:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from walk_files(folder / entry.name, name + "/")
            elif entry.is_file(follow_symlinks=False):
                yield name


def _check_deletes(doomed: tuple[str, ...], limit: int | None) -> None:
    if limit is not None and len(doomed) > limit:
        raise TransferError(
            Reason.TOO_MANY_DELETES,
            f"the sync would delete {len(doomed)} files, maxDelete allows {limit}: nothing was moved or deleted;"
            f" the first would be '{min(doomed)}'. Check option 's3-uri' and subPath, or raise maxDelete",
        )


def check_space(folder: Path, moves: tuple[Move, ...], free: Callable[[Path], int] = free_bytes) -> None:
    """Makes sure that the volume has room for all moves; a file that is replaced stays until its successor is whole.

    Raises:
        TransferError: DiskFull, saying how much is needed and how much is free.
    """
    growth = sum(m.remote.size - (m.replaced or 0) for m in moves)
    beside = max((m.remote.size for m in moves if m.replaced is not None), default=0)
    needed, there = growth + beside, free(folder)
    if needed > there:
        raise TransferError(
            Reason.DISK_FULL,
            f"the download needs {needed} bytes, the volume has {there} free: free space or use a larger claim",
        )
