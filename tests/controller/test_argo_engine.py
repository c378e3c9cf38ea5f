"""The Argo engine's requests: nothing is begun twice, nothing of others is touched, what failed is made good."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator.argo_engine import MADE_SECONDS
from datacube_operator.engine import NameTaken
from datacube_operator.errors import TemporaryError, Unavailable
from datacube_operator.resource import PODS, WORKFLOW_TEMPLATES, WORKFLOWS

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import DataCubeStatus
from datacube_flows.core import labels
from datacube_flows.core.plan import TransferPlan
from tests.controller.argo_shop import TEMPLATE, Shop
from tests.controller.decision_objects import made, plan_of, pod_of, workflow_of
from tests.controller.fake_clock import FakeClock
from tests.controller.scenarios_documents import CLAIM_SPEC, download

pytestmark = [pytest.mark.t0, pytest.mark.anyio]

Object = dict[str, Any]

PLAN = plan_of(made(download("cube", template={"spec": CLAIM_SPEC})))
RUN = f"cube-{PLAN.run_id}"
UNTOLD = DataCubeStatus()
WHY = Reason.SUSPENDED, "held"


@pytest.fixture
def shop(clock: FakeClock) -> Shop:
    return Shop(clock)


def earlier(plan: TransferPlan = PLAN, **owner: Any) -> Object:
    """The template of a DataCube that had the name before."""
    reference = {"kind": "DataCube", "name": plan.name, "uid": "uid-of-before", "controller": True} | owner
    return {"metadata": {"name": TEMPLATE, "namespace": "team", "ownerReferences": [reference]}}


async def test_template_is_made_once_and_then_left_alone(shop: Shop) -> None:
    await shop.engine.prepare(PLAN)
    shop.sync()
    await shop.engine.prepare(PLAN)
    assert shop.api.calls == [f"create workflowtemplates/{TEMPLATE}"]
    assert shop.template()["metadata"]["ownerReferences"][0]["uid"] == PLAN.uid


async def test_template_that_the_cache_does_not_show_yet_is_found(shop: Shop) -> None:
    await shop.engine.prepare(PLAN)
    await shop.engine.prepare(PLAN)
    assert shop.api.writes == [f"create workflowtemplates/{TEMPLATE}"] * 2


@pytest.mark.parametrize("is_known", [True, False])
async def test_template_of_an_older_operator_is_brought_up_to_date(shop: Shop, *, is_known: bool) -> None:
    await shop.engine.prepare(PLAN)
    shop.template()["metadata"]["annotations"] = {}
    if is_known:
        shop.sync()
    await shop.engine.prepare(PLAN)
    assert shop.api.writes[-1] == f"apply workflowtemplates/{TEMPLATE}"
    assert shop.template()["metadata"]["annotations"]


@pytest.mark.parametrize("is_known", [True, False])
async def test_template_of_an_earlier_cube_of_the_name_makes_room(shop: Shop, *, is_known: bool) -> None:
    shop.api.put(WORKFLOW_TEMPLATES, earlier())
    if is_known:
        shop.sync()
    with pytest.raises(TemporaryError):
        await shop.engine.prepare(PLAN)
    shop.sync()
    await shop.engine.prepare(PLAN)
    assert shop.template()["metadata"]["ownerReferences"][0]["uid"] == PLAN.uid


async def test_template_that_is_going_is_not_deleted_again_and_again(shop: Shop) -> None:
    body = earlier()
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    shop.api.put(WORKFLOW_TEMPLATES, body)
    shop.sync()
    for _ in range(3):
        with pytest.raises(TemporaryError):
            await shop.engine.prepare(PLAN)
    assert shop.api.calls == []


@pytest.mark.parametrize("owner", [{"kind": "Tool"}, {"name": "other"}, {"controller": False}])
async def test_template_of_somebody_else_is_a_conflict_and_stays(shop: Shop, owner: Object) -> None:
    shop.api.put(WORKFLOW_TEMPLATES, earlier(**owner))
    with pytest.raises(NameTaken, match="re-run annotation"):
        await shop.engine.prepare(PLAN)
    assert shop.template()["metadata"]["ownerReferences"][0]["uid"] == "uid-of-before"


async def test_run_is_begun_once_and_known_before_the_cache_shows_it(shop: Shop) -> None:
    first = await shop.engine.submit(PLAN, UNTOLD, claim_exists=True)
    second = await shop.engine.submit(PLAN, UNTOLD, claim_exists=True)
    assert first.uid == second.uid != ""
    assert (first.is_open, first.is_going) == (True, False)
    assert len(shop.api.all(WORKFLOWS)) == 1
    shop.sync()
    assert shop.engine.find(PLAN, RUN).uid == first.uid


@pytest.mark.parametrize("claim_exists", [True, False])
async def test_claim_is_provided_only_where_there_is_none(shop: Shop, *, claim_exists: bool) -> None:
    await shop.engine.submit(PLAN, UNTOLD, claim_exists=claim_exists)
    (workflow,) = shop.api.all(WORKFLOWS)
    arguments = {p["name"]: p["value"] for p in workflow["spec"]["arguments"]["parameters"]}
    assert arguments == {"run": PLAN.run_id, "provision": str(not claim_exists).lower()}


@pytest.mark.parametrize(
    "change",
    [
        {"ownerReferences": []},
        {"ownerReferences": [{"uid": "uid-of-before"}]},
        {"labels": {labels.RUN: "another"}},
    ],
)
async def test_workflow_of_the_name_that_is_not_the_runs_is_a_conflict(shop: Shop, change: Object) -> None:
    shop.api.put(WORKFLOWS, workflow_of(PLAN, **change))
    with pytest.raises(NameTaken, match=RUN):
        await shop.engine.submit(PLAN, UNTOLD, claim_exists=True)
    assert shop.api.writes == [f"create workflows/{RUN}"]


async def test_workflow_of_the_name_that_is_not_the_cubes_is_not_taken_for_its_run(shop: Shop) -> None:
    shop.api.put(WORKFLOWS, workflow_of(PLAN, ownerReferences=[]))
    shop.sync()
    assert shop.engine.find(PLAN, RUN).workflow is None


async def test_workflow_that_is_going_is_waited_for(shop: Shop) -> None:
    shop.api.put(WORKFLOWS, workflow_of(PLAN, deletionTimestamp="2026-01-01T00:00:00Z"))
    with pytest.raises(TemporaryError):
        await shop.engine.submit(PLAN, UNTOLD, claim_exists=True)


async def test_workflow_that_no_cache_ever_showed_is_not_believed_in_for_ever(shop: Shop) -> None:
    await shop.engine.submit(PLAN, UNTOLD, claim_exists=True)
    shop.api.objects.clear()
    shop.sync()
    assert shop.engine.find(PLAN, RUN).workflow is not None
    shop.clock.move(MADE_SECONDS)
    assert shop.engine.find(PLAN, RUN).workflow is None
    assert await shop.engine.look(PLAN, RUN, UNTOLD) is None


async def test_run_is_stopped_once(shop: Shop) -> None:
    found = await shop.engine.submit(PLAN, UNTOLD, claim_exists=True)
    shop.sync()
    await shop.engine.stop(PLAN, found, WHY)
    found = shop.engine.find(PLAN, RUN)
    assert found.is_going
    await shop.engine.stop(PLAN, found, WHY)
    assert shop.api.writes[1:] == [f"delete workflows/{RUN}"]
    shop.sync()
    assert shop.engine.find(PLAN, RUN).workflow is None


async def test_run_that_was_stopped_before_a_cache_showed_it_is_not_remembered(shop: Shop) -> None:
    await shop.engine.stop(PLAN, await shop.engine.submit(PLAN, UNTOLD, claim_exists=True), WHY)
    assert shop.engine.find(PLAN, RUN).workflow is None


async def test_stop_that_failed_is_made_again(shop: Shop) -> None:
    await shop.engine.submit(PLAN, UNTOLD, claim_exists=True)
    shop.sync()
    shop.api.fail("delete workflows", Unavailable("delete", 503, "Unavailable"))
    with pytest.raises(Unavailable):
        await shop.engine.stop(PLAN, shop.engine.find(PLAN, RUN), WHY)
    await shop.engine.stop(PLAN, shop.engine.find(PLAN, RUN), WHY)
    assert shop.api.all(WORKFLOWS) == []


async def test_run_that_was_begun_again_after_a_stop_is_not_going(shop: Shop) -> None:
    await shop.engine.submit(PLAN, UNTOLD, claim_exists=True)
    shop.sync()
    await shop.engine.stop(PLAN, shop.engine.find(PLAN, RUN), WHY)
    shop.sync()
    found = await shop.engine.submit(PLAN, UNTOLD, claim_exists=True)
    assert (found.is_open, found.is_going) == (True, False)
    await shop.engine.stop(PLAN, found, WHY)
    await shop.engine.stop(PLAN, found, WHY)
    assert shop.api.all(WORKFLOWS) == []


async def test_pods_of_a_run_are_those_that_its_workflow_owns(shop: Shop) -> None:
    workflow = shop.api.put(WORKFLOWS, workflow_of(PLAN))
    mine, forged = pod_of(PLAN, workflow), pod_of(PLAN, RUN)
    elsewhere = pod_of(PLAN, workflow)
    elsewhere["metadata"]["namespace"] = "elsewhere"
    forged["metadata"]["name"] = "forged"
    for pod in (mine, forged, elsewhere):
        shop.api.put(PODS, pod)
    shop.sync()
    assert [pod["metadata"]["name"] for pod in shop.engine.find(PLAN, RUN).pods] == [mine["metadata"]["name"]]


async def test_run_of_the_template_of_an_earlier_cube_is_stale(shop: Shop) -> None:
    """Argo may remember it for a moment: its pods bear the uid of the cube before, and move what that one asked for."""
    before = plan_of(made(download("cube", sub_path="elsewhere"), uid="uid-of-before"))
    workflow = shop.api.put(WORKFLOWS, workflow_of(PLAN))
    shop.api.put(PODS, pod_of(before, workflow))
    shop.sync()
    assert shop.engine.is_stale(PLAN, shop.engine.find(PLAN, RUN))
    shop.api.put(PODS, pod_of(PLAN, workflow))
    shop.sync()
    assert not shop.engine.is_stale(PLAN, shop.engine.find(PLAN, RUN))


async def test_run_is_told_by_its_name(shop: Shop) -> None:
    engine = shop.engine
    assert engine.run_name(PLAN) == RUN
    told = {run: engine.is_own_run(PLAN, run) for run in (RUN, "cube-12345678", "training", "", "other-12345678")}
    assert told == {RUN: True, "cube-12345678": True, "training": False, "": False, "other-12345678": False}
    page = f"https://argo.test/workflows/team/{RUN}"
    assert engine.workflow_status(PLAN, RUN, "u") == {
        "engine": "argo",
        "template": TEMPLATE,
        "name": RUN,
        "uid": "u",
        "url": page,
    }
    assert engine.workflow_status(PLAN, "", "") == {"engine": "argo", "template": TEMPLATE}
