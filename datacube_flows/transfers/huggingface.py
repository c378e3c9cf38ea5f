"""The Hugging Face store: downloads and uploads of models, datasets and spaces. The work is in the `hf_*` modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datacube_flows.transfers import hf_download, hf_tool, hf_upload

if TYPE_CHECKING:
    from datacube_flows.api.report import ChangePlan, TransferReport
    from datacube_flows.transfers.base import Attempt


class HuggingFaceTransfer:
    """Moves files between a volume and a repository on a hub (SPEC section 3)."""

    def download(self, attempt: Attempt) -> TransferReport:
        """Brings the repository, or the files that are named, into the folder."""
        return hf_tool.download(attempt) if attempt.extra_args else hf_download.download(attempt)

    def upload(self, attempt: Attempt) -> TransferReport:
        """Commits the file or folder to the repository."""
        return hf_tool.upload(attempt) if attempt.extra_args else hf_upload.upload(attempt)

    def plan(self, attempt: Attempt) -> ChangePlan:
        """Says what would change."""
        return hf_upload.plan(attempt) if attempt.kind.is_upload else hf_download.plan(attempt)
