"""Writes down how a run stands: its status, and the events and numbers that go with a change of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.observation import AttemptSeen, Observation, PodPhase
from datacube_operator.announce import announce
from datacube_operator.cube import Cube

if TYPE_CHECKING:
    from datacube_flows.api.status import DataCubeStatus
    from datacube_operator.clock import Clock
    from datacube_operator.events import Recorder
    from datacube_operator.metrics import Metrics
    from datacube_operator.progress import ProgressReader
    from datacube_operator.status_book import StatusBook

STALLED: Final = "no byte has moved for five minutes: look at the store and the network"


@dataclass(frozen=True)
class Outlets:
    """Where is told what a reconcile finds, beside status.

    Attributes:
        recorder: takes events.
        progress: reads what running attempts print; None where nobody may.
        metrics: counts runs and attempts.
    """

    recorder: Recorder
    progress: ProgressReader | None
    metrics: Metrics


class Chronicle:
    """Folds what was seen into status, and tells what is news.

    Args:
        book: writes status.
        outlets: see there.
        clock: tells the time that goes into status.
    """

    def __init__(self, book: StatusBook, outlets: Outlets, clock: Clock) -> None:
        self._book, self._outlets, self._clock = book, outlets, clock

    def fresh(self, cube: Cube) -> DataCubeStatus:
        """What a run begins with: nothing of one that ended, all of one that waits."""
        if cube.is_final or not cube.status.conditions:
            return initial_status(self._clock.utc(), generation=cube.generation)
        return cube.status

    def fold(self, cube: Cube, seen: Observation) -> Cube:
        """Returns the DataCube as it will stand after an observation."""
        return replace(cube, status=fold(cube.status, seen, self._clock.utc()))

    async def write(self, cube: Cube, base: DataCubeStatus, seen: Observation) -> Cube:
        """Folds an observation into a status and has it written; tells people what is news."""
        base = base if base.conditions else self.fresh(cube)
        after = await self._book.write(cube, fold(base, seen, self._clock.utc()))
        if after is not cube:
            for words in announce(cube.status, after.status, seen):
                self._outlets.recorder.record(cube.document, words)
            self._count_attempts(cube.status, seen)
        return after

    async def confirm(self, cube: Cube) -> Cube:
        """Has the status say that it speaks of the document as it is now, and nothing else changed."""
        return await self._book.write(cube, cube.status)

    def with_progress(self, cube: Cube, seen: Observation) -> Observation:
        """Has the running attempt's log read, and adds what it told of late."""
        reader, last = self._outlets.progress, seen.attempts[-1] if seen.attempts else None
        if reader is None:
            return seen
        if last is None or last.phase is not PodPhase.RUNNING or not last.uid:
            reader.forget(cube.key)
            return seen
        reader.watch(cube.key, cube.namespace, last.pod, last.uid)
        told = reader.latest(last.uid)
        if told is None:
            return seen
        said = (Reason.STALLED, STALLED) if told.is_stalled else seen.said
        said = (Reason.RATE_LIMITED, told.rate_limited) if told.rate_limited else said
        return replace(seen, progress=told.counters or None, said=said)

    def let_logs_be(self, key: str) -> None:
        """Has no log of a DataCube read any more."""
        if self._outlets.progress is not None:
            self._outlets.progress.forget(key)

    def count_run(self, cube: Cube, kind: str) -> None:
        """Counts a run that has ended."""
        status = cube.status
        reason = next((c.reason for c in status.conditions or () if c.status == "True" and c.reason), None)
        size = (status.result and status.result.bytes) or 0
        self._outlets.metrics.run_ended(kind, Reason(reason or Reason.TRANSFER_COMPLETE), size)

    def _count_attempts(self, before: DataCubeStatus, seen: Observation) -> None:
        known = {(a.number, a.pod) for a in before.attempts or () if a.finish_time}
        for attempt in seen.attempts:
            if attempt.finished and (attempt.number, attempt.pod) not in known:
                self._outlets.metrics.attempt_ended(_reason_of(attempt))


def _reason_of(attempt: AttemptSeen) -> Reason:
    if attempt.phase is PodPhase.FAILED:
        return attempt.failure[0]
    return attempt.report.reason if attempt.report else Reason.TRANSFER_COMPLETE
