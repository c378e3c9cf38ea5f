"""From what Argo showed to a status: each recorded scene is a row. Then what no cluster shows on demand."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import Phase
from datacube_flows.core import labels
from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.observation import PodPhase
from datacube_flows.engines.argo_observe import is_stale, observe_run
from datacube_flows.engines.argo_trim import trim_pod, trim_workflow
from tests.argo_scenes import FOLDER, Scene, facts, read_scene
from tests.canary import has_canary

pytestmark = pytest.mark.t0


@dataclass(frozen=True)
class Row:
    """What a scene becomes; `words` stand in the message of the condition that tells."""

    phase: Phase
    reason: Reason | None
    words: str = ""
    attempts: tuple[tuple[int, Reason | None], ...] = ()


def waits(reason: Reason, words: str, *attempts: tuple[int, Reason | None]) -> Row:
    return Row(Phase.PENDING, reason, words, attempts)


def goes_on(reason: Reason | None, words: str, *attempts: tuple[int, Reason | None]) -> Row:
    return Row(Phase.RUNNING, reason, words, attempts)


def fails(reason: Reason, words: str, *attempts: tuple[int, Reason | None]) -> Row:
    return Row(Phase.FAILED, reason, words, attempts)


LATE = (1, Reason.DEADLINE_EXCEEDED)
LOST = (1, Reason.POD_DELETED)
REJECTED = (1, Reason.POD_REJECTED)
NOBODY = (1, Reason.TRANSFER_ERROR)
DENIED = fails(Reason.ACCESS_DENIED, "the store does not know the access key", (1, Reason.ACCESS_DENIED))
MOVED = Row(Phase.SUCCEEDED, Reason.TRANSFER_COMPLETE, "complete", ((1, None),))

ROWS = {
    "provisioning": Row(Phase.PENDING, None),
    "success-early": MOVED,
    "success": MOVED,
    "running": goes_on(None, "", (1, None)),
    "running-noted": goes_on(None, "", (1, None)),
    "denied-early": DENIED,
    "denied": DENIED,
    "deadline-first": goes_on(Reason.DEADLINE_EXCEEDED, "attempt 1 of 2 failed, the next one follows", LATE),
    "deadline": fails(
        Reason.RETRIES_EXHAUSTED, "DeadlineExceeded: the attempt took longer than", LATE, (2, Reason.DEADLINE_EXCEEDED)
    ),
    "lost": goes_on(Reason.POD_DELETED, "attempt 1 of 3 failed, the next one follows", LOST),
    "lost-backoff": goes_on(Reason.POD_DELETED, "attempt 1 of 3 failed, the next one follows", LOST),
    "lost-retried": goes_on(None, "", LOST, (2, None)),
    "terminated": fails(Reason.CANCELLED, "stopped by hand", LOST, (2, Reason.CANCELLED)),
    "locked": waits(Reason.QUEUED, "Mutex/datacube-locked"),
    "suspended": Row(Phase.SUSPENDED, Reason.SUSPENDED, "argo resume"),
    "secret": waits(Reason.WAITING_FOR_SECRET, 'secret "absent" not found', (1, None)),
    "secret-gone": Row(Phase.PENDING, None),
    "secret-again": waits(Reason.WAITING_FOR_SECRET, 'secret "absent" not found', (1, None)),
    "image": waits(Reason.IMAGE_PULL_ERROR, "datacube.test/none:1", (1, None)),
    "quota": waits(Reason.QUOTA_EXCEEDED, "exceeded quota: quota, requested: pods=1"),
    "quota-raised": Row(Phase.PENDING, None, "", ((1, None),)),
    "claim-quota": waits(Reason.QUOTA_EXCEEDED, "claim 'made' was not made"),
    "claim": fails(Reason.INVALID_SPEC, "must be greater than zero (change pvc.template)"),
    "template": fails(Reason.RETRIES_EXHAUSTED, '"datacube-template" not found'),
    "rejected-first": fails(Reason.POD_REJECTED, "change executor.securityContext", REJECTED),
    "rejected": fails(Reason.POD_REJECTED, "change executor.securityContext", REJECTED, (2, Reason.POD_REJECTED)),
    "account-first": goes_on(Reason.TRANSFER_ERROR, 'serviceaccount "nobody" not found', NOBODY),
    "account": fails(Reason.RETRIES_EXHAUSTED, 'serviceaccount "nobody" not found', NOBODY, (2, Reason.TRANSFER_ERROR)),
}


def test_every_recorded_scene_has_a_row() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(ROWS)


@pytest.mark.parametrize("case", ROWS)
def test_recorded_scene_becomes_a_status(case: str) -> None:
    row, scene = ROWS[case], read_scene(case)
    status = fold(initial_status(scene.now), scene.observe(), scene.now)
    told = [(c.reason, c.message or "") for c in status.conditions or () if c.reason]
    reason, message = told[0] if told else (None, "")
    assert (status.phase, reason) == (row.phase, row.reason)
    assert row.words in message
    assert [(a.number, a.reason) for a in status.attempts or ()] == list(row.attempts)


@pytest.mark.parametrize("case", ROWS)
def test_what_is_kept_of_a_scene_tells_the_same(case: str) -> None:
    scene = read_scene(case)
    kept = trimmed(scene)
    assert kept.observe() == scene.observe()
    assert facts(kept) == facts(scene)
    assert is_stale(kept.workflow, kept.pods, kept.plan) == is_stale(scene.workflow, scene.pods, scene.plan)


@pytest.mark.parametrize("case", ROWS)
def test_what_is_kept_is_kept_when_trimmed_again(case: str) -> None:
    kept = trimmed(read_scene(case))
    assert trimmed(kept) == kept


@pytest.mark.parametrize("case", ROWS)
def test_scene_holds_no_secret_and_no_words_of_argos_own_on_retries(case: str) -> None:
    assert not has_canary((FOLDER / f"{case}.json").read_text())
    scene = read_scene(case)
    assert "No more retries left" not in fold(initial_status(scene.now), scene.observe(), scene.now).model_dump_json()


@pytest.mark.parametrize("case", ROWS)
def test_run_is_stale_only_where_argo_knew_no_template(case: str) -> None:
    scene = read_scene(case)
    assert is_stale(scene.workflow, scene.pods, scene.plan) == (case == "template")


def test_pod_of_another_plan_is_of_an_old_template() -> None:
    scene = changed("running")
    workflow_of(scene)["metadata"]["labels"][labels.PLAN] = "123456789abc"
    assert is_stale(scene.workflow, scene.pods, scene.plan)
    assert not is_stale(scene.workflow, (), scene.plan)


def test_run_of_an_operator_that_made_other_plans_is_not_stale() -> None:
    scene = read_scene("running")
    assert not is_stale(scene.workflow, scene.pods, scene.plan.model_copy(update={"retries": 7}))


def trimmed(scene: Scene) -> Scene:
    workflow = scene.workflow and trim_workflow(scene.workflow)
    return replace(scene, workflow=workflow, pods=tuple(map(trim_pod, scene.pods)))


def changed(case: str, *, seconds: float = 0, **parts: Any) -> Scene:
    """A scene some time later, with parts of its workflow's spec or status set."""
    scene = read_scene(case)
    workflow = copy.deepcopy(workflow_of(scene))
    for section, values in parts.items():
        workflow[section] |= values
    return replace(scene, workflow=workflow, now=scene.now + timedelta(seconds=seconds))


def workflow_of(scene: Scene) -> dict[str, Any]:
    assert scene.workflow is not None
    return scene.workflow


def told(scene: Scene) -> tuple[Phase | None, Reason | str | None]:
    status = fold(initial_status(scene.now), scene.observe(), scene.now)
    return status.phase, next((c.reason for c in status.conditions or () if c.reason), None)


def test_workflow_that_nobody_took_up_is_told_after_half_a_minute() -> None:
    scene = read_scene("suspended")
    workflow = copy.deepcopy(workflow_of(scene))
    del workflow["status"], workflow["spec"]["suspend"]
    made = replace(scene, workflow=workflow)
    assert told(made) == (Phase.PENDING, None)
    late, later = (replace(made, now=made.now + timedelta(seconds=s)) for s in (90, 900))
    assert told(late) == (Phase.PENDING, Reason.ENGINE_UNAVAILABLE)
    assert late.observe() == later.observe(), "what does not change is not written again"


def test_workflow_that_argo_holds_back_is_queued() -> None:
    scene = changed("suspended", spec={"suspend": None}, status={"phase": "Pending", "message": "too many"})
    assert scene.observe().waiting == (Reason.QUEUED, "Argo holds the workflow back: too many")


def test_next_attempt_that_does_not_come_is_argos_silence() -> None:
    assert told(changed("deadline-first", seconds=45)) == (Phase.RUNNING, Reason.DEADLINE_EXCEEDED)
    assert told(changed("deadline-first", seconds=120)) == (Phase.RUNNING, Reason.ENGINE_UNRESPONSIVE)


def test_transfer_that_does_not_follow_the_claim_is_argos_silence() -> None:
    made = [p for p in read_scene("success").pods if p["metadata"]["labels"][labels.STEP] == labels.PROVISION]
    scene = replace(changed("provisioning"), pods=tuple(made))
    assert told(scene) == (Phase.PENDING, None)
    later = replace(scene, now=scene.now + timedelta(seconds=300))
    assert told(later) == (Phase.PENDING, Reason.ENGINE_UNRESPONSIVE)


def test_suspension_between_attempts_is_told_of_a_running_run() -> None:
    assert told(changed("deadline-first", spec={"suspend": True})) == (Phase.RUNNING, Reason.SUSPENDED)
    assert told(changed("running", spec={"suspend": True})) == (Phase.RUNNING, None)


def test_attempt_that_is_still_alive_is_awaited_when_the_workflow_is_stopped() -> None:
    assert told(changed("running", spec={"shutdown": "Terminate"})) == (Phase.RUNNING, None)


def test_success_goes_before_a_stop_and_so_does_a_permanent_failure() -> None:
    assert told(changed("success", spec={"shutdown": "Stop"})) == (Phase.SUCCEEDED, Reason.TRANSFER_COMPLETE)
    assert told(changed("denied", spec={"shutdown": "Stop"})) == (Phase.FAILED, Reason.ACCESS_DENIED)


def test_stop_by_the_operator_is_told_by_the_last_attempt() -> None:
    scene = changed("deadline-first", spec={"shutdown": "Terminate"})
    assert told(scene) == (Phase.FAILED, Reason.CANCELLED)
    workflow_of(scene)["metadata"]["annotations"] = {labels.ENDED_BY: "watchdog"}
    status = fold(initial_status(scene.now), scene.observe(), scene.now)
    message = (status.conditions or ())[2].message or ""
    assert message.startswith("the only attempt failed: DeadlineExceeded")


def test_run_of_somebody_elses_workflow_is_told_by_its_pods() -> None:
    scene = replace(read_scene("deadline-first"), workflow=None)
    assert told(scene) == (Phase.RUNNING, Reason.DEADLINE_EXCEEDED)
    assert told(replace(read_scene("denied"), workflow=None)) == (Phase.FAILED, Reason.ACCESS_DENIED)
    assert told(replace(read_scene("deadline"), workflow=None)) == (Phase.FAILED, Reason.RETRIES_EXHAUSTED)


def test_nodes_of_somebody_elses_workflow_tell_nothing() -> None:
    scene = changed("deadline")
    workflow_of(scene)["metadata"]["labels"] = {}
    first = replace(scene, pods=scene.pods[:1])
    assert [a.number for a in first.observe().attempts] == [1]
    assert told(first) == (Phase.FAILED, Reason.RETRIES_EXHAUSTED), "that workflow has ended all the same"


def test_success_whose_pod_is_gone_is_told_by_the_workflow() -> None:
    scene = replace(read_scene("success"), pods=())
    result = fold(initial_status(scene.now), scene.observe(), scene.now).result
    assert told(scene) == (Phase.SUCCEEDED, Reason.TRANSFER_COMPLETE)
    assert result is not None
    assert (result.files, result.path) == (20, "dev/s3")


@pytest.mark.parametrize("case", ["denied", "deadline"])
def test_failure_whose_pods_are_gone_is_told_by_the_workflow(case: str) -> None:
    whole = read_scene(case)
    gone = replace(whole, pods=())
    assert told(gone) == told(whole)
    kept = [(a.number, a.pod, a.failure[0]) for a in whole.observe().attempts]
    assert [(a.number, a.pod, a.failure[0]) for a in gone.observe().attempts] == kept


def test_attempt_that_was_told_to_end_and_whose_pod_is_gone_was_deleted() -> None:
    """Argo quotes what the attempt said of its end, which knows no more than that somebody told it."""
    scene = read_scene("lost")
    node = next(n for n in workflow_of(scene)["status"]["nodes"].values() if n["type"] == "Pod")
    told_to_end = '{"reason":"TransferError","message":"the attempt was told to end before it was done"}'
    node |= {
        "phase": "Failed",
        "outputs": {"exitCode": "143"},
        "message": f"main: Error (exit code 143): {told_to_end}",
    }
    (attempt,) = replace(scene, pods=()).observe().attempts
    assert attempt.failure[0] is Reason.POD_DELETED


def test_pod_that_vanished_still_runs_until_argo_says_otherwise() -> None:
    scene = replace(changed("running"), pods=())
    node = next(n for n in workflow_of(scene)["status"]["nodes"].values() if n["type"] == "Pod")
    node["phase"] = "Running"
    (attempt,) = scene.observe().attempts
    assert (attempt.phase, attempt.status) == (PodPhase.RUNNING, "Unknown")
    node["phase"] = "Pending"
    assert scene.observe().attempts == ()


def test_pod_that_outlives_its_workflow_keeps_no_run_alive() -> None:
    """A pod on a lost node is shown as running for as long as nobody knows better."""
    for case, attempt in (("deadline", Reason.DEADLINE_EXCEEDED), ("terminated", Reason.POD_DELETED)):
        scene = read_scene(case)
        last = scene.pods[-1]
        last["status"] = read_scene("running").pods[0]["status"]
        assert told(scene) == told(read_scene(case))
        seen = scene.observe().attempts[-1]
        assert (seen.pod, seen.failure[0], seen.started is None) == (last["metadata"]["name"], attempt, False)


def test_last_attempt_whose_pod_is_being_deleted_is_argos_to_judge() -> None:
    """Argo makes a pod anew that is gone before it saw it run, also where no retry is left."""
    scene = changed("lost")
    last = replace(scene, plan=scene.plan.model_copy(update={"retries": 0}))
    assert told(last) == (Phase.RUNNING, Reason.POD_DELETED)
    node = next(n for n in workflow_of(last)["status"]["nodes"].values() if n["type"] == "Pod")
    node |= {"phase": "Error", "message": "pod deleted"}
    assert told(last) == (Phase.FAILED, Reason.RETRIES_EXHAUSTED)


def test_of_two_pods_of_one_attempt_the_newer_counts() -> None:
    scene = read_scene("running")
    (pod,) = scene.pods
    old = copy.deepcopy(pod)
    old["metadata"] |= {"name": "before", "creationTimestamp": "2025-01-01T00:00:00Z"}
    old["status"] = {"phase": "Failed", "reason": "Evicted"}
    for pods in ((old, pod), (pod, old)):
        assert [a.pod for a in replace(scene, pods=pods).observe().attempts] == [pod["metadata"]["name"]]


def test_quota_is_not_told_of_a_pod_that_was_made_since() -> None:
    scene = read_scene("quota-raised")
    assert scene.observe().waiting is None
    assert (replace(scene, pods=()).observe().waiting or ("",))[0] is Reason.QUOTA_EXCEEDED


def test_second_attempt_that_waits_is_told_of_a_running_run() -> None:
    first, second = read_scene("deadline-first"), read_scene("secret")
    pod = copy.deepcopy(second.pods[0])
    pod["metadata"]["labels"][labels.ATTEMPT] = "2"
    scene = replace(first, pods=(*first.pods, pod))
    assert told(scene) == (Phase.RUNNING, Reason.WAITING_FOR_SECRET)


def test_what_is_kept_of_a_pod_names_its_folder_of_its_claim() -> None:
    (pod,) = read_scene("running").pods
    spec = trim_pod(pod)["spec"]
    (main,) = spec["containers"]
    assert [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"]] == ["given"]
    assert [(m["name"], m["subPath"]) for m in main["volumeMounts"]] == [("data", "dev/s3")]
    assert main["args"] == ["--sub-path=dev/s3"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PLACES = st.sampled_from(
    ["metadata", "spec", "status", "phase", "nodes", "labels", "displayName", "outputs", "message", "templateName"]
)


def spoil(value: Any, name: str, junk: Any) -> None:
    """Puts junk wherever a field has this name."""
    if isinstance(value, dict):
        for key in list(value):
            spoil(value[key], name, junk)
            value[key] = junk if key == name else value[key]
    elif isinstance(value, list):
        for part in value:
            spoil(part, name, junk)


@given(st.sampled_from(sorted(ROWS)), PLACES, JUNK)
def test_spoilt_scene_still_has_a_status(case: str, name: str, junk: Any) -> None:
    scene = read_scene(case)
    spoil(scene.workflow, name, junk)
    for pod in scene.pods:
        spoil(pod, name, junk)
    for seen in (scene, trimmed(scene)):
        status = fold(initial_status(seen.now), seen.observe(), seen.now)
        assert status.phase in set(Phase)
        is_stale(seen.workflow, seen.pods, seen.plan)


def test_nothing_that_is_known_is_pending() -> None:
    scene = read_scene("running")
    seen = observe_run(scene.plan, None, (), scene.now)
    assert (seen.attempts, seen.waiting, seen.said, seen.ended) == ((), None, None, None)
