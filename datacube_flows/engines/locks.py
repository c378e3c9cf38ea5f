"""Keeps two transfers off one path of a volume on one machine: the later waits, by SPEC section 5 (`PathBusy`).

Each running transfer holds an flock on an entry of its own in one folder; an entry whose lock nobody holds is a dead
run's and is removed. The lock is inherited by the attempt, so it is held as long as anything of the run lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import WaitingError

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def _parts(path: str) -> list[str]:
    return [p for p in path.split("/") if p]


@contextmanager
def hold_path(folder: Path, use: PathUse) -> Iterator[int]:
    """Holds `use` while the context lasts; yields the descriptor that a child inherits.

    Raises:
        WaitingError: PathBusy, naming the transfer that is in the way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entry = folder / f"{uuid.uuid4().hex}.lock"
    with _exclusive(folder / "registry"):
        for other in _living(folder):
            if use.conflicts_with(other):
                at = f"{other.claim}:/{other.sub_path}"
                raise WaitingError(Reason.PATH_BUSY, f"waits for {other.cube}, which is using {at}")
        entry.write_text(json.dumps(asdict(use)))
        descriptor = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield descriptor
    finally:
        entry.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _living(folder: Path) -> list[PathUse]:
    """Entries whose run is alive; removes the others."""
    found = []
    for entry in sorted(folder.glob("*.lock")):
        descriptor = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append(PathUse(**json.loads(entry.read_text())))
        else:
            entry.unlink()
        finally:
            os.close(descriptor)
    return found
