"""What the step says that makes a run's claim, while it fails and when it gave up. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import PERMANENT, Reason
from datacube_flows.core import labels
from datacube_flows.core.observation import PodPhase
from datacube_flows.core.observe_pod import main_state
from datacube_flows.core.pod_fields import sentence
from datacube_flows.core.retry import EXIT_PERMANENT
from datacube_flows.engines.argo_nodes import cause_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datacube_flows.core.observation import AttemptSeen
    from datacube_flows.engines.argo_nodes import Node

    Pod = tuple[AttemptSeen, Mapping[str, Any]]

QUOTA: Final = "exceeded quota"
NO_RIGHT: Final = re.compile(r"cannot (get|create) resource")


def claim_awaited(pods: Sequence[Pod], nodes: Sequence[Node]) -> tuple[Reason, str] | None:
    """Returns why the claim is not made yet; None where nothing failed.

    Args:
        pods: of the step, each after what it shows, oldest first.
        nodes: of the workflow.
    """
    failed = _failure(pods, nodes)
    if failed is None:
        return None
    reason = Reason.QUOTA_EXCEEDED if QUOTA in failed[1] else Reason.WAITING_FOR_VOLUME
    return reason, f"{failed[1]} (it is tried again)"


def claim_refused(pods: Sequence[Pod], nodes: Sequence[Node]) -> tuple[Reason, str] | None:
    """Returns why the claim will not be made, of a workflow that has ended; None where that was not the cause."""
    failed = _failure(pods, nodes)
    if failed is None:
        return None
    reason, said, code = failed
    if code == EXIT_PERMANENT:
        return _refusal(said)
    return (reason, said) if reason in PERMANENT else (Reason.RETRIES_EXHAUSTED, said)


def _refusal(said: str) -> tuple[Reason, str]:
    if NO_RIGHT.search(said):
        return Reason.ACCESS_DENIED, f"{said} (give the account of this step the right to get and create claims)"
    return Reason.INVALID_SPEC, f"{said} (change pvc.template)"


def _failure(pods: Sequence[Pod], nodes: Sequence[Node]) -> tuple[Reason, str, int | None] | None:
    """Why the newest attempt failed, and its exit code; None where it did not."""
    newest = pods[-1] if pods else None
    node = next((n for n in reversed(nodes) if n.is_pod and n.step == labels.PROVISION), None)
    if newest is not None and (node is None or newest[0].number >= node.number):
        return _of_pod(*newest)
    if node is None or node.phase not in ("Failed", "Error"):
        return None
    reason, said = cause_of(node)
    return reason, f"the claim could not be made: {said}", node.exit_code


def _of_pod(seen: AttemptSeen, pod: Mapping[str, Any]) -> tuple[Reason, str, int | None] | None:
    if seen.phase is not PodPhase.FAILED:
        return None
    said = sentence(main_state(pod, "terminated"), "message")
    reason, cause = seen.failure
    if seen.reason is None and said:
        return reason, said, seen.exit_code
    return reason, f"the claim could not be made: {cause}", seen.exit_code
