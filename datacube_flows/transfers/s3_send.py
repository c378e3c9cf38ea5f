"""Sends one body with s3fs's client, counted as it leaves and broken off when it stalls.

The read timeouts of both clients begin with the request, so they would end a slow upload that is well alive.
"""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

from datacube_flows.transfers.s3_errors import StalledRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from botocore.awsrequest import AWSPreparedRequest

    from datacube_flows.transfers.progress import Progress
    from datacube_flows.transfers.s3_client import S3Client

STALL_SECONDS = 45.0


class CountedBody(io.BytesIO):
    """Bytes of a request that are counted as they leave; what is read before, for the signature, is not."""

    def __init__(self, data: bytes, progress: Progress) -> None:
        super().__init__(data)
        self._progress = progress
        self._is_leaving = False
        self.left = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Gives the next bytes to the connection."""
        data = super().read(size)
        if self._is_leaving:
            self.left += len(data)
            self._progress.advance(len(data))
        return data

    def leave(self) -> None:
        """From now on bytes are counted."""
        self._is_leaving = True

    def take_back(self) -> None:
        """Takes back the count: they have to leave again."""
        self._progress.advance(-self.left)
        self.left = 0


def count_bodies(api: Any) -> None:
    """Has the client tell each body when its request is signed and about to be sent."""
    api.meta.events.register("before-send.s3", _on_send)


def _on_send(request: AWSPreparedRequest, **_more: Any) -> None:
    if isinstance(request.body, CountedBody):
        request.body.leave()


async def send_body(client: S3Client, operation: Callable[..., Awaitable[Any]], data: bytes, **parameters: Any) -> Any:
    """Returns the answer to an operation that sends `data` (PutObject, UploadPart).

    Raises:
        StalledRequest: nothing left, or the answer did not come, for `STALL_SECONDS`.
    """
    await client.throttle.pause(len(data), client.attempt.progress.alive)
    with CountedBody(data, client.attempt.progress) as body:
        try:
            return await _unless_stalled(operation(Body=body, **parameters), lambda: body.left)
        except BaseException:
            body.take_back()
            raise


async def _unless_stalled(operation: Awaitable[Any], moved: Callable[[], int]) -> Any:
    task = asyncio.ensure_future(operation)
    before = -1
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=STALL_SECONDS)
            if done:
                return task.result()
            if moved() == before:
                raise StalledRequest
            before = moved()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
