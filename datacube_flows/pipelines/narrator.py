"""What a log tells of a DataCube that is waited for: each change of its state, and how far it is from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from datacube_flows.api.status import Phase
from datacube_flows.words import describe, outcome, summary

if TYPE_CHECKING:
    from datacube_flows.api.status import AttemptStatus, DataCubeStatus

PROGRESS_SECONDS: Final = 15.0
TROUBLE_SECONDS: Final = 60.0


@dataclass
class Narrator:
    """Turns statuses, in their order, into lines.

    Attributes:
        clock: seconds that only go forward.
        seconds: between two lines about progress.
    """

    clock: Callable[[], float] = time.monotonic
    seconds: float = PROGRESS_SECONDS
    _state: tuple[str, ...] = ()
    _ended: set[int] = field(default_factory=set)
    _told_at: float = float("-inf")
    _trouble_at: float = float("-inf")

    def lines(self, status: DataCubeStatus) -> list[str]:
        """Returns what is to be said of a status after those of before."""
        return [*self._attempts(status), *self._change(status), *self._progress(status)]

    def trouble(self, text: str) -> list[str]:
        """Returns what is to be said of a failure that is put up with: the first one, and one a minute."""
        now = self.clock()
        if now - self._trouble_at < TROUBLE_SECONDS:
            return []
        self._trouble_at = now
        return [text]

    def _attempts(self, status: DataCubeStatus) -> list[str]:
        """Attempts that failed meanwhile."""
        failed = [a for a in status.attempts or () if a.reason and a.number not in self._ended]
        self._ended |= {a.number for a in failed}
        return [f"attempt {a.number} failed: {a.reason}: {a.message or ''}".rstrip(": ") for a in failed]

    def _change(self, status: DataCubeStatus) -> list[str]:
        state = _state_of(status)
        if state == self._state:
            return []
        self._state = state
        return [": ".join(part for part in state if part)]

    def _progress(self, status: DataCubeStatus) -> list[str]:
        now = self.clock()
        if status.phase is not Phase.RUNNING or not status.progress or now - self._told_at < self.seconds:
            return []
        self._told_at = now
        return [describe(status.progress.to_wire())]


def _state_of(status: DataCubeStatus) -> tuple[str, ...]:
    """Phase and what is said with it."""
    if status.phase is None:
        return ("no operator has looked at it yet",)
    if status.phase is Phase.SUCCEEDED:
        return (status.phase, summary(status))
    reason, message = outcome(status)
    last = status.attempts[-1] if status.attempts else None
    if status.phase is Phase.RUNNING and last is not None and last.finish_time is None:
        return (status.phase, _attempt(last), reason, message)
    return (status.phase, reason, message)


def _attempt(attempt: AttemptStatus) -> str:
    return f"attempt {attempt.number}" + (f" in pod {attempt.pod}" if attempt.pod else "")
