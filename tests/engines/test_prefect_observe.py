"""A run in Prefect as its pods and what is remembered show it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from datacube_flows.api.datacube import DataCube
from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import TransferReport
from datacube_flows.api.status import AttemptStatus
from datacube_flows.core import labels
from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.core.plan import make_plan
from datacube_flows.core.retry import exit_code
from datacube_flows.engines.prefect_observe import attempt_cancelled, attempt_lost, attempt_told, observe_flow

pytestmark = pytest.mark.t0

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PLAN = make_plan(
    DataCube.model_validate(
        {
            "apiVersion": "tensorstack.dev/v1beta1",
            "kind": "DataCube",
            "metadata": {"name": "cube", "namespace": "team", "uid": "uid"},
            "spec": {
                "source": {"type": "s3", "options": [{"name": "s3-uri", "value": "s3://bucket/set"}]},
                "sink": {"type": "pvc", "pvc": {"name": "data"}},
                "executor": {"options": {"backoffLimit": 1}},
            },
        }
    )
)


def pod(number: int, phase: str = "Running", reason: Reason | None = None, **about: Any) -> dict[str, Any]:
    """A pod of an attempt; with a reason, one that ended for it."""
    state: dict[str, Any] = {"running": {"startedAt": "2030-01-01T00:00:00Z"}}
    if reason is not None:
        report = TransferReport(reason, message="as the test says").render()
        state = {"terminated": {"exitCode": exit_code(reason), "message": report, "finishedAt": "2030-01-01T00:00:01Z"}}
    metadata = {"name": f"cube-{number}", "uid": f"uid-{number}", "labels": {labels.ATTEMPT: str(number)}, **about}
    container = {"name": "main", "state": state}
    return {"metadata": metadata, "spec": {}, "status": {"phase": phase, "containerStatuses": [container]}}


def test_failed_attempt_is_followed_by_another_as_long_as_there_are_some() -> None:
    first = pod(1, "Failed", Reason.SERVER_ERROR)
    seen = observe_flow(PLAN, [first])
    assert seen.will_retry
    assert seen.said == (Reason.SERVER_ERROR, "attempt 1 of 2 failed, the next one follows: as the test says")
    assert not observe_flow(PLAN, [first, pod(2, "Failed", Reason.SERVER_ERROR)]).will_retry
    assert not observe_flow(PLAN, [pod(1, "Failed", Reason.NOT_FOUND)]).will_retry


def test_attempt_whose_pod_is_gone_counts_as_it_was_remembered() -> None:
    lost = attempt_lost(PLAN, 1, None, NOW)
    seen = observe_flow(PLAN, [pod(2)], [lost])
    assert [(a.number, a.phase, a.reason) for a in seen.attempts] == [
        (1, PodPhase.FAILED, Reason.POD_DELETED),
        (2, PodPhase.RUNNING, None),
    ]


def test_attempt_that_was_ended_stays_so_while_its_pod_is_on_its_way_out() -> None:
    running = observe_flow(PLAN, [pod(1)]).attempts[0]
    ended = attempt_cancelled(running, "somebody cancelled it", NOW)
    seen = observe_flow(
        PLAN, [pod(1, deletionTimestamp="2030-01-01T00:00:00Z")], [ended], ended=(Reason.CANCELLED, "x")
    )
    assert (seen.attempts, seen.ended) == ((ended,), (Reason.CANCELLED, "x"))


def test_success_counts_more_than_a_cancellation_that_came_too_late() -> None:
    seen = observe_flow(PLAN, [pod(1, "Succeeded", Reason.TRANSFER_COMPLETE)], ended=(Reason.CANCELLED, "x"))
    assert seen.has_succeeded
    assert seen.ended is None
    assert attempt_cancelled(seen.attempts[0], "x", NOW) is seen.attempts[0]


def test_pod_that_waits_tells_why_unless_the_run_has_something_to_say() -> None:
    waiting = {"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}}
    pending = pod(1, "Pending") | {"status": {"phase": "Pending", "containerStatuses": [waiting]}}
    seen = observe_flow(PLAN, [pending])
    assert seen.waiting is not None
    assert seen.waiting[0] is Reason.IMAGE_PULL_ERROR
    assert observe_flow(PLAN, [], waiting=(Reason.QUEUED, "place 2")).waiting == (Reason.QUEUED, "place 2")


@pytest.mark.parametrize(
    ("condition", "reason"),
    [("EvictionByEvictionAPI", Reason.EVICTED), ("DeletionByTaintManager", Reason.NODE_LOST), ("", Reason.POD_DELETED)],
)
def test_pod_that_is_gone_is_told_of_in_its_last_words(condition: str, reason: Reason) -> None:
    last = pod(1)
    last["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": condition}]
    lost = attempt_lost(PLAN, 1, last, NOW)
    assert (lost.phase, lost.failure[0], lost.finished, lost.uid) == (PodPhase.FAILED, reason, NOW, "uid-1")


@pytest.mark.parametrize("reason", [None, "ServerError"])
def test_attempt_is_read_back_from_the_status(reason: str | None) -> None:
    told = AttemptStatus(number=3, pod="cube-3", start_time=NOW, reason=reason, exit_code=75 if reason else None)
    seen: AttemptSeen = attempt_told(told)
    assert (seen.number, seen.pod, seen.started, seen.exit_code) == (3, "cube-3", NOW, told.exit_code)
    assert seen.phase is (PodPhase.FAILED if reason else PodPhase.RUNNING)
