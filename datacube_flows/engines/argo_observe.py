"""From a run's workflow and pods, as the API shows them, to what `fold` takes. Pure, without Hera, and never raises.

The pods tell of the attempts; the workflow tells whether another follows, and of attempts that have no pod (any more).
Argo moves in steps of ten seconds: its nodes tell of a moment before. What it says stands in its sources
(workflow/controller/operator.go) and is recorded in tests/engines/observed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import PERMANENT, Reason
from datacube_flows.core import labels
from datacube_flows.core.observation import Observation, PodPhase
from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.core.pod_fields import field_at, moment_at, sentence, text_at
from datacube_flows.core.pod_waiting import waiting_reason
from datacube_flows.core.retry import EXIT_PERMANENT, EXIT_TERMINATED, backoff_seconds
from datacube_flows.engines.argo_nodes import PENDING, attempt_of, has_ended, nodes_of, phase_of
from datacube_flows.engines.argo_provision import claim_awaited, claim_refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from datacube_flows.core.observation import AttemptSeen
    from datacube_flows.core.plan import TransferPlan
    from datacube_flows.engines.argo_nodes import Node

    Object = Mapping[str, Any]
    Said = tuple[Reason, str]
    Pod = tuple[AttemptSeen, Object]

TAKEN_UP_SECONDS: Final = 30
"""So long may Argo's controller take to look at a workflow."""

LATE_SECONDS: Final = 60
"""So long after its back-off may the next attempt be missing."""

SILENT_SECONDS: Final = 120
"""So long may nothing follow the end of a run's pods."""

ALIVE: Final = frozenset({PodPhase.PENDING, PodPhase.RUNNING})
"""Phases of an attempt that may yet succeed."""

LOOK: Final = "look at the deployment of Argo's workflow-controller"


@dataclass(frozen=True, slots=True)
class _Run:
    """What is known of a run, read once."""

    plan: TransferPlan
    workflow: Object | None
    nodes: tuple[Node, ...]
    transfers: tuple[Pod, ...]
    provisions: tuple[Pod, ...]
    attempts: tuple[AttemptSeen, ...]
    now: datetime

    @property
    def last(self) -> AttemptSeen | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def is_alive(self) -> bool:
        """Whether an attempt is under way, or about to be."""
        return any(a.phase in ALIVE for a in self.attempts)


def observe_run(plan: TransferPlan, workflow: Object | None, pods: Sequence[Object], now: datetime) -> Observation:
    """Returns a run as it stands; fields of its workflow and its progress are left to the caller.

    Args:
        plan: what is run.
        workflow: as the API shows it, or what `trim_workflow` keeps; None where it is not known. May be somebody
            else's that refers to the DataCube's template.
        pods: all pods of the run.
        now: to tell who is late.
    """
    run = _read(plan, workflow, pods, now)
    if ended := _ended(run):
        return Observation(_attempts_ended(run, ended), ended=ended)
    return Observation(run.attempts, waiting=_waiting(run), said=_said(run), will_retry=_will_retry(run))


def attempts_of(workflow: Object | None, pods: Iterable[Object]) -> tuple[AttemptSeen, ...]:
    """Returns the attempts of a run, oldest first: from their pods, and where those are gone from the workflow."""
    return _attempts(workflow, nodes_of(workflow), _newest(pods, labels.TRANSFER))


def is_stale(workflow: Object | None, pods: Iterable[Object], plan: TransferPlan) -> bool:
    """Whether Argo ran an older template than it should, or did not know it yet; such a run has to be made anew.

    What it should have run stands at the workflow: the plan of another version of the operator has another hash.
    """
    wanted = text_at(workflow, "metadata", "labels", labels.PLAN) or plan.hash
    ran = (text_at(pod, "metadata", "labels", labels.PLAN) for pod in pods)
    return any(found not in ("", wanted) for found in ran) or _lacks_template(workflow)


def _lacks_template(workflow: Object | None) -> bool:
    said = text_at(workflow, "status", "message")
    is_about = "workflowtemplate" in said.lower() and "not found" in said
    return is_about and phase_of(workflow) == "Error" and not any(node.is_pod for node in nodes_of(workflow))


def _read(plan: TransferPlan, workflow: Object | None, pods: Sequence[Object], now: datetime) -> _Run:
    """Reads all once; nodes of somebody else's workflow are left out, since they may be of other DataCubes."""
    is_own = text_at(workflow, "metadata", "labels", labels.UID) == plan.uid
    nodes, transfers = nodes_of(workflow) if is_own else (), _newest(pods, labels.TRANSFER)
    return _Run(
        plan=plan,
        workflow=workflow,
        nodes=nodes,
        transfers=transfers,
        provisions=_newest(pods, labels.PROVISION),
        attempts=_attempts(workflow, nodes, transfers),
        now=now,
    )


def _newest(pods: Iterable[Object], step: str) -> tuple[Pod, ...]:
    """The pods of a step and what they show, one for each number: where Argo made one anew, the newer."""
    of_step = [p for p in pods if text_at(p, "metadata", "labels", labels.STEP) == step]
    by_age = sorted(of_step, key=lambda p: text_at(p, "metadata", "creationTimestamp"))
    by_number = {seen.number: (seen, pod) for seen, pod in ((observe_pod(p), p) for p in by_age)}
    return tuple(by_number[number] for number in sorted(by_number))


def _attempts(workflow: Object | None, nodes: Iterable[Node], pods: Iterable[Pod]) -> tuple[AttemptSeen, ...]:
    found = {seen.number: seen for seen, _ in pods}
    name, is_over = text_at(workflow, "metadata", "name"), has_ended(workflow)
    for node in nodes:
        if not node.is_attempt or node.phase == PENDING:
            continue
        seen = found.get(node.number)
        if seen is None:
            found[node.number] = attempt_of(node, name)
        elif is_over and node.has_ended and seen.phase in ALIVE:  # its node is lost, or the pod's end not seen yet
            found[node.number] = replace(attempt_of(node, name), pod=seen.pod, uid=seen.uid, started=seen.started)
    return tuple(found[number] for number in sorted(found))


def _will_retry(run: _Run) -> bool:
    """Whether Argo follows the last attempt with another, as the template's `retryStrategy` has it, or may do so."""
    last = run.last
    if last is None or last.phase is not PodPhase.FAILED or has_ended(run.workflow) or _shutdown(run.workflow):
        return False
    return _is_undecided(run, last) or (last.number < run.plan.attempts and not is_permanent(last))


def _is_undecided(run: _Run, last: AttemptSeen) -> bool:
    """Whether Argo may yet make a failed attempt's pod anew: it does where it finds none before it saw that one run.

    A deleted pod may be gone by then; such an attempt is the same once more, and spends no retry.
    """
    is_going = any(seen is last and text_at(pod, "metadata", "deletionTimestamp") for seen, pod in run.transfers)
    return is_going and not any(n.is_attempt and n.number == last.number and n.has_ended for n in run.nodes)


def is_permanent(seen: AttemptSeen) -> bool:
    """Whether a failed attempt is the last one, however many there may be."""
    return seen.exit_code == EXIT_PERMANENT or seen.failure[0] in PERMANENT


def _shutdown(workflow: Object | None) -> str:
    return text_at(workflow, "spec", "shutdown")


def _ended(run: _Run) -> Said | None:
    """Why no attempt follows for a reason that no attempt gave; as long as one is alive it may still succeed."""
    if run.is_alive:
        return None
    is_by_hand = _shutdown(run.workflow) and not text_at(run.workflow, "metadata", "annotations", labels.ENDED_BY)
    if is_by_hand and not (run.last and is_permanent(run.last)):
        return Reason.CANCELLED, "the workflow was stopped by hand: the re-run annotation starts another run"
    return _ended_before(run) if has_ended(run.workflow) and not run.attempts else None


def _attempts_ended(run: _Run, why: Said) -> tuple[AttemptSeen, ...]:
    """The attempts of a run that was ended: the one that was told to end was so for that reason."""
    last = run.last
    if last is None or why[0] is not Reason.CANCELLED or last.exit_code != EXIT_TERMINATED or last.reason:
        return run.attempts
    return (*run.attempts[:-1], replace(last, reason=why[0], message=why[1]))


def _ended_before(run: _Run) -> Said | None:
    """Why a workflow ended that had no attempt."""
    if phase_of(run.workflow) == "Succeeded":
        return None
    if refused := claim_refused(run.provisions, run.nodes):
        return refused
    said = sentence(run.workflow, "status", "message") or "no cause was given"
    return Reason.RETRIES_EXHAUSTED, f"Argo ended the workflow before the first attempt: {said}"


def _waiting(run: _Run) -> Said | None:
    """Why nothing runs; None where something does."""
    if run.last and run.last.phase in (PodPhase.RUNNING, PodPhase.SUCCEEDED):
        return None
    newest = next(reversed(run.transfers or run.provisions), None)
    of_pod = waiting_reason(newest[1]) if newest is not None else None
    return of_pod or _of_workflow(run) or _of_nodes(run) or _of_claim(run)


def _of_workflow(run: _Run) -> Said | None:
    """Why a whole workflow waits."""
    workflow = run.workflow
    if workflow is None or run.is_alive or has_ended(workflow):
        return None
    if field_at(workflow, "spec", "suspend") is True:
        return Reason.SUSPENDED, "the workflow was suspended by hand: `argo resume` lets it go on"
    if phase_of(workflow) == PENDING:
        return Reason.QUEUED, f"Argo holds the workflow back: {sentence(workflow, 'status', 'message')}"
    age = _seconds_since(moment_at(workflow, "metadata", "creationTimestamp"), run.now)
    if not phase_of(workflow) and age > TAKEN_UP_SECONDS:
        return Reason.ENGINE_UNAVAILABLE, f"Argo has not taken up the workflow in {TAKEN_UP_SECONDS} s: {LOOK}"
    return None


def _of_nodes(run: _Run) -> Said | None:
    """Why Argo starts no pod."""
    for node in run.nodes:
        if node.lock and not node.has_ended:
            return Reason.QUEUED, f"another run of this DataCube goes first: {node.message or node.lock}"
    for node in run.nodes:
        if node.is_pod and node.phase == PENDING and "exceeded quota" in node.message and not _has_pod(run, node):
            return Reason.QUOTA_EXCEEDED, f"{node.message} (raise the quota, or wait for other pods' end)"
    return None


def _has_pod(run: _Run, node: Node) -> bool:
    """Whether the pod is there that a node is about, whose message is then of before."""
    pods = run.transfers if node.is_attempt else run.provisions
    return any(seen.number == node.number for seen, _ in pods)


def _of_claim(run: _Run) -> Said | None:
    return None if run.attempts else claim_awaited(run.provisions, run.nodes)


def _said(run: _Run) -> Said | None:
    """What people should know between two attempts, or where Argo does nothing."""
    if not run.attempts:
        return _silence(run)
    failed = next((a for a in reversed(run.attempts) if a.phase is not PodPhase.PENDING), None)
    if failed is None or failed.phase is not PodPhase.FAILED:
        return None
    if failed is run.last and not _will_retry(run):
        return None
    reason, message = failed.failure
    text = f"attempt {failed.number} of {run.plan.attempts} failed"
    if failed is run.last and _seconds_since(failed.finished, run.now) > _pause(failed.number) + LATE_SECONDS:
        return Reason.ENGINE_UNRESPONSIVE, f"{text} ({reason}), and Argo does not start the next: {LOOK}"
    follows = "the next one follows" if failed.number < run.plan.attempts else "Argo may make its pod anew"
    return reason, f"{text}, {follows}: {message}"


def _silence(run: _Run) -> Said | None:
    """That Argo goes on with nothing after the step that makes the claim."""
    ends = [seen.finished for seen, _ in run.provisions if seen.finished]
    if not ends or len(ends) < len(run.provisions) or has_ended(run.workflow):
        return None
    if _seconds_since(max(ends), run.now) <= SILENT_SECONDS + _pause(len(ends)):
        return None
    return Reason.ENGINE_UNRESPONSIVE, f"the step that makes the claim has ended, and Argo does not go on: {LOOK}"


def _pause(failures: int) -> float:
    return backoff_seconds(failures, jitter=0.5)


def _seconds_since(moment: datetime | None, now: datetime) -> float:
    return (now - moment).total_seconds() if moment else 0.0
