"""Reconciles that are awkward to meet before a real server: caches that are behind, requests that fail, flapping."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator.errors import Forbidden, Invalid, TemporaryError, Unavailable
from datacube_operator.resource import CLAIMS, DATACUBES, PODS, WORKFLOWS

from datacube_flows.api.reasons import Reason
from tests.controller.decision_objects import made, plan_of, pod_of
from tests.controller.fake_clock import FakeClock
from tests.controller.reconcile_bench import Bench
from tests.controller.scenarios_documents import download, with_spec

pytestmark = [pytest.mark.t0, pytest.mark.anyio]

Object = dict[str, Any]

NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


async def test_run_is_begun_with_one_status_and_one_workflow(bench: Bench) -> None:
    plan = await bench.begin()
    assert bench.begun == [plan.run_name]
    assert bench.api.calls.count("apply datacubes/cube") == 1, "the one that takes the path"
    workflow = bench.workflow(plan)
    assert workflow is not None
    bench.pod(plan, "Running")
    await bench.settle()
    assert bench.api.calls.count("apply datacubes/cube") == 2, "one that tells of the attempt and knows the run's uid"
    assert bench.cube().run_uid == workflow["metadata"]["uid"]


async def test_run_that_does_not_get_on_is_told_after_a_while(bench: Bench) -> None:
    plan = await bench.begin()
    workflow = bench.workflow(plan)
    assert workflow is not None
    bench.clock.move(5)
    await bench.look()
    assert bench.cube().run_uid == workflow["metadata"]["uid"]
    assert bench.api.calls.count("apply datacubes/cube") == 2


async def test_run_that_was_held_before_any_status_told_of_it_is_begun_again(bench: Bench) -> None:
    plan = await bench.begin()
    bench.change(spec={"suspend": True})
    await bench.settle()
    assert bench.workflow(plan) is None
    bench.api.fail("create workflows", Forbidden("create", 403, "Forbidden", "no"))
    bench.change(spec={"suspend": False})
    await bench.settle()
    bench.api.faults.clear()
    await bench.look()
    await bench.settle()
    assert bench.phase() == "Pending"
    assert bench.workflow(plan) is not None


async def test_run_is_begun_once_while_no_cache_shows_it(bench: Bench) -> None:
    bench.claim()
    bench.put(download("cube"))
    bench.sync()
    for _ in range(4):
        await bench.look()
    assert len(bench.begun) == 1
    assert bench.phase() == "Pending"


async def test_run_that_left_the_cache_and_is_there_goes_on(bench: Bench) -> None:
    plan = await bench.begin()
    bench.pod(plan)
    await bench.settle()
    bench.shop.workflows.store.remove(f"team/{plan.run_name}")
    bench.api.calls.clear()
    await bench.look()
    assert bench.api.calls == [f"get workflows/{plan.run_name}"]
    assert bench.phase() == "Running"


async def test_run_that_was_deleted_ends_and_is_not_begun_again(bench: Bench) -> None:
    plan = await bench.begin()
    bench.remove(WORKFLOWS, plan.run_name)
    await bench.settle()
    assert (bench.phase(), bench.reason()) == ("Failed", Reason.RUN_DELETED)
    bench.change(labels={"x": "y"})
    await bench.settle()
    assert len(bench.begun) == 1


async def test_success_counts_although_its_workflow_is_gone(bench: Bench) -> None:
    plan = await bench.begin()
    bench.pod(plan, "Succeeded")
    bench.remove(WORKFLOWS, plan.run_name)
    await bench.settle()
    assert bench.phase() == "Succeeded"
    assert not [call for call in bench.api.calls if call.startswith("get")]


async def test_final_status_does_not_go_back_whatever_is_seen_later(bench: Bench) -> None:
    plan = await bench.begin()
    bench.pod(plan, "Succeeded")
    await bench.settle()
    before = bench.document()["status"]
    bench.pod(plan, "Failed")
    await bench.settle()
    bench.remove(PODS, f"{plan.run_name}-transfer-1")
    bench.remove(WORKFLOWS, plan.run_name)
    bench.remove(CLAIMS, "data")
    await bench.settle()
    assert bench.document()["status"] == before


async def test_final_status_stays_where_its_engine_was_switched_off(bench: Bench) -> None:
    await bench.begin(download("cube", backoffLimit=0))
    ended = bench.document()
    executor = {"engine": "prefect"}
    status = ended["status"] | {"phase": "Succeeded"}
    bench.api.put(DATACUBES, ended | {"spec": ended["spec"] | {"executor": executor}, "status": status})
    await bench.settle()
    assert bench.document()["status"] == status


async def test_engine_that_is_not_run_here_is_said(bench: Bench) -> None:
    bench.put(with_spec(download("cube"), executor={"engine": "prefect"}))
    await bench.settle()
    assert (bench.phase(), bench.reason()) == ("Pending", Reason.ENGINE_UNAVAILABLE)


async def test_ended_cube_tells_of_which_generation_it_speaks(bench: Bench) -> None:
    plan = await bench.begin()
    bench.pod(plan, "Succeeded")
    await bench.settle()
    bench.change(spec={"ttlSecondsAfterFinished": 3600})
    await bench.settle()
    assert bench.document()["status"]["observedGeneration"] == bench.document()["metadata"]["generation"] == 2
    bench.api.calls.clear()
    await bench.look()
    assert bench.api.calls == []


async def test_workflow_that_is_suspended_by_hand_is_shown_and_not_begun_again(bench: Bench) -> None:
    plan = await bench.begin()
    workflow = bench.workflow(plan)
    assert workflow is not None
    bench.api.put(WORKFLOWS, workflow | {"spec": {"suspend": True}})
    bench.clock.move(30)
    await bench.settle()
    assert (bench.phase(), bench.reason()) == ("Suspended", Reason.SUSPENDED)
    bench.api.calls.clear()
    await bench.look()
    assert bench.api.calls == []
    assert bench.cube().is_active


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Forbidden("create", 403, "Forbidden", "exceeded quota: q"), Reason.QUOTA_EXCEEDED),
        (Forbidden("create", 403, "Forbidden", "no"), Reason.ENGINE_UNAVAILABLE),
        (Invalid("create", 422, "Invalid", "spec.x"), Reason.ENGINE_UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("place", ["workflows", "workflowtemplates"])
async def test_refusal_comes_to_rest_and_is_made_good(bench: Bench, place: str, error: Any, reason: Reason) -> None:
    bench.api.fail(f"create {place}", *[error] * 100)
    await bench.begin()
    assert (bench.phase(), bench.reason()) == ("Pending", reason)
    assert [event for event in bench.heard.events if event[1] == reason] == [("Warning", reason)]
    bench.api.calls.clear()
    await bench.look()
    assert bench.api.writes == [f"create {place}/{bench.api.writes[0].partition('/')[2]}"], (
        "status is not written again"
    )
    bench.api.faults.clear()
    await bench.look()
    await bench.settle()
    assert bench.reason() == ""
    assert len(bench.api.all(WORKFLOWS)) == 1


async def test_namespace_that_is_being_deleted_is_left_in_peace(bench: Bench) -> None:
    ending = Forbidden("create", 403, "Forbidden", "unable to create: because it is being terminated")
    bench.api.fail("create workflowtemplates", *[ending] * 100)
    await bench.begin()
    assert bench.heard.events == []
    assert bench.reason() == ""


async def test_refusal_of_a_helping_hand_is_no_news_about_the_run(bench: Bench) -> None:
    """Said in status it would be taken back at once, and said again: two writes without end."""
    plan = await bench.begin(download("cube", backoffLimit=1))
    bench.pod(plan, "Failed")
    node = {"type": "Pod", "templateName": "transfer", "displayName": "transfer(0)", "phase": "Failed"}
    node |= {"finishedAt": NOW, "taskResultSynced": False}
    workflow = bench.workflow(plan)
    assert workflow is not None
    bench.api.put(WORKFLOWS, workflow | {"status": {"phase": "Running", "nodes": {"n": node}}})
    await bench.settle()
    bench.clock.move(180)
    bench.api.fail("list workflowtaskresults", *[Forbidden("list", 403, "Forbidden")] * 9)
    for _ in range(3):
        with pytest.raises(Forbidden):
            await bench.look()
        bench.sync()
    assert bench.reason() == Reason.ENGINE_UNRESPONSIVE
    assert bench.api.calls.count("apply datacubes/cube") <= 4


async def test_suspension_ends_the_run_also_where_the_first_deletion_fails(bench: Bench) -> None:
    plan = await bench.begin()
    bench.pod(plan)
    await bench.settle()
    assert bench.heard.watched == {"team/cube": f"{plan.run_name}-transfer-1"}
    bench.change(spec={"suspend": True})
    bench.sync()
    bench.api.fail("delete workflows", Unavailable("delete", 503, "Unavailable"))
    with pytest.raises(Unavailable):
        await bench.look()
    assert bench.phase() == "Suspended"
    await bench.look()
    assert bench.workflow(plan) is None
    assert bench.heard.watched == {}


async def test_held_cube_that_was_running_waits_for_its_path_and_is_told_when_it_is_free(bench: Bench) -> None:
    first = await bench.begin(download("first"))
    bench.pod(first)
    await bench.settle()
    bench.change("first", spec={"suspend": True})
    bench.remove(PODS, f"{first.run_name}-transfer-1")
    await bench.settle()
    second = await bench.begin(download("second"), age=0)
    bench.pod(second)
    bench.change("first", spec={"suspend": False})
    await bench.settle()
    assert (bench.cube("first").waits_for, bench.phase("first")) == (Reason.PATH_BUSY, "Pending")
    bench.pod(second, "Succeeded")
    await bench.settle()
    assert bench.cube("first").run == first.run_name
    assert len(bench.paths) == 0


async def test_resumed_cube_waits_until_its_workflow_of_before_is_gone(bench: Bench) -> None:
    plan = await bench.begin()
    bench.change(spec={"suspend": True})
    workflow = bench.workflow(plan)
    assert workflow is not None
    await bench.settle()
    going = workflow["metadata"] | {"deletionTimestamp": NOW}
    bench.api.put(WORKFLOWS, workflow | {"metadata": going})
    bench.change(spec={"suspend": False})
    bench.sync()
    bench.api.calls.clear()
    assert await bench.look() == 1.0
    assert bench.api.calls == []
    bench.remove(WORKFLOWS, plan.run_name)
    await bench.settle()
    assert bench.begun == [plan.run_name]


async def test_resumed_cube_waits_for_its_own_pods_of_before(bench: Bench) -> None:
    plan = await bench.begin()
    bench.pod(plan)
    await bench.settle()
    for wish in (True, False):
        bench.change(spec={"suspend": wish})
        await bench.settle()
    message = next(c.message for c in bench.cube().status.conditions or () if c.reason == Reason.PATH_BUSY)
    assert "its pods of before" in str(message)
    bench.remove(PODS, f"{plan.run_name}-transfer-1")
    bench.sync()
    await bench.look()
    await bench.settle()
    assert (bench.phase(), bench.cube().run) == ("Pending", plan.run_name)
    assert bench.begun == [plan.run_name] * 2


async def test_stale_run_is_made_again_and_counts_no_attempt(bench: Bench) -> None:
    """Argo ran a template that it remembered; that of a DataCube that had the name before."""
    plan = await bench.begin()
    bench.pod(plan)
    await bench.settle()
    assert bench.phase() == "Running"
    before = plan_of(made(download("cube", sub_path="elsewhere"), uid="uid-of-before"))
    workflow = bench.workflow(plan)
    assert workflow is not None
    bench.api.put(PODS, pod_of(before, workflow, number=2))
    bench.sync()
    await bench.look()
    assert (bench.workflow(plan), bench.cube().status.attempts, bench.phase()) == (None, None, "Pending")
    for number in (1, 2):
        bench.remove(PODS, f"{plan.run_name}-transfer-{number}")
    await bench.settle()
    assert bench.begun == [plan.run_name] * 2


async def test_template_of_before_is_waited_for_with_the_path_taken(bench: Bench) -> None:
    bench.claim()
    bench.put(download("cube"))
    owner = {"kind": "DataCube", "name": "cube", "uid": "uid-of-before", "controller": True}
    about = {"name": "datacube-cube", "namespace": "team", "ownerReferences": [owner]}
    bench.api.objects["workflowtemplates/team/datacube-cube"] = {
        "metadata": about | {"uid": "t", "resourceVersion": "1"}
    }
    bench.sync()
    with pytest.raises(TemporaryError):
        await bench.look()
    await bench.settle()
    assert bench.cube().is_active
    assert len(bench.begun) == 1
