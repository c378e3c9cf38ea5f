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
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.core.path_use import PathUse
from datacube_flows.errors import WaitingError

if TYPE_CHECKING:
    from collections.abc import Iterator


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
                raise WaitingError(Reason.PATH_BUSY, f"waits for {other}")
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
