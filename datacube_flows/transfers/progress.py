"""Counters of a running attempt: written by the transfer's threads, read by whoever prints. Thread-safe, no output."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters at one moment.

    Totals are 0 while unknown; `moved` only grows and also counts bytes later thrown away, so that it tells a stall
    from work.
    """

    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    moved: int = 0


class Progress:
    """Counts files and bytes, and collects notices for a person."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = {"files_done": 0, "files_total": 0, "bytes_done": 0, "bytes_total": 0, "moved": 0}
        self._notices: list[str] = []

    def expect(self, *, files: int, size: int) -> None:
        """Adds to the totals."""
        with self._lock:
            self._now["files_total"] += files
            self._now["bytes_total"] += size

    def advance(self, size: int) -> None:
        """Adds bytes that just arrived or left; a negative size takes back bytes that must move again."""
        with self._lock:
            self._now["bytes_done"] += size
            self._now["moved"] += abs(size)

    def finish_file(self) -> None:
        """Adds one finished file."""
        with self._lock:
            self._now["files_done"] += 1

    def alive(self) -> None:
        """Says that something moved whose bytes are not counted (a tool's own output), so no stall is seen."""
        with self._lock:
            self._now["moved"] += 1

    def snapshot(self) -> Snapshot:
        """All counters of one moment."""
        with self._lock:
            return Snapshot(**self._now)

    def notice(self, text: str) -> None:
        """Keeps a remark that a person should see once."""
        with self._lock:
            if text not in self._notices:
                self._notices.append(text)

    @property
    def notices(self) -> tuple[str, ...]:
        """The remarks so far."""
        with self._lock:
            return tuple(self._notices)
