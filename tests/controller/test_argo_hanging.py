"""An engine that is not there, and runs that it leaves hanging."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator.errors import NotFound
from datacube_operator.resource import PODS, WORKFLOW_RESULTS, WORKFLOWS

from datacube_flows.core import labels
from tests.controller.argo_shop import Shop
from tests.controller.decision_objects import WORKFLOW_LABEL, made, plan_of, pod_of, workflow_of
from tests.controller.fake_clock import FakeClock
from tests.controller.scenarios_documents import download

pytestmark = [pytest.mark.t0, pytest.mark.anyio]

Object = dict[str, Any]

PLAN = plan_of(made(download("cube")))
RUN = f"cube-{PLAN.run_id}"


@pytest.fixture
def shop(clock: FakeClock) -> Shop:
    return Shop(clock)


@pytest.mark.parametrize("absent", ["workflows", "templates"])
def test_engine_says_when_it_is_not_installed(shop: Shop, absent: str) -> None:
    assert shop.engine.unavailable() == ""
    getattr(shop, absent).is_served = False
    assert "install it" in shop.engine.unavailable()


def hanging(shop: Shop, *, code: int = 0) -> Object:
    """A workflow whose pod ended long ago, and whose result Argo waits for."""
    node = {
        "type": "Pod",
        "templateName": "transfer",
        "displayName": "transfer(0)",
        "phase": "Succeeded" if code == 0 else "Failed",
        "finishedAt": "2026-01-01T00:00:02Z",
        "taskResultSynced": False,
    }
    body = workflow_of(PLAN, phase="Running")
    body["status"]["nodes"] = {"n": node}
    workflow = shop.api.put(WORKFLOWS, body)
    shop.api.put(PODS, pod_of(PLAN, workflow, "Succeeded" if code == 0 else "Failed", code=code))
    for name, done in (("r1", "false"), ("r2", "true")):
        marks = {WORKFLOW_LABEL: RUN, "workflows.argoproj.io/report-outputs-completed": done}
        shop.api.put(WORKFLOW_RESULTS, {"metadata": {"name": name, "namespace": "team", "labels": marks}})
    shop.sync()
    return workflow


async def look_after(shop: Shop, seconds: float) -> list[str]:
    shop.clock.move(seconds)
    shop.api.calls.clear()
    shop.sync()
    await shop.engine.watch_over(PLAN, shop.engine.find(PLAN, RUN), shop.clock.utc())
    return shop.api.writes


async def test_results_are_completed_where_argo_waits_for_them_in_vain_and_then_the_run_is_ended(shop: Shop) -> None:
    hanging(shop)
    assert await look_after(shop, 60) == []
    assert await look_after(shop, 100) == ["patch workflowtaskresults/r1"]
    assert await look_after(shop, 30) == []
    assert await look_after(shop, 600) == [f"patch workflows/{RUN}"]
    workflow = shop.api.read(WORKFLOWS, f"team/{RUN}")
    assert workflow is not None
    assert workflow["spec"]["shutdown"] == "Terminate"
    assert workflow["metadata"]["annotations"][labels.ENDED_BY] == "watchdog"
    assert await look_after(shop, 60) == []


async def test_watchdog_leaves_a_workflow_alone_that_is_gone_meanwhile(shop: Shop) -> None:
    hanging(shop)
    shop.clock.move(600)
    shop.api.fail("patch workflows", NotFound("patch", 404, "NotFound"))
    await shop.engine.watch_over(PLAN, shop.engine.find(PLAN, RUN), shop.clock.utc())
    await shop.engine.watch_over(PLAN, shop.engine.find(PLAN, "cube-00000000"), shop.clock.utc())
    assert shop.api.calls == [f"patch workflows/{RUN}"]
