"""Which events a change of status is worth: few, one for what people have to act on, one for the end. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import ConditionType, Phase
from datacube_flows.core.fold import FINAL_PHASES
from datacube_operator.events import Words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datacube_flows.api.status import Condition, DataCubeStatus
    from datacube_flows.core.observation import Observation

    Said = tuple[str, str]

NORMAL: Final = "Normal"
WARNING: Final = "Warning"
MAX_NOTICES: Final = 5

PASSES: Final = frozenset({Reason.SUSPENDED, Reason.PATH_BUSY, Reason.QUEUED, Reason.RATE_LIMITED})
"""What is asked for, or passes by itself: said once and not as a warning, however its text changes."""


def announce(before: DataCubeStatus, after: DataCubeStatus, seen: Observation) -> Iterator[Words]:
    """Yields what is to be said of a change.

    Args:
        before: the status as it was.
        after: as it is now.
        seen: what made the difference.
    """
    if after.phase in FINAL_PHASES:
        if (before.phase, before.completion_time) != (after.phase, after.completion_time):
            yield _end(after)
            yield from _notices(seen)
        return
    known = {(a.number, a.pod) for a in before.attempts or () if a.reason}
    failed = [a for a in after.attempts or () if a.reason]
    for attempt in (a for a in failed if (a.number, a.pod) not in known):
        note = f"attempt {attempt.number} failed and is followed by another: {attempt.message or ''}"
        yield Words(WARNING, str(attempt.reason), note, "Retry")
    if (reason := _waiting(after)) and _is_news(reason, _waiting(before), {a.reason for a in failed}):
        yield Words(NORMAL if reason[0] in PASSES else WARNING, reason[0], reason[1] or reason[0], "Wait")


def _is_news(now: Said, before: Said | None, told: set[str | None]) -> bool:
    """Whether what is waited for is another thing than before, and was not told with an attempt's failure."""
    is_same = before is not None and before[0] == now[0] and (before[1] == now[1] or now[0] in PASSES)
    return not is_same and now[0] not in told


def _end(status: DataCubeStatus) -> Words:
    if status.phase is Phase.SUCCEEDED:
        condition = _condition(status, ConditionType.COMPLETE)
        result = status.result
        moved = f"{result.files or 0} files, {result.bytes or 0} bytes moved" if result else "the transfer is complete"
        return Words(NORMAL, (condition and condition.reason) or "Complete", moved, "Complete")
    condition = _condition(status, ConditionType.FAILED)
    reason = (condition and condition.reason) or "Failed"
    return Words(WARNING, reason, (condition and condition.message) or reason, "Fail")


def _notices(seen: Observation) -> Iterator[Words]:
    """What the attempt that ended the run has to say beside its result."""
    report = seen.attempts[-1].report if seen.attempts else None
    for notice in (report.notices if report else ())[:MAX_NOTICES]:
        yield Words(NORMAL, "Notice", notice, "Transfer")


def _waiting(status: DataCubeStatus) -> Said | None:
    """Why nothing runs, or why what runs does not get on."""
    for kind in (ConditionType.INITIALIZED, ConditionType.COMPLETE):
        condition = _condition(status, kind)
        if condition and condition.status == "False" and condition.reason:
            return condition.reason, condition.message or ""
    return None


def _condition(status: DataCubeStatus, kind: ConditionType) -> Condition | None:
    return next((c for c in status.conditions or () if c.type is kind), None)
