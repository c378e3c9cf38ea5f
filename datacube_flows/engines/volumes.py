"""Claims as folders below one folder: what a cluster's volumes are on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datacube_flows.transfers.paths import make_folder

if TYPE_CHECKING:
    from datacube_flows.core.plan import TransferPlan

LOCK_FOLDER = ".datacube-locks"


@dataclass(frozen=True, slots=True)
class LocalVolumes:
    """The folder that holds one folder a claim."""

    root: Path

    def has_claim(self, name: str) -> bool:
        """Whether there is a folder for the claim."""
        return self.claim_folder(name).is_dir()

    def make_claim(self, claim: dict[str, Any]) -> None:
        """Makes the folder of a claim; size and class of the claim mean nothing here."""
        self.claim_folder(claim["metadata"]["name"]).mkdir(parents=True, exist_ok=True)

    def claim_folder(self, name: str) -> Path:
        """Path of the claim's folder."""
        return self.root / name

    def mount(self, plan: TransferPlan) -> Path:
        """Returns the folder that the attempt is given, as kubelet would mount it.

        An upload gets the whole claim. A download gets its `subPath`, made when missing; no symbolic link is followed
        on the way. A dry run makes nothing.

        Raises:
            TransferError: PathCollision where a file or a link is in the way.
        """
        claim = self.claim_folder(plan.claim.name)
        if plan.kind.is_upload or plan.dry_run:
            return claim if plan.kind.is_upload else claim / plan.claim.sub_path
        return make_folder(claim, plan.claim.sub_path)

    @property
    def locks(self) -> Path:
        """Where running transfers say which paths they use."""
        return self.root / LOCK_FOLDER
