"""Sends files to a bucket: unchanged ones are left, large ones go in parts, each is verified by the ETag of the store.

Reads the volume and never writes to it.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import obstore

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan, TransferReport
from datacube_flows.errors import TransferError
from datacube_flows.transfers.paths import LocalFile, list_files, resolve_source
from datacube_flows.transfers.s3_errors import WrongBytes
from datacube_flows.transfers.s3_integrity import PART_SIZE, EtagHash, expect_etag, hash_file, is_etag_of_parts
from datacube_flows.transfers.s3_loop import work_off
from datacube_flows.transfers.s3_objects import RemoteObject, check_bucket, head, list_objects
from datacube_flows.transfers.s3_parts import PartsUpload
from datacube_flows.transfers.s3_selection import CHECKSUM, HASHING_AT_ONCE, NONE, SIZE
from datacube_flows.transfers.s3_send import send_body

if TYPE_CHECKING:
    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.s3_client import S3Client

DISK_THREADS: Final = 4
QUICK_SIZE: Final = 1024 * 1024
"""Up to this size obstore sends a file, in one request that shows no progress."""

HEADS_RATHER_THAN_LIST: Final = 16
"""Up to so many files are looked up one by one: what else lies below the prefix may be a whole lake."""


@dataclass(frozen=True, slots=True)
class Send:
    """A file to send, and whether it replaces an object."""

    file: LocalFile
    key: str
    is_update: bool


@dataclass(frozen=True, slots=True)
class Sends:
    """What an upload would do."""

    sends: tuple[Send, ...]
    unchanged: int
    odd: int
    verified: str

    @property
    def size(self) -> int:
        """Bytes to send."""
        return sum(s.file.size for s in self.sends)

    def plan(self) -> ChangePlan:
        """The numbers for a dry run."""
        updates = sum(s.is_update for s in self.sends)
        return ChangePlan(len(self.sends) - updates, updates, 0, self.size)


async def upload(client: S3Client) -> TransferReport:
    """Sends the source's file or files below the target's uri and returns the report (SPEC section 3, S3 upload)."""
    attempt = client.attempt
    chosen = await choose(client)
    attempt.progress.expect(files=len(chosen.sends), size=chosen.size)
    with ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="disk") as pool:
        sender = Sender(client, pool)
        await work_off(chosen.sends, sender.send, concurrency=client.concurrency)
    return _report(attempt, client, chosen, sender)


async def plan_upload(client: S3Client) -> ChangePlan:
    """Returns what `upload` would do."""
    return (await choose(client)).plan()


def _report(attempt: Attempt, client: S3Client, chosen: Sends, sender: Sender) -> TransferReport:
    verified = CHECKSUM if chosen.verified == sender.verified == CHECKSUM else SIZE
    sent, skipped = len(chosen.sends), chosen.unchanged + chosen.odd
    return TransferReport(
        Reason.TRANSFER_COMPLETE if sent else Reason.UP_TO_DATE,
        f"{sent} files to {client.target.uri}, {chosen.unchanged} unchanged",
        listed=sent + skipped,
        files=sent,
        skipped=skipped,
        bytes=chosen.size,
        verified=NONE if attempt.settings.verify == NONE else verified,
        path=attempt.sub_path,
    )


async def choose(client: S3Client) -> Sends:
    """Lists the source, checks the bucket and compares with what it has.

    Raises:
        TransferError: NotFound for a missing source or bucket, SourceEmpty for a folder without files.
    """
    attempt = client.attempt
    source = resolve_source(attempt.folder, attempt.sub_path)
    listing = list_files(source, attempt.progress)
    if not listing.files:
        where = f"'{attempt.sub_path}'" if attempt.sub_path else "the volume"
        raise TransferError(Reason.SOURCE_EMPTY, f"there are no files in {where} to upload: check source.pvc.subPath")
    if attempt.option("s3-no-check-bucket") != "true":
        await check_bucket(client)
    keys = {f.name: client.target.uri.prefix + f.name for f in listing.files}
    _check_keys(keys.values())
    there = await _existing(client, list(keys.values()))
    return await _compare(listing.files, keys, there, listing.skipped, attempt.settings.verify)


def _check_keys(keys: Any) -> None:
    for key in keys:
        try:
            key.encode()
        except UnicodeEncodeError:
            raise TransferError(
                Reason.PATH_COLLISION, f"{key!r} is not UTF-8, which a key has to be: rename the file"
            ) from None


async def _existing(client: S3Client, keys: list[str]) -> dict[str, RemoteObject]:
    """What the bucket has under these keys; empty, with a notice, where these credentials may only write."""
    try:
        if len(keys) > HEADS_RATHER_THAN_LIST:
            wanted = set(keys)
            return {o.key: o async for o in list_objects(client, client.target.uri.prefix) if o.key in wanted}
        found = await asyncio.gather(*(head(client, key, name=key) for key in keys))
        return {o.key: o for o in found if o is not None}
    except TransferError as error:
        if error.reason is not Reason.ACCESS_DENIED or client.attempt.option("s3-no-check-bucket") != "true":
            raise
        client.attempt.progress.notice("the bucket may not be read with these keys: all files are sent")
        return {}


async def _compare(
    files: tuple[LocalFile, ...], keys: dict[str, str], there: dict[str, RemoteObject], odd: int, verify: str
) -> Sends:
    sends: list[Send] = []
    verified = [CHECKSUM]

    async def compare(file: LocalFile) -> None:
        remote = there.get(keys[file.name])
        how = await _same(file, remote, verify) if remote else None
        if how is None:
            sends.append(Send(file, keys[file.name], remote is not None))
        elif how != CHECKSUM:
            verified[0] = how

    await work_off(files, compare, concurrency=HASHING_AT_ONCE)
    sends.sort(key=lambda s: s.key)
    return Sends(tuple(sends), len(files) - len(sends), odd, verified[0])


async def _same(file: LocalFile, remote: RemoteObject, verify: str) -> str | None:
    """Returns how the object was found to be the file, None when it is not: by content, else by size and time."""
    if file.size != remote.size:
        return None
    if verify != CHECKSUM or not expect_etag(remote.etag, remote.size):
        return SIZE if remote.mtime >= file.mtime_ns / 1e9 else None
    return CHECKSUM if await asyncio.to_thread(_matches, file, remote) else None


def _matches(file: LocalFile, remote: RemoteObject) -> bool:
    descriptor = open_source(file)
    try:
        return any(hash_file(descriptor, e.make()) == e.value for e in expect_etag(remote.etag, remote.size))
    finally:
        os.close(descriptor)


def open_source(file: LocalFile) -> int:
    """Opens a listed file for reading, not through a link that has taken its place."""
    try:
        return os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise changed(file) from None


def changed(file: LocalFile) -> TransferError:
    """The error for a file that did not stay what it was when it was listed."""
    return TransferError(
        Reason.SOURCE_CHANGED, f"'{file.name}' was changed while it was uploaded: run again when it is at rest"
    )


@dataclass
class Sender:
    """Sends one file at a time; `verified` is `checksum` as long as the store confirmed every content."""

    client: S3Client
    pool: ThreadPoolExecutor
    verified: str = field(default=CHECKSUM)

    async def send(self, send: Send) -> None:
        """Sends the file and makes sure that the store has it."""
        descriptor = await self._in_thread(open_source, send.file)
        try:
            etag = await self._send_content(send, descriptor)
        finally:
            os.close(descriptor)
        if send.file.is_changed():
            raise changed(send.file)
        if not etag:
            await self._check_size(send)
        self.client.attempt.progress.finish_file()

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)

    async def _send_content(self, send: Send, descriptor: int) -> bool:
        """Returns whether the store's ETag confirmed the content."""
        if send.file.size > PART_SIZE:
            parts = PartsUpload(self.client, self.pool, send.key, descriptor, send.file.size)
            return await parts.run()
        taken = await self.client.budget.take(send.file.size)
        try:
            data = await self._in_thread(os.pread, descriptor, send.file.size, 0)
            if len(data) != send.file.size:
                raise changed(send.file)
            return await self._put(send.key, data)
        finally:
            self.client.budget.give(taken)

    async def _put(self, key: str, data: bytes) -> bool:
        digest = EtagHash()
        digest.update(data)
        wanted = digest.value()

        puts = iter((self._put_quickly,) if len(data) <= QUICK_SIZE and self.client.is_for_obstore(key) else ())

        async def once() -> bool:
            etag = await next(puts, self._put_carefully)(key, data)
            if etag.strip('"') == wanted:
                return True
            if not expect_etag(etag, len(data)) or is_etag_of_parts(etag) or await self._is_encrypted(key):
                return False
            self.client.attempt.progress.advance(-len(data))
            raise WrongBytes("the store confirmed another content than was sent: look at proxies and the network")

        return await self.client.call(f"'{key}' cannot be written", once)

    async def _put_quickly(self, key: str, data: bytes) -> str:
        progress = self.client.attempt.progress
        await self.client.throttle.pause(len(data), progress.alive)
        answer = await obstore.put_async(self.client.put_store, key, data, use_multipart=False)
        progress.advance(len(data))
        return answer["e_tag"] or ""

    async def _put_carefully(self, key: str, data: bytes) -> str:
        """Sees whether bytes leave, for how long a busy store wants to be left alone, and takes any key."""
        put = self.client.api.put_object
        answer = await send_body(self.client, put, data, Bucket=self.client.target.uri.bucket, Key=key)
        return str(answer.get("ETag", ""))

    async def _is_encrypted(self, key: str) -> bool:
        answer = await self.client.api.head_object(Bucket=self.client.target.uri.bucket, Key=key)
        return str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in answer

    async def _check_size(self, send: Send) -> None:
        """The ETag says nothing of the content: what the store holds has at least the right size."""
        self.verified = SIZE
        there = await head(self.client, send.key, name=send.file.name)
        if there is None or there.size != send.file.size:
            raise TransferError(
                Reason.INTEGRITY_MISMATCH, f"'{send.key}' is not in the store with its {send.file.size} bytes"
            )
