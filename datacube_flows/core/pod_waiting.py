"""Why a pod does not run yet, from its own conditions and its events: one of the waiting reasons. Pure, never raises.

The kubelet and the scheduler say it in sentences; each row below knows a part of one. A row's order is its precedence.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core.observe_pod import condition, main_state
from datacube_flows.core.pod_fields import int_at, sentence, text_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Waiting = tuple[Reason, str]
Row = tuple[str, Reason, str]
"""A pattern, the reason that it means, and what to do."""

IMAGE_WORDS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)

_CREATE_IT: Final = "create it: the attempt then starts by itself"

NOT_CREATED: Final[tuple[Row, ...]] = (
    (r"[Ss]ecret|[Cc]onfig[Mm]ap|couldn't find key", Reason.WAITING_FOR_SECRET, _CREATE_IT),
    (
        r"subPath",
        Reason.WAITING_FOR_VOLUME,
        "the folder of 'subPath' cannot be mounted: it may not be a link out of the volume, nor anything but a folder",
    ),
    (r"non-?[Rr]oot", Reason.POD_REJECTED, "give executor.securityContext.runAsUser another user than root"),
    (r"", Reason.POD_REJECTED, "the node cannot make the container"),
)
"""What the kubelet says beside CreateContainerConfigError and CreateContainerError."""

UNSCHEDULED: Final[tuple[Row, ...]] = (
    (r"ReadWriteOncePod", Reason.VOLUME_BUSY, "another pod holds the claim: wait for its end"),
    (r"persistentvolumeclaim \"[^\"]*\" not found", Reason.WAITING_FOR_VOLUME, "create the claim"),
    (
        r"unbound|persistent ?volume|volume node affinity|binding volumes",
        Reason.WAITING_FOR_VOLUME,
        "look at the claim: its storage class, size and access modes",
    ),
    (r"", Reason.UNSCHEDULABLE, "look at the nodes' room, and at executor's nodeSelector, affinity and resources"),
)
"""What the scheduler says."""

EVENTS: Final[tuple[Row, ...]] = (
    (
        r"^FailedAttachVolume .*Multi-Attach",
        Reason.VOLUME_BUSY,
        "another node holds the volume: wait for its pods' end",
    ),
    (r"^FailedMount .*([Ss]ecret|[Cc]onfig[Mm]ap)", Reason.WAITING_FOR_SECRET, _CREATE_IT),
    (r"^Failed(Mount|AttachVolume|MapVolume) ", Reason.WAITING_FOR_VOLUME, "look at the volume and its driver"),
    (r"^ProvisioningFailed ", Reason.WAITING_FOR_VOLUME, "look at the claim's storage class"),
    (r"^FailedCreatePodSandBox ", Reason.UNSCHEDULABLE, "the node cannot start pods: look at its network"),
    (r"^FailedScheduling .*volume", Reason.WAITING_FOR_VOLUME, "look at the claim"),
)
"""What events say of a pod whose own status says nothing: `reason message`, newest first."""


REFUSED: Final[tuple[Row, ...]] = (
    (r"service ?account", Reason.TRANSFER_ERROR, "create the account that runs attempts"),
    (
        r"violates PodSecurity",
        Reason.POD_REJECTED,
        "change executor.securityContext, or the level that the namespace enforces",
    ),
    (r"is forbidden|is invalid|admission webhook", Reason.POD_REJECTED, "the cluster admits no such pod"),
)
"""What the API server says where it takes no such pod."""


def refused_reason(said: str) -> Waiting | None:
    """Returns why the API server took no pod, and what to do; None where it says something else."""
    return _find(REFUSED, said)


def waiting_reason(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = ()) -> Waiting | None:
    """Returns why a pod waits and what to do, None when it does not wait, or only for a moment.

    Args:
        pod: as the API shows it, or a part of it.
        events: those of the pod and of its claim, in any order.
    """
    if text_at(pod, "status", "phase") not in ("", "Pending"):
        return None
    return _of_container(pod) or _of_scheduling(pod) or _of_events(events)


def _of_container(pod: Mapping[str, Any]) -> Waiting | None:
    waiting = main_state(pod, "waiting")
    word = text_at(waiting, "reason")
    if word in IMAGE_WORDS:
        said = sentence(waiting, "message")
        return (
            Reason.IMAGE_PULL_ERROR,
            f"{_said(word, said)} (check the image's name, the registry and imagePullSecrets)",
        )
    if word in ("CreateContainerConfigError", "CreateContainerError"):
        return _match(NOT_CREATED, sentence(waiting, "message"), word)
    return None


def _of_scheduling(pod: Mapping[str, Any]) -> Waiting | None:
    scheduled = condition(pod, "PodScheduled")
    if text_at(scheduled, "status") != "False":
        return None
    if text_at(scheduled, "reason") == "SchedulingGated":
        return Reason.QUEUED, "the pod is held by a scheduling gate: whoever set it lets it go"
    return _match(UNSCHEDULED, sentence(scheduled, "message"), text_at(scheduled, "reason"))


def _of_events(events: Sequence[Mapping[str, Any]]) -> Waiting | None:
    for event in sorted(events, key=_age, reverse=True):
        said = sentence(event, "message")
        if found := _find(EVENTS, f"{text_at(event, 'reason')} {said}"):
            return found[0], f"{said} ({found[1]})"
    return None


def _age(event: Mapping[str, Any]) -> tuple[str, int]:
    """Sorts events by their last moment, in the API's own form, and how often they were seen."""
    when = (
        text_at(event, "lastTimestamp") or text_at(event, "series", "lastObservedTime") or text_at(event, "eventTime")
    )
    return when, int_at(event, "count") or 0


def _match(rows: Iterable[Row], said: str, word: str) -> Waiting | None:
    found = _find(rows, said)
    return (found[0], f"{_said(word, said)} ({found[1]})") if found else None


def _find(rows: Iterable[Row], text: str) -> Waiting | None:
    return next(((reason, advice) for pattern, reason, advice in rows if re.search(pattern, text)), None)


def _said(word: str, said: str) -> str:
    return said or word or "no cause was given"
