"""What others do to a DataCube while the operator looks: foreign runs, forgeries, deletions, claims, time."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator.resource import CLAIMS, DATACUBES, PODS, WORKFLOWS

from datacube_flows.api.reasons import Reason
from datacube_flows.core import labels
from datacube_flows.core.plan import TransferPlan
from tests.controller.decision_objects import made, moment, plan_of, pod_of
from tests.controller.fake_clock import FakeClock
from tests.controller.reconcile_bench import Bench
from tests.controller.scenarios_documents import download, with_spec

pytestmark = [pytest.mark.t0, pytest.mark.anyio]

Object = dict[str, Any]


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


async def held(bench: Bench) -> TransferPlan:
    """Has a DataCube whose template is there for others."""
    plan = await bench.begin(with_spec(download("cube"), suspend=True))
    assert bench.phase() == "Suspended"
    return plan


def train(bench: Bench, plan: TransferPlan, name: str, phase: str = "Running", **options: Any) -> None:
    """Has somebody else's workflow run the template."""
    bench.api.put(WORKFLOWS, {"metadata": {"name": name, "namespace": "team"}, "status": {"phase": "Running"}})
    bench.api.put(PODS, pod_of(plan, name, phase, **options))


async def test_status_goes_from_one_foreign_run_to_the_next(bench: Bench) -> None:
    plan = await held(bench)
    train(bench, plan, "first")
    await bench.settle()
    assert (bench.phase(), bench.cube().run) == ("Running", "first")
    train(bench, plan, "first", "Succeeded")
    await bench.settle()
    assert (bench.phase(), bench.cube().run) == ("Succeeded", "first")
    train(bench, plan, "second", seconds=60)
    await bench.settle()
    assert (bench.phase(), bench.cube().run) == ("Running", "second")
    assert [a.pod for a in bench.cube().status.attempts or ()] == ["second-transfer-1"]
    train(bench, plan, "second", "Failed", code=65, seconds=60)
    await bench.settle()
    assert (bench.phase(), bench.cube().run) == ("Failed", "second")
    assert bench.begun == []


async def test_foreign_run_of_before_does_not_come_back(bench: Bench) -> None:
    plan = await held(bench)
    train(bench, plan, "first", "Succeeded")
    train(bench, plan, "second", "Succeeded", seconds=60)
    await bench.settle()
    assert bench.cube().run == "second"
    bench.remove(PODS, "second-transfer-1")
    await bench.settle()
    assert (bench.phase(), bench.cube().run) == ("Succeeded", "second")


async def test_foreign_run_that_is_suspended_by_hand_comes_to_rest(bench: Bench) -> None:
    plan = await held(bench)
    train(bench, plan, "first", "Pending")
    await bench.settle()
    train(bench, plan, "first", "Failed", code=75)
    bench.api.put(
        WORKFLOWS,
        {"metadata": {"name": "first", "namespace": "team"}, "spec": {"suspend": True}, "status": {"phase": "Running"}},
    )
    await bench.settle()
    assert bench.cube().run == "first"


@pytest.mark.parametrize(("phase", "ends_as"), [("Running", "Running"), ("Failed", "Failed")])
async def test_foreign_run_that_may_try_again_has_ended_when_its_workflow_has(
    bench: Bench, phase: str, ends_as: str
) -> None:
    plan = await bench.begin(with_spec(download("cube", backoffLimit=1), suspend=True))
    train(bench, plan, "training", "Failed", code=75)
    bench.api.put(WORKFLOWS, {"metadata": {"name": "training", "namespace": "team"}, "status": {"phase": phase}})
    await bench.settle()
    assert bench.phase() == ends_as


async def test_foreign_run_whose_workflow_is_gone_has_ended(bench: Bench) -> None:
    plan = await held(bench)
    train(bench, plan, "first")
    await bench.settle()
    bench.remove(PODS, "first-transfer-1")
    bench.remove(WORKFLOWS, "first")
    await bench.settle()
    assert (bench.phase(), bench.reason()) == ("Failed", Reason.RUN_DELETED)


async def test_pods_of_another_namespace_tell_nothing_about_a_cube(bench: Bench) -> None:
    plan = await held(bench)
    forged = pod_of(plan, "training", "Succeeded")
    forged["metadata"]["namespace"] = "elsewhere"
    bench.api.put(PODS, forged)
    await bench.settle()
    assert bench.phase() == "Suspended"


async def test_pod_that_only_bears_the_labels_of_a_run_tells_nothing_about_it(bench: Bench) -> None:
    plan = await bench.begin()
    forged = pod_of(plan, plan.run_name, "Succeeded", more={labels.RUN: plan.run_id})
    bench.api.put(PODS, forged)
    await bench.settle()
    assert bench.phase() == "Pending"


async def ended(bench: Bench, **spec: Any) -> TransferPlan:
    """Has a DataCube whose run has succeeded."""
    plan = await bench.begin(with_spec(download("cube"), **spec))
    bench.pod(plan, "Succeeded")
    await bench.settle()
    assert bench.phase() == "Succeeded"
    return plan


async def test_removed_annotation_starts_nothing(bench: Bench) -> None:
    await ended(bench)
    bench.change(annotations={labels.RERUN: "x"})
    await bench.settle()
    again = plan_of(bench.document())
    bench.pod(again, "Succeeded", seconds=60)
    await bench.settle()
    bench.change(annotations={})
    await bench.settle()
    assert bench.cube().run == again.run_name
    assert len(bench.begun) == 2


async def test_cube_whose_time_is_over_is_deleted_and_comes_again_until_then(bench: Bench) -> None:
    await ended(bench, ttlSecondsAfterFinished=100)
    assert await bench.look() == 30.0, "its workflow is still open"
    bench.clock.move(103)
    bench.api.calls.clear()
    assert await bench.look() is None
    assert bench.api.calls == ["delete datacubes/cube"]


async def test_cube_that_is_asked_to_run_again_is_not_deleted_by_one_that_has_not_heard(bench: Bench) -> None:
    await ended(bench, ttlSecondsAfterFinished=100)
    bench.clock.move(103)
    bench.change(annotations={labels.RERUN: "x"})
    assert await bench.look() == 1.0
    await bench.settle()
    assert len(bench.begun) == 2


async def test_cube_that_is_made_anew_unseen_leaves_nothing_behind(bench: Bench) -> None:
    await bench.begin()
    other = await bench.begin(download("other"), age=0)
    assert bench.cube("other").waits_for == Reason.PATH_BUSY
    bench.remove(DATACUBES, "cube")
    bench.put(download("cube", sub_path="elsewhere"), uid="uid-of-next")
    await bench.settle()
    assert bench.cube("other").run == other.run_name


async def test_cube_that_goes_before_a_cache_shows_its_status_leaves_nothing_behind(bench: Bench) -> None:
    bench.claim()
    bench.put(download("cube"))
    bench.sync()
    await bench.look()
    assert bench.book.read(made(download("cube"), version=0)).is_active
    bench.remove(DATACUBES, "cube")
    await bench.settle()
    assert not bench.book.read(made(download("cube"), version=0)).is_active


async def test_cube_that_is_going_begins_nothing(bench: Bench) -> None:
    await bench.begin(deletionTimestamp=moment(0))
    assert bench.api.calls == []


async def test_holder_that_is_held_lets_the_next_one_go(bench: Bench) -> None:
    await bench.begin(download("holder"))
    waiter = await bench.begin(download("waiter"))
    bench.change("holder", spec={"suspend": True})
    await bench.settle()
    assert bench.cube("waiter").run == waiter.run_name


async def test_cube_that_goes_lets_others_go_first_although_it_stays(bench: Bench) -> None:
    holder = await bench.begin(download("holder"))
    await bench.begin(download("older"), age=9)
    younger = await bench.begin(download("younger"), age=1)
    bench.change("older", deletionTimestamp=moment(0), finalizers=["example.test/slow"])
    bench.pod(holder, "Succeeded")
    await bench.settle()
    assert bench.cube("younger").run == younger.run_name
    assert bench.cube("older").run == ""


async def test_path_is_free_once_a_cube_that_stayed_for_a_while_is_gone(bench: Bench) -> None:
    await bench.begin(download("holder"))
    waiter = await bench.begin(download("waiter"))
    bench.change("holder", deletionTimestamp=moment(0))
    await bench.settle()
    assert bench.cube("waiter").waits_for == Reason.PATH_BUSY
    bench.remove(DATACUBES, "holder")
    await bench.settle()
    assert bench.cube("waiter").run == waiter.run_name


async def test_accounts_are_forgotten_with_the_last_cube_of_a_namespace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(bench.engine, "forget", forgotten.append)
    for name in ("one", "two"):
        await bench.begin(download(name, sub_path=name))
    bench.remove(DATACUBES, "one")
    await bench.settle()
    assert forgotten == []
    bench.remove(DATACUBES, "two")
    await bench.settle()
    assert forgotten == ["team"]


async def test_claim_that_loses_its_volume_in_mid_run_ends_what_waits_for_it(bench: Bench) -> None:
    plan = await bench.begin(download("cube", backoffLimit=3))
    bench.pod(plan, "Pending")
    await bench.settle()
    bench.remove(CLAIMS, "data")
    bench.claim("Lost")
    bench.clock.move(30)
    bench.add("team/cube")
    await bench.settle()
    assert (bench.phase(), bench.reason()) == ("Failed", Reason.VOLUME_LOST)
    assert bench.workflow(plan) is None


async def test_claim_that_loses_its_volume_under_a_running_attempt_is_left_to_the_attempt(bench: Bench) -> None:
    plan = await bench.begin()
    bench.pod(plan)
    bench.remove(CLAIMS, "data")
    bench.claim("Lost")
    await bench.settle()
    assert bench.phase() == "Running"


async def test_document_that_the_engine_cannot_render_is_refused(bench: Bench) -> None:
    document = download("cube")
    braces = {"nodeSelector": {"zone": "{{workflow.name}}"}}
    await bench.begin(with_spec(document, executor=braces))
    assert (bench.phase(), bench.reason()) == ("Failed", Reason.INVALID_SPEC)
    assert not bench.api.all(WORKFLOWS)


@pytest.mark.parametrize("seconds", [-600, 600])
async def test_pod_that_waits_is_told_of_although_clocks_differ(bench: Bench, seconds: float) -> None:
    """The server's clock is behind or ahead of the operator's: what is new is told by their difference, at once."""
    plan = await bench.begin()
    workflow = bench.workflow(plan)
    assert workflow is not None
    bench.api.put(WORKFLOWS, workflow | {"metadata": workflow["metadata"] | {"creationTimestamp": moment(seconds)}})
    pod = bench.pod(plan, "Pending")
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    status = {"phase": "Pending", "containerStatuses": [{"name": "main", "state": state}]}
    bench.api.put(PODS, pod | {"status": status})
    await bench.settle()
    assert bench.reason() == Reason.IMAGE_PULL_ERROR


async def test_many_cubes_on_one_claim_run_side_by_side_and_overlapping_ones_by_age(bench: Bench) -> None:
    bench.claim()
    for number in range(12):
        bench.put(download(f"cube-{number}", sub_path=f"set-{number // 2}"), age=number)
    await bench.settle(limit=400)
    begun = sorted(name.rpartition("-")[0] for name in bench.begun)
    assert begun == sorted(f"cube-{number}" for number in range(1, 12, 2)), "the older of two is the one begun"
