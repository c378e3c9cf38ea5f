"""Fetches the selected objects: many at once, large ones in ranges, in bounded memory, verified before they are placed.

Files grow in the work folder. A batch of finished ones is made durable by one sync and then renamed into place.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan, TransferReport
from datacube_flows.errors import TransferError
from datacube_flows.transfers.paths import WorkFolder, make_folder, sync_volume
from datacube_flows.transfers.s3_integrity import (
    MIB,
    Expectation,
    Hasher,
    expect_checksum,
    expect_etag,
    hash_file,
    is_etag_of_parts,
)
from datacube_flows.transfers.s3_loop import work_off
from datacube_flows.transfers.s3_objects import RemoteObject, RemoteTree, find_source, head_answer
from datacube_flows.transfers.s3_selection import CHECKSUM, NONE, SIZE, Move, Selection, check_space, select
from datacube_flows.transfers.s3_sync import delete_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from datacube_flows.transfers.s3_client import S3Client

RANGE_SIZE: Final = 8 * MIB
RANGES_AHEAD: Final = 8
DISK_THREADS: Final = 4
BATCH_FILES: Final = 500
BATCH_BYTES: Final = 64 * MIB
SYNCED_ALONE: Final = 32
VERIFY_TRIES: Final = 3


async def download(client: S3Client) -> TransferReport:
    """Brings the folder to what the target's uri means and returns the report (SPEC section 3, S3 download)."""
    attempt = client.attempt
    tree = await find_source(client, sync=attempt.settings.sync)
    selection = await select(attempt.folder, tree, attempt.settings)
    check_space(attempt.folder, selection.moves)
    attempt.progress.expect(files=len(selection.moves), size=selection.size)
    with WorkFolder(attempt.folder) as work:
        fetched = await fetch(client, work, selection.moves)
    deleted = _finish_folders(client, tree, selection)
    return _report(client, tree, selection, fetched, deleted)


async def plan_download(client: S3Client) -> ChangePlan:
    """Returns what `download` would do."""
    settings = client.attempt.settings
    tree = await find_source(client, sync=settings.sync)
    return (await select(client.attempt.folder, tree, settings)).plan()


def _finish_folders(client: S3Client, tree: RemoteTree, selection: Selection) -> int:
    """Makes the folders that stand for themselves in the store and, in a sync, deletes what it lacks."""
    folder, settings = client.attempt.folder, client.attempt.settings
    for name in tree.folders:
        if name:
            make_folder(folder, name)
    if not settings.sync:
        return 0
    if tree.is_single:
        client.attempt.progress.notice(
            "sync of a single object deletes nothing: it takes a prefix to say what is too much"
        )
        return 0
    return delete_files(folder, selection.doomed, kept_folders=tree.folders)


def _report(client: S3Client, tree: RemoteTree, selection: Selection, fetched: Fetched, deleted: int) -> TransferReport:
    attempt, moves = client.attempt, selection.moves
    is_new = bool(moves or deleted)
    verified = {CHECKSUM: fetched.verified if moves else CHECKSUM}.get(selection.verified, selection.verified)
    name = tree.objects[0].name if tree.is_single else ""
    return TransferReport(
        Reason.TRANSFER_COMPLETE if is_new else Reason.UP_TO_DATE,
        f"{len(moves)} files from {client.target.uri}, {selection.unchanged} unchanged, {deleted} deleted",
        listed=len(tree.objects),
        files=len(moves),
        skipped=selection.unchanged,
        deleted=deleted,
        bytes=selection.size,
        verified=NONE if attempt.settings.verify == NONE else verified,
        path="/".join(part for part in (attempt.sub_path, name) if part),
    )


@dataclass
class Fetched:
    """How the fetched files were verified: `checksum` only when all of them were."""

    verified: str = CHECKSUM


async def fetch(client: S3Client, work: WorkFolder, moves: tuple[Move, ...]) -> Fetched:
    """Fetches all objects into their places; returns when all are there, verified and durable."""
    fetched = Fetched()
    with ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="disk") as pool:
        batch = Batch(client, work, pool)
        fetcher = Fetcher(client, work, pool, batch, fetched)
        await work_off(enumerate(moves), fetcher.fetch, concurrency=client.concurrency)
        await batch.place()
    return fetched


class Batch:
    """Finished files that wait for their common sync."""

    def __init__(self, client: S3Client, work: WorkFolder, pool: ThreadPoolExecutor) -> None:
        self._client, self._work, self._pool = client, work, pool
        self._parts: list[tuple[Path, RemoteObject]] = []
        self._size = 0

    async def add(self, part: Path, remote: RemoteObject) -> None:
        """Adds a file whose content is right; places the batch when it is full."""
        self._parts.append((part, remote))
        self._size += remote.size
        self._client.attempt.progress.finish_file()
        if len(self._parts) >= BATCH_FILES or self._size >= BATCH_BYTES:
            await self.place()

    async def place(self) -> None:
        """Puts the files of the batch into their places."""
        parts, self._parts, self._size = self._parts, [], 0
        if not parts:
            return
        await asyncio.get_running_loop().run_in_executor(self._pool, self._place, parts)

    def _place(self, parts: list[tuple[Path, RemoteObject]]) -> None:
        """One sync of the file system is quickest for many files; for a few it would wait for what others wrote."""
        for part, remote in parts:
            os.utime(part, (remote.mtime, remote.mtime))
        if len(parts) > SYNCED_ALONE:
            sync_volume(self._work.path)
        put = self._work.move if len(parts) > SYNCED_ALONE else self._work.place
        for part, remote in parts:
            put(part, remote.name)


@dataclass
class Fetcher:
    """Fetches one object at a time into a part of its own."""

    client: S3Client
    work: WorkFolder
    pool: ThreadPoolExecutor
    batch: Batch
    fetched: Fetched

    async def fetch(self, numbered: tuple[int, Move]) -> None:
        """Fetches, verifies and hands the file on to the batch."""
        number, move = numbered
        part, remote = self.work.part(number), move.remote
        how = await self._verified(remote, part)
        if how != CHECKSUM:
            self.fetched.verified = how
        await self.batch.add(part, remote)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)

    async def _verified(self, remote: RemoteObject, part: Path) -> str:
        """Fetches until the content is what the ETag or checksum says; returns how that was found."""
        expected = await self._expectation(remote)
        seen: set[str] = set()
        for _ in range(VERIFY_TRIES):
            hasher = expected.make() if expected else None
            await self._fetch_content(remote, part, hasher)
            if expected is None or hasher is None:
                return SIZE
            found = hasher.value()
            if found == expected.value:
                return CHECKSUM
            if found in seen and (how := await self._judge_otherwise(remote, part)):
                return how
            seen.add(found)
            self.client.attempt.progress.advance(-remote.size)
        raise TransferError(
            Reason.INTEGRITY_MISMATCH,
            f"'{remote.key}' arrived {VERIFY_TRIES} times with a content that is not its ETag's: look at proxies and at"
            " the store; where its ETags are no MD5, set executor.options.verify to size",
        )

    async def _expectation(self, remote: RemoteObject) -> Expectation | None:
        if self.client.attempt.settings.verify != CHECKSUM:
            return None
        if not is_etag_of_parts(remote.etag) and (plain := expect_etag(remote.etag, remote.size)):
            return plain[0]
        answer = await head_answer(self.client, remote.key, PartNumber=1, ChecksumMode="ENABLED") or {}
        first = answer.get("ContentLength")
        ways = expect_etag(remote.etag, remote.size, part_size=first) or expect_etag(remote.etag, remote.size)
        return ways[0] if ways else expect_checksum(answer)

    async def _judge_otherwise(self, remote: RemoteObject, part: Path) -> str | None:
        """The same other content came twice: is the ETag perhaps none of content? Says how it was verified then.

        That is so for objects encrypted with a key of the customer or of KMS, and for parts of unequal sizes.
        """
        answer = await head_answer(self.client, remote.key, ChecksumMode="ENABLED") or {}
        encrypted = (
            str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in answer
        )
        if not encrypted and not is_etag_of_parts(remote.etag):
            return None
        if checksum := expect_checksum(answer):
            return CHECKSUM if await self._in_thread(_hash_path, part, checksum) == checksum.value else None
        return SIZE

    async def _fetch_content(self, remote: RemoteObject, part: Path, hasher: Hasher | None) -> None:
        if remote.size > RANGE_SIZE:
            await self._fetch_ranges(remote, part, hasher)
            return
        taken = await self.client.budget.take(remote.size)
        try:
            data = await self._read(remote, 0, remote.size) if remote.size else b""
            await self._in_thread(_write_whole, part, data, hasher)
        finally:
            self.client.budget.give(taken)

    async def _read(self, remote: RemoteObject, start: int, end: int) -> bytes | bytearray:
        return await self.client.read(remote.key, remote.etag, start, end, size=remote.size)

    async def _fetch_ranges(self, remote: RemoteObject, part: Path, hasher: Hasher | None) -> None:
        """Keeps some ranges on their way, and writes and hashes them in order, so that nothing is read twice."""
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        ahead: deque[_Range] = deque()
        try:
            for start in range(0, remote.size, RANGE_SIZE):
                end = min(start + RANGE_SIZE, remote.size)
                await self._make_room(end - start, ahead, descriptor, hasher)
                ahead.append(_Range(start, end, asyncio.create_task(self._read(remote, start, end))))
            while ahead:
                await self._store_first(ahead, descriptor, hasher)
        finally:
            await _abandon(ahead)
            os.close(descriptor)

    async def _make_room(self, size: int, ahead: deque[_Range], descriptor: int, hasher: Hasher | None) -> None:
        """Returns when memory for `size` more bytes is taken; waits for others' only when this file holds none."""
        while ahead:
            if len(ahead) < RANGES_AHEAD and self.client.budget.take_now(size):
                return
            await self._store_first(ahead, descriptor, hasher)
        await self.client.budget.take(size)

    async def _store_first(self, ahead: deque[_Range], descriptor: int, hasher: Hasher | None) -> None:
        data = await ahead[0].task
        first = ahead.popleft()
        await self._in_thread(_write_at, descriptor, data, first.start, hasher)
        self.client.budget.give(first.end - first.start)


@dataclass(frozen=True)
class _Range:
    start: int
    end: int
    task: asyncio.Task[bytes | bytearray]


async def _abandon(ahead: deque[_Range]) -> None:
    for one in ahead:
        one.task.cancel()
    await asyncio.gather(*(one.task for one in ahead), return_exceptions=True)


def _write_whole(part: Path, data: bytes | bytearray, hasher: Hasher | None) -> None:
    part.write_bytes(data)
    if hasher is not None:
        hasher.update(data)


def _write_at(descriptor: int, data: bytes | bytearray, offset: int, hasher: Hasher | None) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
    if hasher is not None:
        hasher.update(data)


def _hash_path(part: Path, expected: Expectation) -> str:
    descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return hash_file(descriptor, expected.make())
    finally:
        os.close(descriptor)
