"""Which workflows Argo leaves hanging, and what helps: its controller waits for a result that no pod will give. Pure.

A workflow does not complete while a node's result is awaited; the label `report-outputs-completed` on its
WorkflowTaskResults ends the wait (argoproj/argo-workflows#12103). Where that does not help, it is shut down.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.core import labels
from datacube_flows.core.observation import PodPhase
from datacube_flows.core.pod_fields import field_at, items_at, moment_at, text_at
from datacube_flows.engines.argo_nodes import PENDING, nodes_of, phase_of
from datacube_flows.engines.argo_observe import attempts_of, is_permanent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from datacube_flows.engines.argo_nodes import Node

    Object = Mapping[str, Any]

REPORT_SECONDS: Final = 120
TERMINATE_SECONDS: Final = REPORT_SECONDS + 300

RESULT_LABELS: Final = {"workflows.argoproj.io/report-outputs-completed": "true"}
"""What tells Argo that no more is to come of a pod."""

TERMINATION: Final = {
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
    if _is_hopeless(workflow, pods):
        return Watch.TERMINATE
    nodes = nodes_of(workflow)
    if field_at(workflow, "spec", "suspend") is True or any(map(_is_expected, nodes)):
        return Watch.NOTHING
    silent = _silent_seconds(nodes, pods, now)
    if silent <= REPORT_SECONDS:
        return Watch.NOTHING
    return Watch.REPORT if silent <= TERMINATE_SECONDS else Watch.TERMINATE


def _is_hopeless(workflow: Object | None, pods: Sequence[Object]) -> bool:
    """Whether the last attempt failed for good in a way that Argo cannot tell."""
    attempts = attempts_of(workflow, pods)
    return bool(attempts) and attempts[-1].phase is PodPhase.FAILED and is_permanent(attempts[-1])


def _is_expected(node: Node) -> bool:
    """Whether Argo has a reason to wait: for a lock, for room, for the end of a back-off."""
    waits = node.lock or (node.is_pod and node.phase == PENDING) or node.message.startswith("Backoff for")
    return bool(waits) and not node.has_ended


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
