"""From a pod as the API shows it to what `fold` takes: an attempt, or why there is none yet. Pure, and never raises.

Only container `main` is looked at; what an engine runs beside it says nothing of the transfer. The kubelet's words are
those of `pkg/kubelet` (images/types.go, container/sync_result.go, eviction, lifecycle) and the scheduler's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import TransferReport, parse_report
from datacube_flows.core import labels
from datacube_flows.core.manifests import CONTAINER
from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.core.pod_fields import field_at, int_at, items_at, moment_at, sentence, text_at
from datacube_flows.core.retry import EXIT_OK, EXIT_PERMANENT, EXIT_RETRYABLE, EXIT_TERMINATED

if TYPE_CHECKING:
    from collections.abc import Mapping

KILLED: Final = 137
"""128 and SIGKILL."""

MAX_NAME: Final = 253
MAX_ATTEMPT: Final = 10_000

NODE_WORDS: Final = {
    "Evicted": (Reason.EVICTED, "the node ran short of something and ended the pod"),
    "Terminated": (Reason.EVICTED, "the node was shut down"),
    "Shutdown": (Reason.EVICTED, "the node was shut down"),
    "NodeShutdown": (Reason.EVICTED, "the node was shutting down and refused the pod"),
    "Preempting": (Reason.EVICTED, "the node made room for a critical pod"),
    "NodeAffinity": (Reason.EVICTED, "the node no longer fits the pod's selectors"),
    "NodePorts": (Reason.EVICTED, "a port of the pod is taken on the node"),
    "UnexpectedAdmissionError": (Reason.EVICTED, "the node refused the pod"),
    "NodeLost": (Reason.NODE_LOST, "the pod's node is lost"),
    "SysctlForbidden": (Reason.POD_REJECTED, "nodes refuse the pod"),
    "AppArmor": (Reason.POD_REJECTED, "nodes refuse the pod"),
}
"""`status.reason` of a failed pod -> why the attempt ended. Evicted: another node, or this one later, may take it."""

DISRUPTIONS: Final = {
    "DeletionByTaintManager": (Reason.NODE_LOST, "the node is not to be reached, or was tainted"),
    "DeletionByPodGC": (Reason.NODE_LOST, "the pod's node is gone"),
    "EvictionByEvictionAPI": (Reason.EVICTED, "the pod was evicted, as when its node is drained"),
    "PreemptionByScheduler": (Reason.EVICTED, "a pod of higher priority took the place"),
    "TerminationByKubelet": (Reason.EVICTED, "the node ended the pod"),
}
"""Reason of condition DisruptionTarget -> why the attempt ended (Kubernetes, 'Pod disruption conditions')."""

_PHASES: Final = {"Running": PodPhase.RUNNING, "Succeeded": PodPhase.SUCCEEDED, "Failed": PodPhase.FAILED}
_NOT_STARTED: Final = ("StartError", "ContainerCannotRun", "RunContainerError")


def observe_pod(pod: Mapping[str, Any]) -> AttemptSeen:
    """Returns the attempt that a pod is; from a partial object as much as can be known."""
    ended = main_state(pod, "terminated")
    report = parse_report(text_at(ended, "message"))
    phase = _phase(pod, ended)
    reason, message = _cause(pod, ended, report) if phase is PodPhase.FAILED else (None, "")
    return AttemptSeen(
        number=_number(pod),
        pod=text_at(pod, "metadata", "name")[:MAX_NAME],
        phase=phase,
        status=status_word(pod)[:MAX_NAME],
        uid=text_at(pod, "metadata", "uid")[:MAX_NAME],
        started=moment_at(ended, "startedAt") or moment_at(main_state(pod, "running"), "startedAt"),
        finished=moment_at(ended, "finishedAt"),
        exit_code=int_at(ended, "exitCode"),
        reason=reason,
        report=report,
        message=message,
    )


def main_state(pod: Mapping[str, Any], state: str) -> object:
    """Returns the part of container `main`'s state that is called `waiting`, `running` or `terminated`, or None."""
    statuses = items_at(pod, "status", "containerStatuses")
    main = next((s for s in statuses if text_at(s, "name") == CONTAINER), None)
    return field_at(main, "state", state)


def status_word(pod: Mapping[str, Any]) -> str:
    """Returns what kubectl shows as STATUS, were `main` the only container (printPod of its printers.go)."""
    phase = text_at(pod, "status", "phase")
    if _is_being_deleted(pod) and text_at(pod, "status", "reason") == "NodeLost":
        return "Unknown"
    if _is_being_deleted(pod) and phase not in ("Succeeded", "Failed"):
        return "Terminating"
    words = (
        text_at(main_state(pod, "waiting"), "reason"),
        text_at(main_state(pod, "terminated"), "reason"),
        "SchedulingGated" if _is_gated(pod) else "",
        text_at(pod, "status", "reason"),
    )
    return next((word for word in words if word), phase or PodPhase.PENDING.value)


def _phase(pod: Mapping[str, Any], ended: object) -> PodPhase:
    """The pod's phase; but success as soon as `main` says so, whatever an engine's own containers still do."""
    if int_at(ended, "exitCode") == EXIT_OK:
        return PodPhase.SUCCEEDED
    word = text_at(pod, "status", "phase")
    if word == "Unknown":
        return PodPhase.RUNNING
    return _PHASES.get(word, PodPhase.PENDING)


def _cause(pod: Mapping[str, Any], ended: object, report: TransferReport | None) -> tuple[Reason | None, str]:
    """Why an attempt failed as far as its runner knows; None leaves it to the report."""
    if text_at(pod, "status", "reason") == "DeadlineExceeded":
        return Reason.DEADLINE_EXCEEDED, _deadline_message(pod)
    if text_at(ended, "reason") == "OOMKilled":
        return Reason.OOM_KILLED, _memory_message(pod)
    if lost := _loss(pod):
        return lost
    if _was_deleted(pod, ended):
        return Reason.POD_DELETED, "the pod was deleted while it ran"
    if text_at(ended, "reason") in _NOT_STARTED:
        return Reason.TRANSFER_ERROR, f"the container could not be started: {sentence(ended, 'message')}"
    return None, "" if report else _silence(pod, ended)


def _loss(pod: Mapping[str, Any]) -> tuple[Reason, str] | None:
    """Why a node or the cluster, not the transfer, ended the pod."""
    if found := _node_word(text_at(pod, "status", "reason")):
        reason, text = found
        return reason, _with(text, sentence(pod, "status", "message"))
    disruption = condition(pod, "DisruptionTarget")
    if text_at(disruption, "status") == "True" and text_at(disruption, "reason") in DISRUPTIONS:
        reason, text = DISRUPTIONS[text_at(disruption, "reason")]
        return reason, _with(text, sentence(disruption, "message"))
    if text_at(main_state(pod, "terminated"), "reason") == "ContainerStatusUnknown":
        return Reason.NODE_LOST, "the node forgot the container, as after a restart"
    return None


def _node_word(word: str) -> tuple[Reason, str] | None:
    """What `status.reason` of a failed pod means."""
    if word.startswith("OutOf"):
        return Reason.EVICTED, "the node had no room left for the pod"
    return NODE_WORDS.get(word)


def _was_deleted(pod: Mapping[str, Any], ended: object) -> bool:
    """Whether a deletion ended it: it was asked for before the end, and the attempt did not end by itself.

    One that was told to end, or killed, and is being deleted was so by the deletion: the kubelet moves the time of a
    deletion once more, to after the end.
    """
    due, code = moment_at(pod, "metadata", "deletionTimestamp"), int_at(ended, "exitCode")
    if due is None or code in (EXIT_PERMANENT, EXIT_RETRYABLE):
        return False
    grace = int_at(pod, "metadata", "deletionGracePeriodSeconds") or 0
    finished = moment_at(ended, "finishedAt")
    return code in (EXIT_TERMINATED, KILLED) or finished is None or finished.timestamp() >= due.timestamp() - grace


def _silence(pod: Mapping[str, Any], ended: object) -> str:
    """What is said of an attempt that left no report."""
    if int_at(ended, "exitCode") == KILLED:
        return "the attempt was killed (SIGKILL) and left no report: look at the events of its node"
    if ended is None:
        return _with("the pod failed before the attempt ran", sentence(pod, "status", "message"))
    return ""


def _deadline_message(pod: Mapping[str, Any]) -> str:
    seconds = int_at(pod, "spec", "activeDeadlineSeconds")
    limit = "its deadline" if seconds is None else f"{seconds} s"
    return f"the attempt took longer than {limit}: raise activeDeadlineSeconds, or let it go on with backoffLimit"


def _memory_message(pod: Mapping[str, Any]) -> str:
    containers = items_at(pod, "spec", "containers")
    main = next((c for c in containers if text_at(c, "name") == CONTAINER), None)
    limit = text_at(main, "resources", "limits", "memory")
    return (
        f"the attempt took more memory than its limit{f' of {limit}' if limit else ''}: raise resources.limits.memory"
    )


def condition(pod: Mapping[str, Any], kind: str) -> object:
    """Returns a condition of the pod, or None."""
    return next((c for c in items_at(pod, "status", "conditions") if text_at(c, "type") == kind), None)


def _is_gated(pod: Mapping[str, Any]) -> bool:
    return text_at(condition(pod, "PodScheduled"), "reason") == "SchedulingGated"


def _is_being_deleted(pod: Mapping[str, Any]) -> bool:
    return bool(text_at(pod, "metadata", "deletionTimestamp"))


def _number(pod: Mapping[str, Any]) -> int:
    """Which attempt it is: its label; the first, where it has none that can be read."""
    label = text_at(pod, "metadata", "labels", labels.ATTEMPT)
    number = int(label) if label.isascii() and label.isdigit() and len(label) < len(str(MAX_ATTEMPT)) else 1
    return max(number, 1)


def _with(text: str, said: str) -> str:
    return f"{text}: {said}" if said else text
