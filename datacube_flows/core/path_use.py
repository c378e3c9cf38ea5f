"""Which path of which claim a transfer uses, and when two of them may not run at once (SPEC section 5, `PathBusy`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PathUse:
    """Who uses which path of which claim, and whether it writes there."""

    cube: str
    claim: str
    sub_path: str
    writes: bool

    def conflicts_with(self, other: PathUse) -> bool:
        """Whether both cannot run at once: same claim, one path at or below the other, and one of them writes."""
        if self.claim != other.claim or not (self.writes or other.writes):
            return False
        mine, others = _parts(self.sub_path), _parts(other.sub_path)
        shorter = min(len(mine), len(others))
        return mine[:shorter] == others[:shorter]

    def __str__(self) -> str:
        return f"{self.cube}, which is using {self.claim}:/{self.sub_path}"


def _parts(path: str) -> list[str]:
    return [p for p in path.split("/") if p]
