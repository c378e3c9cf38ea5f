"""From a status and an observation to the next status (SPEC section 5). Pure: time comes in, nothing is read.

`Initialized` stays True once an attempt started; `Complete` and `Failed` are final for a run and never both True; a
failed attempt that is retried is no failure. What is to be said of a run that goes on stands at the condition that does
not hold yet: `Initialized` before the start, then `Complete`. A condition's transition time moves only when its status
flips, and the probe times of all three move together whenever one is written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ValidationError

from datacube_flows.api.reasons import PERMANENT, Reason
from datacube_flows.api.status import (
    MAX_ATTEMPTS,
    MAX_MESSAGE,
    AttemptStatus,
    Condition,
    ConditionType,
    DataCubeStatus,
    Phase,
    PlanStatus,
    PodReference,
    PodStatus,
    ProgressStatus,
    ResultStatus,
    WorkflowStatus,
)
from datacube_flows.core.observation import AttemptSeen, Observation, PodPhase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from datacube_flows.api.report import TransferReport

INITIALIZED_MESSAGE: Final = "The DataCube is initialized"
COMPLETE_MESSAGE: Final = "The DataCube is complete"

FINAL_PHASES: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run stands: its phase, and the reason and text that go with it."""

    phase: Phase
    reason: Reason | None = None
    message: str = ""


def initial_status(now: datetime, *, generation: int = 0) -> DataCubeStatus:
    """Returns the first status of a run: Pending, all three conditions there and False."""
    now = now.replace(microsecond=0)
    return DataCubeStatus(
        observed_generation=generation or None, phase=Phase.PENDING, conditions=tuple(_none_holds(now).values())
    )


def _none_holds(now: datetime) -> dict[ConditionType, Condition]:
    return {
        kind: Condition(type=kind, status="False", last_probe_time=now, last_transition_time=now)
        for kind in ConditionType
    }


def fold(status: DataCubeStatus, seen: Observation, now: datetime) -> DataCubeStatus:
    """Returns the status after an observation; a final status is returned as it is."""
    if status.phase in FINAL_PHASES:
        return status
    now = now.replace(microsecond=0)
    verdict = judge(seen)
    if verdict.phase is Phase.PENDING and status.phase is Phase.RUNNING:
        verdict = replace(verdict, phase=Phase.RUNNING)  # its pod is gone, and its engine has not said so yet
    last = seen.attempts[-1] if seen.attempts else None
    report = last.report if last and last.phase is PodPhase.SUCCEEDED else None
    facts: dict[str, Any] = {
        "phase": verdict.phase,
        "conditions": _conditions(status, seen, verdict, now),
        "start_time": status.start_time or _first(a.started for a in seen.attempts),
        "pod": _pod(last, status.pod) if last else status.pod,
        "attempts": _attempts(status, seen.attempts[-MAX_ATTEMPTS:]) or status.attempts,
        "progress": _done(report) or _progress(seen) or status.progress,
        "workflow": WorkflowStatus.model_validate(seen.workflow) if seen.workflow else status.workflow,
        "result": _result(report) if report and report.plan is None else status.result,
        "plan": PlanStatus.model_validate(asdict(report.plan)) if report and report.plan else status.plan,
    }
    if verdict.phase in FINAL_PHASES:
        facts["completion_time"] = (last.finished if last else None) or now
    return status.model_copy(update=facts)


def judge(seen: Observation) -> Verdict:
    """Returns how a run stands, from what was seen alone."""
    last = seen.attempts[-1] if seen.attempts else None
    if last and last.phase is PodPhase.SUCCEEDED:
        return Verdict(
            Phase.SUCCEEDED, last.report.reason if last.report else Reason.TRANSFER_COMPLETE, COMPLETE_MESSAGE
        )
    if seen.ended:
        return Verdict(Phase.FAILED, *seen.ended)
    if last and last.phase is PodPhase.FAILED and not seen.will_retry:
        return _failed(*last.failure, attempts=last.number)
    said = seen.waiting or seen.said
    if _has_begun(seen):
        return Verdict(Phase.RUNNING, *(said or (Reason.TRANSFERRING,)))
    is_held = said is not None and said[0] is Reason.SUSPENDED
    return Verdict(Phase.SUSPENDED if is_held else Phase.PENDING, *(said or ()))


def _failed(reason: Reason, message: str, *, attempts: int) -> Verdict:
    if reason in PERMANENT:
        return Verdict(Phase.FAILED, reason, message)
    count = "the only attempt" if attempts == 1 else f"the last of {attempts} attempts"
    return Verdict(Phase.FAILED, Reason.RETRIES_EXHAUSTED, f"{count} failed: {reason}: {message}")


def _has_started(seen: Observation) -> bool:
    """Whether an attempt started; of one that succeeded nothing else may be known, where its pod is gone."""
    return any(a.started is not None or a.phase is PodPhase.SUCCEEDED for a in seen.attempts)


def _has_begun(seen: Observation) -> bool:
    """Whether an attempt was spent, or is being spent: also one that was lost before anybody saw it start."""
    return _has_started(seen) or any(a.phase is not PodPhase.PENDING for a in seen.attempts)


def _conditions(status: DataCubeStatus, seen: Observation, verdict: Verdict, now: datetime) -> tuple[Condition, ...]:
    """The three conditions, in their order; the old ones, untouched, where none of them changes.

    One that somebody took away is there again.
    """
    known = status.conditions or ()
    old = _none_holds(now) | {c.type: c for c in known}
    is_initialized = _has_started(seen) or old[ConditionType.INITIALIZED].status == "True"
    wanted: dict[ConditionType, _Wanted] = {
        ConditionType.INITIALIZED: ("True", None, INITIALIZED_MESSAGE) if is_initialized else _not(verdict),
        ConditionType.COMPLETE: _not(verdict) if is_initialized and verdict.message else _HOLDS_NOT,
        ConditionType.FAILED: _HOLDS_NOT,
    }
    if verdict.phase in FINAL_PHASES:
        wanted[ConditionType.COMPLETE] = _HOLDS_NOT
        final = ConditionType.COMPLETE if verdict.phase is Phase.SUCCEEDED else ConditionType.FAILED
        wanted[final] = ("True", verdict.reason, verdict.message[:MAX_MESSAGE] or None)
    if tuple((c.type, c.status, c.reason, c.message) for c in known) == tuple((k, *w) for k, w in wanted.items()):
        return known
    return tuple(_condition(old[kind], wanted[kind], now) for kind in ConditionType)


_Wanted = tuple[Literal["True", "False"], str | None, str | None]
_HOLDS_NOT: Final[_Wanted] = ("False", None, None)


def _not(verdict: Verdict) -> _Wanted:
    """A condition that does not hold, and says why."""
    return "False", verdict.reason, verdict.message[:MAX_MESSAGE] or None


def _condition(old: Condition, wanted: _Wanted, now: datetime) -> Condition:
    status, reason, message = wanted
    flipped = now if status != old.status else old.last_transition_time
    return Condition(
        type=old.type,
        status=status,
        reason=reason,
        message=message,
        last_probe_time=now,
        last_transition_time=flipped,
    )


def _pod(seen: AttemptSeen, known: PodStatus | None) -> PodStatus:
    """The pod of an attempt; of one that is gone, an engine may know no more than its name."""
    before = known.reference if known else None
    uid = seen.uid or (before.uid if before and before.name == seen.pod else None)
    reference = PodReference(name=seen.pod, uid=uid or None) if seen.pod else None
    return PodStatus(phase=seen.phase, reference=reference, status=seen.status)


def _attempts(status: DataCubeStatus, seen: Iterable[AttemptSeen]) -> tuple[AttemptStatus, ...]:
    known = {(a.number, a.pod): a for a in status.attempts or ()}
    return tuple(_attempt(a, known.get((a.number, a.pod or None))) for a in seen)


def _attempt(seen: AttemptSeen, known: AttemptStatus | None) -> AttemptStatus:
    """The attempt as it stands; where its pod is gone, what the pod told goes before what its engine makes of that."""
    if known and known.reason and not seen.uid:
        return known
    reason, message = seen.failure if seen.phase is PodPhase.FAILED else (None, "")
    return AttemptStatus(
        number=seen.number,
        pod=seen.pod or None,
        start_time=seen.started or (known.start_time if known and not seen.uid else None),
        finish_time=seen.finished,
        reason=reason,
        exit_code=seen.exit_code,
        message=message[:MAX_MESSAGE] or None,
    )


def _done(report: TransferReport | None) -> ProgressStatus | None:
    """How far a run is whose report says that all is done: what was read of its log before may be seconds old."""
    if report is None or report.plan is not None:
        return None
    files, size = report.files, report.bytes
    return ProgressStatus(percent=100, bytes_done=size, bytes_total=size, files_done=files, files_total=files)


def _progress(seen: Observation) -> ProgressStatus | None:
    """The counters that the attempt printed; None for what is no such thing, since a log is untrusted."""
    try:
        return ProgressStatus.model_validate(seen.progress) if seen.progress else None
    except ValidationError:
        return None


def _result(report: TransferReport) -> ResultStatus:
    return ResultStatus(
        revision=report.revision or None,
        files=report.files,
        bytes=report.bytes,
        skipped=report.skipped,
        verified=report.verified or None,
        path=report.path,
    )


def _first(times: Iterable[datetime | None]) -> datetime | None:
    return next((t for t in times if t is not None), None)
