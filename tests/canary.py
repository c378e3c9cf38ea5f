"""Looks for planted secrets where none may ever be: files, texts, and the argv of every process of this machine.

Every credential in the tests contains `CANARY`, so one search finds a leak of any of them, also in its encoded forms.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from datacube_flows.transfers.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "dcSECRETcanary"
SAMPLE_SECONDS = 0.05
_FIND = Redactor([CANARY])


def has_canary(text: str) -> bool:
    """Whether the canary stands in the text, raw, URL-encoded or in base64."""
    return _FIND.finds(text)


def find_canary(*roots: Path) -> list[Path]:
    """Returns every file below the roots that holds the canary in its content or name."""
    return [p for root in roots for p in _files(root) if CANARY in p.name or _holds(p)]


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    elif root.exists():
        yield from (p for p in root.rglob("*") if p.is_file() and not p.is_symlink())


def _holds(path: Path) -> bool:
    """Whether the file holds the canary; latin-1 reads any byte, and one chunk overlaps the next."""
    with path.open("rb") as stream:
        before = b""
        while chunk := stream.read(1 << 20):
            if has_canary((before + chunk).decode("latin-1")):
                return True
            before = chunk[-4 * len(CANARY) :]
    return False


class ArgvWatch:
    """Samples `/proc/*/cmdline` until it is left, and keeps each command line that held the needle."""

    def __init__(self, needle: str = CANARY) -> None:
        self.needle = needle
        self.leaks: set[str] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self) -> None:
        """Looks once."""
        for folder in Path("/proc").iterdir():  # no pattern: it would ask for files of processes that have just ended
            if not folder.name.isdigit():
                continue
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if self.needle in line:
                self.leaks.add(line)
