"""What is concluded from pods: each file in `observed/` is what a real cluster showed of one, and has a row here.

`tests/cluster/pods` makes these files, and holds them against the cluster of the day.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.reasons import RETRIED, Reason
from datacube_flows.api.status import Phase
from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.observation import AttemptSeen, Observation, PodPhase
from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.core.pod_waiting import waiting_reason
from tests.canary import has_canary

pytestmark = pytest.mark.t0

FOLDER = Path(__file__).parent / "observed"
NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    """What is to be concluded.

    Attributes:
        reason: of the condition that speaks: Initialized while it waits, else Complete or Failed.
        words: stand in that condition's message.
    """

    phase: Phase
    reason: Reason | None
    words: str
    attempt: Reason | None = None
    code: int | None = None
    started: bool = True


def waits(reason: Reason, words: str) -> Row:
    return Row(Phase.PENDING, reason, words, started=False)


def fails(reason: Reason, words: str, code: int | None) -> Row:
    outcome = Reason.RETRIES_EXHAUSTED if reason in RETRIED else reason
    return Row(Phase.FAILED, outcome, words, reason, code)


ROWS = {
    "git-download": Row(Phase.SUCCEEDED, Reason.TRANSFER_COMPLETE, "complete", code=0),
    "up-to-date": Row(Phase.SUCCEEDED, Reason.UP_TO_DATE, "complete", code=0),
    "running": Row(Phase.RUNNING, None, "initialized"),
    "pod-deleting": Row(Phase.RUNNING, None, "initialized"),
    "access-denied": fails(Reason.ACCESS_DENIED, "token", 65),
    "source-missing": fails(Reason.NOT_FOUND, "dev/hf/whisper-large-v3", 65),
    "disk-too-small": fails(Reason.DISK_FULL, "needs 30000000 bytes", 65),
    "disk-fills": fails(Reason.DISK_FULL, "No space left on device", 65),
    "deadline": fails(Reason.DEADLINE_EXCEEDED, "longer than 5 s: raise activeDeadlineSeconds", 143),
    "out-of-memory": fails(Reason.OOM_KILLED, "limit of 24Mi: raise resources.limits.memory", 137),
    "pod-deleted": fails(Reason.POD_DELETED, "the pod was deleted", 143),
    "evicted": fails(Reason.EVICTED, "the pod was evicted", 143),
    "scratch-full": fails(Reason.EVICTED, "EmptyDir", 137),
    "not-started": fails(Reason.TRANSFER_ERROR, "no-such-program", 128),
    "secret-missing": waits(Reason.WAITING_FOR_SECRET, 'secret "late" not found (create it'),
    "secret-key-missing": waits(Reason.WAITING_FOR_SECRET, "couldn't find key nokey in Secret team/github-token"),
    "sub-path-escapes": waits(Reason.WAITING_FOR_VOLUME, "may not be a link out of the volume"),
    "image-missing": waits(Reason.IMAGE_PULL_ERROR, "datacube.test/none:1"),
    "image-unreachable": waits(Reason.IMAGE_PULL_ERROR, "imagePullSecrets"),
    "claim-missing": waits(Reason.WAITING_FOR_VOLUME, '"nowhere" not found'),
    "claim-unbound": waits(Reason.WAITING_FOR_VOLUME, "storage class"),
    "claim-refused": waits(Reason.WAITING_FOR_VOLUME, "ReadWriteOnce"),
    "no-room": waits(Reason.UNSCHEDULABLE, "Insufficient memory"),
}


def observed(case: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{case}.json").read_text())
    return found


def observation(case: str) -> Observation:
    found = observed(case)
    return Observation((observe_pod(found["pod"]),), waiting=waiting_reason(found["pod"], found["events"]))


def test_every_observed_pod_has_a_row() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(ROWS)


@pytest.mark.parametrize("case", ROWS)
def test_observed_pod_becomes_a_status(case: str) -> None:
    row, seen = ROWS[case], observation(case)
    status = fold(initial_status(NOW), seen, NOW)
    initialized, complete, failed = status.conditions or ()
    speaks = {Phase.SUCCEEDED: complete, Phase.FAILED: failed}.get(row.phase, initialized)
    assert (status.phase, speaks.reason) == (row.phase, row.reason)
    assert row.words in (speaks.message or "")
    assert initialized.status == ("True" if row.started else "False")
    (attempt,) = status.attempts or ()
    assert (attempt.reason, attempt.exit_code) == (row.attempt, row.code)
    assert (attempt.start_time is not None, attempt.number) == (row.started, 1)


@pytest.mark.parametrize("case", ROWS)
def test_status_word_is_the_one_that_kubectl_shows(case: str) -> None:
    assert observe_pod(observed(case)["pod"]).status == observed(case)["kubectl"]


@pytest.mark.parametrize("case", ROWS)
def test_observed_pod_holds_no_secret(case: str) -> None:
    assert not has_canary((FOLDER / f"{case}.json").read_text())


@pytest.mark.parametrize("case", [c for c, row in ROWS.items() if row.phase is Phase.PENDING])
def test_message_of_a_waiting_pod_says_what_to_do(case: str) -> None:
    _, message = observation(case).waiting or (None, "")
    assert message.endswith(")")
    assert "\n" not in message


def test_report_survives_the_deadline() -> None:
    report = observe_pod(observed("deadline")["pod"]).report
    assert report is not None
    assert report.reason is Reason.TRANSFER_ERROR


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"} | metadata, "status": status}


def main(name: str = "main", **state: Any) -> list[dict[str, Any]]:
    return [{"name": name, "state": state}]


def ended(code: int, reason: str = "Error", **more: Any) -> list[dict[str, Any]]:
    return main(terminated={"exitCode": code, "reason": reason} | more)


def cause(status: dict[str, Any], **metadata: Any) -> tuple[Reason, str]:
    return observe_pod(pod({"phase": "Failed"} | status, **metadata)).failure


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("Evicted", Reason.EVICTED),
        ("Terminated", Reason.EVICTED),
        ("NodeShutdown", Reason.EVICTED),
        ("Preempting", Reason.EVICTED),
        ("OutOfcpu", Reason.EVICTED),
        ("OutOfpods", Reason.EVICTED),
        ("NodeLost", Reason.NODE_LOST),
        ("SysctlForbidden", Reason.POD_REJECTED),
    ],
)
def test_pod_that_a_node_gave_up_is_told_from_a_failed_transfer(word: str, reason: Reason) -> None:
    assert cause({"reason": word, "message": "node said so."})[0] is reason
    assert cause({"reason": word, "message": "node said so."})[1].endswith(": node said so")


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("DeletionByTaintManager", Reason.NODE_LOST),
        ("DeletionByPodGC", Reason.NODE_LOST),
        ("EvictionByEvictionAPI", Reason.EVICTED),
        ("PreemptionByScheduler", Reason.EVICTED),
        ("TerminationByKubelet", Reason.EVICTED),
    ],
)
def test_disrupted_pod_says_by_whom(why: str, reason: Reason) -> None:
    conditions = [{"type": "DisruptionTarget", "status": "True", "reason": why}]
    assert cause({"conditions": conditions, "containerStatuses": ended(143)})[0] is reason


def test_deleted_pod_that_had_failed_before_keeps_its_own_reason() -> None:
    gone = {"deletionTimestamp": "2026-01-01T00:10:00Z", "deletionGracePeriodSeconds": 30}
    before, after = "2026-01-01T00:09:00Z", "2026-01-01T00:09:40Z"
    assert cause({"containerStatuses": ended(1, finishedAt=before)}, **gone)[0] is Reason.TRANSFER_ERROR
    assert cause({"containerStatuses": ended(143, finishedAt=after)}, **gone)[0] is Reason.POD_DELETED
    moved = gone | {"deletionTimestamp": "2026-01-01T00:09:41Z", "deletionGracePeriodSeconds": 0}
    assert cause({"containerStatuses": ended(143, finishedAt=after)}, **moved)[0] is Reason.POD_DELETED
    report = '{"reason":"AccessDenied","message":"no"}'
    own = ended(65, finishedAt=after, message=report)
    assert cause({"containerStatuses": own}, **gone)[0] is Reason.ACCESS_DENIED


def test_success_is_seen_while_an_engines_container_still_runs() -> None:
    statuses = [*ended(0, "Completed"), {"name": "wait", "state": {"running": {}}}]
    assert observe_pod(pod({"phase": "Running", "containerStatuses": statuses})).phase is PodPhase.SUCCEEDED


def test_failure_waits_for_the_pods_own_word() -> None:
    statuses = [*ended(143), {"name": "wait", "state": {"running": {}}}]
    assert observe_pod(pod({"phase": "Running", "containerStatuses": statuses})).phase is PodPhase.RUNNING


def test_other_containers_are_not_looked_at() -> None:
    statuses = [*main("sidecar", waiting={"reason": "ImagePullBackOff"}), *main(running={"startedAt": "x"})]
    assert waiting_reason(pod({"phase": "Pending", "containerStatuses": statuses})) is None


def test_text_that_is_no_report_is_not_quoted() -> None:
    seen = observe_pod(pod({"phase": "Failed", "containerStatuses": ended(1, message="Traceback: hunter2")}))
    assert (seen.report, "hunter2" in seen.failure[1]) == (None, False)


def test_number_comes_from_the_label() -> None:
    labels = {"datacube.tensorstack.dev/attempt": "3"}
    assert observe_pod(pod({}, labels=labels)).number == 3


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("FailedAttachVolume", 'Multi-Attach error for volume "v"', Reason.VOLUME_BUSY),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "ca" : configmap "ca" not found',
            Reason.WAITING_FOR_SECRET,
        ),
        ("FailedMount", "Unable to attach or mount volumes", Reason.WAITING_FOR_VOLUME),
        ("ProvisioningFailed", "no space left in pool", Reason.WAITING_FOR_VOLUME),
        ("FailedCreatePodSandBox", "network plugin is not ready", Reason.UNSCHEDULABLE),
        ("Pulled", "image is present", None),
    ],
)
def test_event_says_why_a_container_is_not_made(reason: str, message: str, expected: Reason | None) -> None:
    events = [{"reason": reason, "message": message, "lastTimestamp": "2026-01-01T00:00:01Z"}]
    found = waiting_reason(pod({"phase": "Pending"}), events)
    assert (found and found[0]) == expected


def test_newest_event_is_the_one_that_counts() -> None:
    old = {"reason": "FailedMount", "message": "timed out", "lastTimestamp": "2026-01-01T00:00:01Z"}
    new = {"reason": "FailedCreatePodSandBox", "message": "no address", "lastTimestamp": "2026-01-01T00:00:09Z"}
    assert waiting_reason(pod({"phase": "Pending"}), [new, old]) == waiting_reason(
        pod({"phase": "Pending"}), [old, new]
    )
    assert (waiting_reason(pod({"phase": "Pending"}), [new, old]) or ("",))[0] is Reason.UNSCHEDULABLE


def test_pod_whose_container_is_about_to_start_is_pending_for_no_reason() -> None:
    seen = pod({"phase": "Pending", "containerStatuses": main(waiting={"reason": "ContainerCreating"})})
    assert waiting_reason(seen) is None
    status = fold(initial_status(NOW), Observation((observe_pod(seen),)), NOW)
    assert (status.phase, (status.conditions or ())[0].reason) == (Phase.PENDING, None)


def test_gated_pod_is_queued() -> None:
    gate = [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]
    seen = pod({"phase": "Pending", "conditions": gate})
    assert (waiting_reason(seen) or ("",))[0] is Reason.QUEUED
    assert observe_pod(seen).status == "SchedulingGated"


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES = (
    ("metadata",),
    ("metadata", "name"),
    ("metadata", "labels"),
    ("metadata", "deletionTimestamp"),
    ("metadata", "deletionGracePeriodSeconds"),
    ("spec",),
    ("spec", "activeDeadlineSeconds"),
    ("spec", "containers"),
    ("status",),
    ("status", "phase"),
    ("status", "reason"),
    ("status", "message"),
    ("status", "conditions"),
    ("status", "containerStatuses"),
    ("status", "containerStatuses", "state"),
    ("status", "containerStatuses", "state", "terminated"),
    ("status", "containerStatuses", "state", "terminated", "exitCode"),
    ("status", "containerStatuses", "state", "terminated", "finishedAt"),
    ("status", "containerStatuses", "state", "terminated", "startedAt"),
    ("status", "containerStatuses", "state", "terminated", "message"),
    ("status", "containerStatuses", "state", "waiting"),
    ("status", "containerStatuses", "state", "waiting", "message"),
)


def spoil(value: Any, path: tuple[str, ...], junk: Any) -> None:
    """Puts junk at a place of the object, if it has that place."""
    for key in path[:-1]:
        value = value.get(key) if isinstance(value, dict) else None
        value = value[0] if isinstance(value, list) and value else value
    if isinstance(value, dict):
        value[path[-1]] = junk


@given(st.sampled_from(sorted(ROWS)), st.lists(st.tuples(st.sampled_from(PLACES), JUNK), max_size=4))
def test_spoilt_pod_is_still_an_attempt(case: str, junk: list[tuple[tuple[str, ...], Any]]) -> None:
    found = observed(case)
    for path, value in junk:
        spoil(found["pod"], path, value)
    concludes(found["pod"], found["events"])


@given(
    st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), JUNK), st.lists(st.dictionaries(st.text(), JUNK))
)
def test_anything_is_an_attempt(value: dict[str, Any], events: list[dict[str, Any]]) -> None:
    concludes(value, events)


def concludes(value: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """Looks that something is concluded, that it can be written as a status, and that it can be read again."""
    seen, waiting = observe_pod(value), waiting_reason(value, events)
    assert isinstance(seen, AttemptSeen)
    assert seen.number >= 1
    wire = fold(initial_status(NOW), Observation((seen,), waiting=waiting), NOW).to_wire()
    assert json.loads(json.dumps(wire))["phase"] in set(Phase)
