"""Reads the progress that git and git-lfs print and counts it as bytes. Knows nothing of transfers."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from datacube_flows.transfers.polling import polled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from datacube_flows.transfers.progress import Progress

_STEP = re.compile(r"^(?:remote: )?([A-Z][A-Za-z ]+): +\d+% \((\d+)/(\d+)\)(?:, ([\d.]+) (bytes|[KMG]iB))?")
_UNITS: Final = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MOVING: Final = frozenset({"Receiving objects", "Writing objects"})
_LFS_LINE = re.compile(r"^(?:download|upload) \d+/\d+ (\d+)/(\d+) (.+)$")
_POLL_SECONDS = 0.2


class GitProgress:
    """Turns the progress lines of one command into counters; a line that says nothing new is no sign of life."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._seen: tuple[str, ...] = ()
        self._bytes = 0

    def read(self, line: str) -> None:
        """Counts one line of git's stderr."""
        step = _STEP.match(line)
        if step is None or step.groups()[:4] == self._seen:
            return
        self._seen = step.groups("")[:4]
        if step[1] in _MOVING and step[4]:
            self._count(int(float(step[4]) * _UNITS[step[5]]))
        else:
            self._progress.alive()

    def finish(self) -> None:
        """Makes what one command moved part of the total, which git does not know beforehand."""
        self._progress.expect(files=0, size=self._bytes)

    def _count(self, size: int) -> None:
        self._progress.advance(size - self._bytes)
        self._bytes = size


class LfsProgress:
    """Follows the file that git-lfs writes for `GIT_LFS_PROGRESS`: `download 1/3 1024/4096 name`.

    `announced` bytes are part of the total already; what comes on top is added when git-lfs begins with a file.
    """

    def __init__(self, path: Path, progress: Progress, announced: int = 0) -> None:
        self._path, self._progress, self._announced = path, progress, announced
        self._done: dict[str, int] = {}
        self._position = 0

    def read(self) -> None:
        """Counts what was written since the last look."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._position)
                text = stream.read()
        except FileNotFoundError:
            return
        complete = text[: text.rfind(b"\n") + 1]
        self._position += len(complete)
        for line in complete.decode("utf-8", "replace").splitlines():
            self._count(line)

    def _count(self, line: str) -> None:
        match = _LFS_LINE.match(line)
        if match is None:
            return
        done, total, name = int(match[1]), int(match[2]), match[3]
        if name not in self._done:
            known = min(total, self._announced)
            self._announced -= known
            self._progress.expect(files=0, size=total - known)
        if difference := done - self._done.get(name, 0):
            self._progress.advance(difference)
        self._done[name] = done


@contextmanager
def lfs_progress(path: Path, progress: Progress, *, announced: int) -> Iterator[None]:
    """Counts what git-lfs does while the block runs; `announced` bytes of it are added to the total at once."""
    progress.expect(files=0, size=announced)
    follower = LfsProgress(path, progress, announced)
    try:
        with polled(follower.read, seconds=_POLL_SECONDS):
            yield
    finally:
        follower.read()
        path.unlink(missing_ok=True)
