"""Which workflows Argo leaves hanging, and what helps: its controller waits for a result that no pod will give. Pure.

A workflow does not go on while a node's result is awaited (`taskResultSynced: false`); the label
`report-outputs-completed` on its WorkflowTaskResults ends the wait (argoproj/argo-workflows#12103). Where that does not
help, a workflow that has nothing left to do is shut down. Another is not: where no controller runs it looks the same,
and the next attempt follows when that is back.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.core import labels
from datacube_flows.core.observation import PodPhase
from datacube_flows.core.pod_fields import field_at, items_at, moment_at, text_at
from datacube_flows.core.retry import EXIT_PERMANENT
from datacube_flows.engines.argo_nodes import nodes_of, phase_of
from datacube_flows.engines.argo_observe import attempts_of, is_permanent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from datacube_flows.core.observation import AttemptSeen
    from datacube_flows.engines.argo_nodes import Node

    Object = Mapping[str, Any]

REPORT_SECONDS: Final = 120
TERMINATE_SECONDS: Final = REPORT_SECONDS + 300

RESULT_LABELS: Final = {"workflows.argoproj.io/report-outputs-completed": "true"}
"""What tells Argo that no more is to come of a pod."""

TERMINATION: Final[dict[str, dict[str, Any]]] = {
    "metadata": {"annotations": {labels.ENDED_BY: "watchdog"}},
    "spec": {"shutdown": "Terminate"},
}
"""Merge patch that shuts a workflow down, and says that no person did."""


class Watch(StrEnum):
    """What is to be done for a workflow."""

    NOTHING = "Nothing"
    REPORT = "Report"
    """Label its WorkflowTaskResults with `RESULT_LABELS`."""
    TERMINATE = "Terminate"
    """Patch it with `TERMINATION`."""


def watchdog(workflow: Object | None, pods: Sequence[Object], now: datetime) -> Watch:
    """Returns what is to be done; the same again as long as it does not help.

    It is asked also of runs whose status is final: Argo would follow a permanent failure that left no exit code, as a
    refused pod, with another attempt.
    """
    if phase_of(workflow) != "Running" or text_at(workflow, "spec", "shutdown"):
        return Watch.NOTHING
    last = next(reversed(attempts_of(workflow, pods)), None)
    if last is not None and _is_hopeless(last):
        return Watch.TERMINATE
    nodes = nodes_of(workflow)
    silent = _silent_seconds(nodes, pods, now)
    if silent <= REPORT_SECONDS or not any(node.awaits_result for node in nodes):
        return Watch.NOTHING
    is_over = last is not None and (last.phase is PodPhase.SUCCEEDED or last.exit_code == EXIT_PERMANENT)
    return Watch.TERMINATE if is_over and silent > TERMINATE_SECONDS else Watch.REPORT


def _is_hopeless(last: AttemptSeen) -> bool:
    """Whether the last attempt failed for good, and not by the exit code that tells Argo so."""
    return last.phase is PodPhase.FAILED and last.exit_code != EXIT_PERMANENT and is_permanent(last)


def _silent_seconds(nodes: Sequence[Node], pods: Sequence[Object], now: datetime) -> float:
    """For how long all pods have been at their end; 0 where one is not, or none ever ended."""
    if any(text_at(pod, "status", "phase") not in ("Succeeded", "Failed") for pod in pods):
        return 0.0
    ends = [end for end in (*map(_end_of, pods), *(n.finished for n in nodes if n.is_pod)) if end]
    return (now - max(ends)).total_seconds() if ends else 0.0


def _end_of(pod: Object) -> datetime | None:
    """When a pod ended: its last container, or what its conditions say where it never had one."""
    states = [field_at(s, "state", "terminated") for s in items_at(pod, "status", "containerStatuses")]
    ends = [moment_at(state, "finishedAt") for state in states]
    ends += [moment_at(c, "lastTransitionTime") for c in items_at(pod, "status", "conditions")]
    return max((end for end in ends if end), default=None)
