"""The S3 transfer: which of its parts does the work. Each part is in a file of its own, `s3_*.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from datacube_flows.transfers.s3_client import S3Client, open_client
from datacube_flows.transfers.s3_download import download, plan_download
from datacube_flows.transfers.s3_loop import run_to_end
from datacube_flows.transfers.s3_rclone import download_with_rclone, upload_with_rclone
from datacube_flows.transfers.s3_target import S3Target
from datacube_flows.transfers.s3_upload import plan_upload, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from datacube_flows.api.report import ChangePlan, TransferReport
    from datacube_flows.transfers.base import Attempt

T = TypeVar("T")


class S3Transfer:
    """Moves between a bucket and a folder (SPEC section 3)."""

    def download(self, attempt: Attempt) -> TransferReport:
        """Brings `attempt.folder` to what `s3-uri` means; with `sync` also deletes what the source lacks."""
        return _with_client(attempt, download_with_rclone if attempt.extra_args else download)

    def upload(self, attempt: Attempt) -> TransferReport:
        """Puts the source's file or files below `s3-uri`."""
        return _with_client(attempt, upload_with_rclone if attempt.extra_args else upload)

    def plan(self, attempt: Attempt) -> ChangePlan:
        """Says what would be added, updated and deleted."""
        return _with_client(attempt, plan_upload if attempt.kind.is_upload else plan_download)


def _with_client(attempt: Attempt, work: Callable[[S3Client], Coroutine[Any, Any, T]]) -> T:
    target = S3Target.of(attempt)

    async def main() -> T:
        async with open_client(attempt, target) as client:
            return await work(client)

    return run_to_end(main)
