"""From a flow run and its pods to what `fold` takes. Pure, and without Prefect.

The pods tell of the attempts; what is remembered tells of those whose pods are gone. Whether another attempt follows
is decided by the same rule that the flow asks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datacube_flows.api.reasons import Reason
from datacube_flows.core.observation import ENDED, AttemptSeen, Observation, PodPhase
from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.core.pod_fields import text_at
from datacube_flows.core.pod_waiting import waiting_reason
from datacube_flows.steps import is_followed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from datacube_flows.api.status import AttemptStatus
    from datacube_flows.core.plan import TransferPlan

    Object = Mapping[str, Any]
    Said = tuple[Reason, str]


def observe_flow(
    plan: TransferPlan,
    pods: Sequence[Object],
    known: Iterable[AttemptSeen] = (),
    *,
    waiting: Said | None = None,
    ended: Said | None = None,
) -> Observation:
    """Returns a run as it stands; fields of its workflow and its progress are left to the caller.

    Args:
        plan: what is run.
        pods: those of the run's attempts.
        known: attempts that were seen before, whose pods may be gone.
        waiting: why the run does not go on, where that is for no pod's sake.
        ended: why no attempt follows, where no attempt tells.
    """
    attempts = attempts_of(pods, known)
    last = attempts[-1] if attempts else None
    if ended is not None and not (last and last.phase is PodPhase.SUCCEEDED):
        return Observation(attempts, ended=ended)
    follows = last is not None and is_followed(plan, last)
    held = _held(pods, last) if waiting is None else waiting
    return Observation(attempts, waiting=held, said=_said(plan, attempts) if follows else None, will_retry=follows)


def attempts_of(pods: Iterable[Object], known: Iterable[AttemptSeen] = ()) -> tuple[AttemptSeen, ...]:
    """Returns the attempts, oldest first; of one whose end is known, what its pod shows meanwhile does not count."""
    found = {seen.number: seen for seen in known}
    for seen in map(observe_pod, pods):
        before = found.get(seen.number)
        if before is None or before.phase not in ENDED or seen.phase in ENDED:
            found[seen.number] = seen
    return tuple(found[number] for number in sorted(found))


def attempt_told(told: AttemptStatus) -> AttemptSeen:
    """Returns the attempt that a status tells of."""
    has_failed = told.reason is not None
    phase = PodPhase.FAILED if has_failed else PodPhase.RUNNING
    return AttemptSeen(
        number=told.number,
        pod=told.pod or "",
        phase=phase,
        status="Error" if has_failed else "Unknown",
        started=told.start_time,
        finished=told.finish_time,
        exit_code=told.exit_code,
        reason=Reason(told.reason) if told.reason else None,
        message=told.message or "",
    )


def attempt_lost(plan: TransferPlan, number: int, last: Object | None, now: datetime) -> AttemptSeen:
    """Returns an attempt whose pod is gone, from what was last seen of it: a node that was lost tells so before."""
    if last is None:
        name = plan.attempt_name(number)
        seen = AttemptSeen(number, name, PodPhase.FAILED, "Error", finished=now)
    else:
        seen = observe_pod({**last, "status": {**(last.get("status") or {}), "phase": "Failed"}})
    if seen.reason is None:
        seen = replace(seen, reason=Reason.POD_DELETED, message="the pod was deleted, or its node is gone")
    return replace(seen, number=number, status="Error", finished=seen.finished or now)


def attempt_cancelled(seen: AttemptSeen, message: str, now: datetime) -> AttemptSeen:
    """Returns an attempt that was ended with its run; one that had ended by then stays as it is."""
    if seen.phase in ENDED:
        return seen
    return replace(
        seen, phase=PodPhase.FAILED, status="Terminated", finished=now, reason=Reason.CANCELLED, message=message
    )


def _held(pods: Iterable[Object], last: AttemptSeen | None) -> Said | None:
    """Why the newest attempt's pod does not start."""
    if last is None or last.phase is not PodPhase.PENDING:
        return None
    pod = next((p for p in pods if text_at(p, "metadata", "name") == last.pod), None)
    return waiting_reason(pod) if pod is not None else None


def _said(plan: TransferPlan, attempts: Sequence[AttemptSeen]) -> Said:
    """What people should know between two attempts."""
    failed = attempts[-1]
    reason, message = failed.failure
    return reason, f"attempt {failed.number} of {plan.attempts} failed, the next one follows: {message}"
