"""Reads the nodes of a workflow's status: which stand for attempts, and what Argo says of those without a pod. Pure.

Argo keeps a node per pod, also for a pod that it could not make or that is gone; `displayName` counts them from 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import MAX_COUNT, MAX_REVISION, TransferReport, parse_report
from datacube_flows.core import labels
from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.core.pod_fields import field_at, items_at, moment_at, sentence, text_at
from datacube_flows.core.pod_waiting import refused_reason
from datacube_flows.core.retry import EXIT_TERMINATED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

PENDING: Final = "Pending"
ENDED: Final = frozenset({"Succeeded", "Failed", "Error"})
"""Phases of workflows and nodes after which nothing happens."""

COMPLETED: Final = "workflows.argoproj.io/completed"
"""Label of a workflow that Argo is done with."""

MAX_NAME: Final = 253
MAX_PATH: Final = 4096

Cause = tuple[str, Reason, str]
"""A pattern of what Argo says, the reason that it means, and what to do."""

GONE: Final[tuple[Cause, ...]] = (
    (r"^pod deleted$", Reason.POD_DELETED, "the pod was deleted, or its node is gone"),
    (
        r"longer than the specified deadline",
        Reason.DEADLINE_EXCEEDED,
        "the attempt took longer than its deadline: raise activeDeadlineSeconds, or let it go on with backoffLimit",
    ),
    (
        r"^main: OOMKilled ",
        Reason.OOM_KILLED,
        "the attempt took more memory than its limit: raise resources.limits.memory",
    ),
    (r"node was low on resource", Reason.EVICTED, "the node ran short of something and ended the pod"),
)
"""Why an attempt failed whose pod is gone, and which left no report: in the words of `observe_pod`."""

PHASES: Final = {"Succeeded": PodPhase.SUCCEEDED, "Running": PodPhase.RUNNING}
WORDS: Final = {PodPhase.SUCCEEDED: "Completed", PodPhase.RUNNING: "Unknown", PodPhase.FAILED: "Error"}
"""What stands for kubectl's STATUS where no pod is."""

_INDEX: Final = re.compile(r"\((\d{1,4})\)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a workflow.

    Attributes:
        step: name of the template that it runs.
        number: which attempt of its step it is, 1 for the first; 0 for what is no attempt of anything.
        report: what its container said at its end, which Argo quotes where it failed.
        lock: what it waits for, "" when it waits for no lock.
        outputs: parameters that its pod left.
        awaits_result: whether Argo waits for a word from beside the container, also after the pod's end.
    """

    id: str
    step: str
    type: str
    number: int
    phase: str
    message: str
    report: TransferReport | None
    lock: str
    finished: datetime | None
    exit_code: int | None
    outputs: dict[str, str]
    awaits_result: bool

    @property
    def is_pod(self) -> bool:
        """Whether a pod does its work, or should."""
        return self.type == "Pod" and self.number > 0

    @property
    def is_attempt(self) -> bool:
        """Whether it is an attempt of the transfer."""
        return self.is_pod and self.step == labels.TRANSFER

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.phase in ENDED


def nodes_of(workflow: Mapping[str, Any] | None) -> tuple[Node, ...]:
    """Returns the nodes of a workflow; those of a step in the order of their attempts."""
    nodes = field_at(workflow, "status", "nodes")
    found = [_node(str(key), node) for key, node in nodes.items()] if isinstance(nodes, dict) else []
    return tuple(sorted(found, key=lambda node: (node.number, node.id)))


def attempt_of(node: Node, workflow: str) -> AttemptSeen:
    """Returns the attempt that a node stands for whose pod is not to be seen: it is gone, or there never was one."""
    phase = PHASES.get(node.phase, PodPhase.FAILED)
    is_told = phase is not PodPhase.FAILED or (node.report is not None and node.exit_code != EXIT_TERMINATED)
    reason, message = (None, "") if is_told else cause_of(node)
    return AttemptSeen(
        number=node.number,
        pod="" if is_refused(node) else _pod_name(node, workflow),
        phase=phase,
        status=WORDS[phase],
        finished=node.finished,
        exit_code=0 if phase is PodPhase.SUCCEEDED else node.exit_code,
        reason=reason,
        report=_success(node) if phase is PodPhase.SUCCEEDED else node.report,
        message=message,
    )


def cause_of(node: Node) -> tuple[Reason, str]:
    """Returns why a node failed whose pod tells nothing."""
    if refused := _refusal(node):
        return refused[0], f"the pod could not be made: {node.message} ({refused[1]})"
    if row := _find(GONE, node.message):
        return row[1], row[2]
    if node.exit_code == EXIT_TERMINATED:
        return Reason.POD_DELETED, "the attempt was told to end, and its pod is gone: somebody deleted it, or its node"
    said = node.message or "no cause was given"
    return Reason.TRANSFER_ERROR, f"the attempt's pod is gone; Argo says: {said}"


def is_refused(node: Node) -> bool:
    """Whether the cluster did not let Argo make the pod of a node."""
    return _refusal(node) is not None


def phase_of(workflow: Mapping[str, Any] | None) -> str:
    """Returns the phase of a workflow, "" where Argo has not taken it up."""
    return text_at(workflow, "status", "phase")


def has_ended(workflow: Mapping[str, Any] | None) -> bool:
    """Whether Argo starts nothing more for a workflow; one that is not known may go on."""
    return phase_of(workflow) in ENDED or text_at(workflow, "metadata", "labels", COMPLETED) == "true"


def _refusal(node: Node) -> tuple[Reason, str] | None:
    """Argo's words on a pod that it could not make begin with its kind; those on one that ran, with a container's."""
    if node.phase != "Error" or node.exit_code is not None:
        return None
    return refused_reason(node.message)


def _find(rows: tuple[Cause, ...], text: str) -> Cause | None:
    return next((row for row in rows if re.search(row[0], text)), None)


def _node(key: str, node: object) -> Node:
    index = _INDEX.search(text_at(node, "displayName"))
    code = text_at(node, "outputs", "exitCode")
    parameters = items_at(node, "outputs", "parameters")
    return Node(
        id=key,
        step=text_at(node, "templateName"),
        type=text_at(node, "type"),
        number=int(index[1]) + 1 if index else 0,
        phase=text_at(node, "phase"),
        message=sentence(node, "message"),
        report=parse_report(text_at(node, "message").partition("): ")[2]),
        lock=text_at(node, "synchronizationStatus", "waiting"),
        finished=moment_at(node, "finishedAt"),
        exit_code=_count(code) if code else None,
        outputs={text_at(p, "name"): text_at(p, "value") for p in parameters},
        awaits_result=field_at(node, "taskResultSynced") is False,
    )


def _success(node: Node) -> TransferReport:
    """What a success left in Argo's outputs, as far as it is a report."""
    said = node.outputs.get
    return TransferReport(
        Reason.TRANSFER_COMPLETE,
        files=_count(said("files", "")),
        bytes=_count(said("bytes", "")),
        revision=said("revision", "")[:MAX_REVISION],
        path=said("path", "")[:MAX_PATH],
    )


def _count(text: str) -> int:
    """A whole number that was written down; 0 for anything else."""
    is_number = text.isascii() and text.isdigit() and len(text) < len(str(MAX_COUNT))
    return int(text) if is_number else 0


def _pod_name(node: Node, workflow: str) -> str:
    """The name that Argo gave the pod: the workflow's, the template's and the node's hash (util.GeneratePodName)."""
    return f"{workflow}-{node.step}-{node.id.rpartition('-')[2]}"[:MAX_NAME]
