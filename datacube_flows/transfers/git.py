"""The Git store: see `git_download.py` and `git_upload.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datacube_flows.transfers import git_download, git_upload

if TYPE_CHECKING:
    from datacube_flows.api.report import ChangePlan, TransferReport
    from datacube_flows.transfers.base import Attempt


class GitTransfer:
    """Moves repositories with git and git-lfs."""

    def download(self, attempt: Attempt) -> TransferReport:
        """Clones or updates `<folder>/<repository>` and switches it to option `ref`."""
        return git_download.download(attempt)

    def upload(self, attempt: Attempt) -> TransferReport:
        """Pushes the current branch of `<subPath>/<repository>`."""
        return git_upload.upload(attempt)

    def plan(self, attempt: Attempt) -> ChangePlan:
        """Says what would change at the sink."""
        return git_upload.plan_upload(attempt) if attempt.kind.is_upload else git_download.plan_download(attempt)
