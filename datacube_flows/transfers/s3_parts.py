"""Sends one large file in parts, several at once, each tried again by itself and confirmed by its MD5.

Done with s3fs's client: obstore gives no id of an upload, without which neither can a part be sent again nor an upload
that was left behind be found.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.s3_errors import CLIENT_ERRORS, explain
from datacube_flows.transfers.s3_integrity import upload_part_size
from datacube_flows.transfers.s3_loop import work_off
from datacube_flows.transfers.s3_objects import head
from datacube_flows.transfers.s3_send import send_body

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from datacube_flows.transfers.s3_client import S3Client

PARTS_AT_ONCE = 4


@dataclass
class PartsUpload:
    """The upload of one file, from an open descriptor."""

    client: S3Client
    pool: ThreadPoolExecutor
    key: str
    descriptor: int
    size: int

    async def run(self) -> bool:
        """Sends all parts and joins them; returns whether the ETag confirmed the content. Leaves no half upload."""
        await self._abort_left_behind()
        self._where = {"Bucket": self.client.target.uri.bucket, "Key": self.key}
        begun = await self._call(lambda: self.client.api.create_multipart_upload(**self._where))
        self._where["UploadId"] = begun["UploadId"]
        self._digests: dict[int, bytes] = {}
        self._etags: dict[int, str] = {}
        part_size = upload_part_size(self.size)
        try:
            await work_off(
                enumerate(range(0, self.size, part_size), 1),
                lambda item: self._send_part(item[0], item[1], min(part_size, self.size - item[1])),
                concurrency=min(PARTS_AT_ONCE, self.client.concurrency),
            )
            return await self._complete()
        except BaseException:
            await asyncio.shield(self._abort(self._where))
            raise

    async def _call(self, operation: Any) -> Any:
        return await self.client.call(f"'{self.key}' cannot be written", operation)

    async def _send_part(self, number: int, start: int, size: int) -> None:
        taken = await self.client.budget.take(size)
        try:
            data, digest = await asyncio.get_running_loop().run_in_executor(self.pool, self._read, start, size)
            self._digests[number] = digest
            self._etags[number] = await self._call(lambda: self._send_once(number, data, digest))
        finally:
            self.client.budget.give(taken)

    def _read(self, start: int, size: int) -> tuple[bytes, bytes]:
        data = os.pread(self.descriptor, size, start)
        if len(data) != size:
            raise TransferError(Reason.SOURCE_CHANGED, f"'{self.key}' became shorter while it was uploaded")
        return data, hashlib.md5(data, usedforsecurity=False).digest()

    async def _send_once(self, number: int, data: bytes, digest: bytes) -> str:
        md5 = base64.b64encode(digest).decode()
        answer = await send_body(
            self.client, self.client.api.upload_part, data, **self._where, PartNumber=number, ContentMD5=md5
        )
        return str(answer["ETag"])

    async def _complete(self) -> bool:
        parts = [{"PartNumber": number, "ETag": self._etags[number]} for number in sorted(self._etags)]
        etag = await self._call(lambda: self._join(parts))
        if any(self._etags[n].strip('"') != digest.hex() for n, digest in self._digests.items()):
            return False  # encrypted: these ETags are none of the content; Content-MD5 went with each part
        if etag != self._wanted():
            raise TransferError(
                Reason.INTEGRITY_MISMATCH, f"the store joined '{self.key}' to another content than was sent"
            )
        return True

    async def _join(self, parts: list[dict[str, Any]]) -> str:
        try:
            answer = await self.client.api.complete_multipart_upload(**self._where, MultipartUpload={"Parts": parts})
        except ClientError as error:
            there = await head(self.client, self.key, name=self.key) if explain(error).code == "NoSuchUpload" else None
            if there is None or there.etag.strip('"') != self._wanted():
                raise
            return there.etag.strip('"')  # joined already: it was the answer that got lost
        return str(answer["ETag"]).strip('"')

    def _wanted(self) -> str:
        joined = b"".join(self._digests[number] for number in sorted(self._digests))
        return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(self._digests)}"

    async def _abort(self, where: dict[str, Any]) -> None:
        with suppress(*CLIENT_ERRORS):  # the failure that led here is what has to be told
            await self.client.api.abort_multipart_upload(**where)

    async def _abort_left_behind(self) -> None:
        """Ends uploads of this very key that a killed attempt began: nobody else's can become this file."""
        bucket = self.client.target.uri.bucket
        with suppress(*CLIENT_ERRORS):  # it may be forbidden to ask: then they are left to the bucket's own rules
            answer = await self.client.api.list_multipart_uploads(Bucket=bucket, Prefix=self.key)
            for left in answer.get("Uploads", ()):
                if left["Key"] == self.key:
                    await self._abort({"Bucket": bucket, "Key": self.key, "UploadId": left["UploadId"]})
