"""What people do to the objects of a run, foreign workflows, and an engine that is not there or does nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.resource import EVENTS, PODS, WORKFLOW_TEMPLATES, WORKFLOWS

from datacube_flows.api.reasons import Reason
from tests.cluster.api import api_server
from tests.controller.conftest import serve_cubes
from tests.controller.played_cluster import serve_argo
from tests.controller.played_kubelet import fail, hang, succeed, wait_for_image
from tests.controller.scenarios_bench import made_world
from tests.controller.scenarios_documents import download, with_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.controller.scenarios_bench import Outcome, Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

Object = dict[str, Any]


def workflow_object(name: str, spec: Object, **metadata: Any) -> Object:
    about = {"name": name, **metadata}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": about, "spec": spec}


async def running(stage: Stage, **options: Any) -> Outcome:
    """Has a DataCube in the middle of its run."""
    await stage.claim()
    await stage.create(download("cube", **options), hang())
    return await stage.phase("cube", "Running")


async def delete_workflow(stage: Stage, name: str) -> None:
    uid = (await stage.client.get(WORKFLOWS, stage.namespace, name))["metadata"]["uid"]
    await stage.client.delete(WORKFLOWS, stage.namespace, name, uid=uid)


async def test_run_whose_workflow_is_deleted_by_hand_has_failed_and_is_not_begun_again(stage: Stage) -> None:
    before = await running(stage, backoffLimit=3)
    await delete_workflow(stage, before.workflow)
    seen = await stage.ends("cube")
    await stage.quiet()
    assert (seen.phase, seen.reason) == ("Failed", Reason.RUN_DELETED)
    assert "rerun" in seen.messages["Failed"]
    assert stage.workflows() == [before.workflow]


async def test_workflow_that_is_deleted_after_the_end_changes_nothing(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), succeed())
    before = await stage.ends("cube")
    await stage.quiet()
    await delete_workflow(stage, before.workflow)
    await stage.gone(PODS)
    await stage.quiet()
    assert (await stage.ends("cube")).status == before.status
    assert stage.workflows() == [before.workflow]


@pytest.mark.parametrize("strategy", ["Terminate", "Stop"])
async def test_workflow_that_is_ended_by_hand_is_cancelled(stage: Stage, strategy: str) -> None:
    before = await running(stage, backoffLimit=3)
    await stage.client.patch(WORKFLOWS, stage.namespace, before.workflow, {"spec": {"shutdown": strategy}})
    seen = await stage.ends("cube")
    assert (seen.phase, seen.reason) == ("Failed", Reason.CANCELLED)
    assert len(await stage.pods("cube")) == 1


async def test_name_that_a_foreign_workflow_has_is_a_conflict(stage: Stage) -> None:
    await stage.claim()
    await stage.create(with_spec(download("cube"), suspend=True))
    await stage.phase("cube", "Suspended")
    (template,) = await stage.objects(WORKFLOW_TEMPLATES)
    name = await next_run(stage, "cube")
    foreign = workflow_object(name, {"entrypoint": "x", "templates": [{"name": "x", "suspend": {}}], "suspend": True})
    await stage.client.create(WORKFLOWS, stage.namespace, foreign)
    await stage.suspend("cube", on=False)
    seen = await stage.ends("cube")
    assert (seen.phase, seen.reason) == ("Failed", Reason.NAME_CONFLICT)
    assert name in seen.messages["Failed"]
    assert await stage.client.get(WORKFLOW_TEMPLATES, stage.namespace, template["metadata"]["name"])


async def next_run(stage: Stage, name: str) -> str:
    """The name of the workflow that a DataCube begins next."""
    from datacube_flows.core.plan import make_plan
    from datacube_flows.core.rules import validate

    return make_plan(validate(await stage.cube(name))).run_name


async def test_template_that_a_foreign_one_stands_for_is_a_conflict(stage: Stage) -> None:
    await stage.claim()
    body = workflow_object("datacube-cube", {"templates": []}) | {"kind": "WorkflowTemplate"}
    foreign = await stage.client.create(WORKFLOW_TEMPLATES, stage.namespace, body)
    await stage.create(download("cube"), succeed())
    seen = await stage.ends("cube")
    now = await stage.client.get(WORKFLOW_TEMPLATES, stage.namespace, "datacube-cube")
    assert (seen.reason, stage.workflows()) == (Reason.NAME_CONFLICT, [])
    assert now["metadata"]["resourceVersion"] == foreign["metadata"]["resourceVersion"]


@pytest.mark.parametrize("ends_well", [True, False])
async def test_status_follows_a_foreign_workflow_that_runs_the_template(stage: Stage, *, ends_well: bool) -> None:
    await stage.claim()
    script = succeed(seconds=0.5) if ends_well else fail(Reason.NOT_FOUND, seconds=0.5)
    await stage.create(with_spec(download("cube"), suspend=True), script)
    await stage.phase("cube", "Suspended")
    await stage.client.create(
        WORKFLOWS, stage.namespace, workflow_object("training", {"workflowTemplateRef": {"name": "datacube-cube"}})
    )
    during = await stage.phase("cube", "Running")
    seen = await stage.ends("cube")
    assert (during.workflow, seen.workflow, stage.workflows()) == ("training", "training", ["training"])
    assert seen.reason == (Reason.TRANSFER_COMPLETE if ends_well else Reason.NOT_FOUND)


async def test_foreign_workflow_goes_on_when_the_cube_is_deleted(stage: Stage) -> None:
    await stage.claim()
    attempt = hang()
    await stage.create(with_spec(download("cube"), suspend=True), attempt)
    await stage.phase("cube", "Suspended")
    await stage.client.create(
        WORKFLOWS, stage.namespace, workflow_object("training", {"workflowTemplateRef": {"name": "datacube-cube"}})
    )
    await stage.phase("cube", "Running")
    await stage.delete("cube")
    await stage.gone(WORKFLOW_TEMPLATES)
    await stage.quiet()
    attempt.release()
    async with asyncio.timeout(5):
        while (await ended_phase(stage, "training")) != "Succeeded":
            await asyncio.sleep(0.05)


async def ended_phase(stage: Stage, workflow: str) -> str:
    found = await stage.client.get(WORKFLOWS, stage.namespace, workflow)
    return str(found.get("status", {}).get("phase", ""))


async def test_pod_that_is_deleted_is_followed_by_another_attempt(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube", backoffLimit=1), hang(), succeed())
    await stage.phase("cube", "Running")
    (pod,) = await stage.pods("cube")
    about = pod["metadata"]
    await stage.client.delete(PODS, stage.namespace, about["name"], uid=about["uid"])
    seen = await stage.ends("cube")
    assert (seen.phase, seen.attempts) == ("Succeeded", ((1, "PodDeleted"), (2, "")))
    assert seen.status["attempts"][0]["pod"] == about["name"]


async def test_image_that_cannot_be_pulled_is_said_and_waited_for(stage: Stage) -> None:
    await stage.claim()
    attempt = wait_for_image()
    await stage.create(download("cube"), attempt)
    seen = await stage.waits("cube", Reason.IMAGE_PULL_ERROR)
    assert (seen.phase, seen.status["pod"]["status"]) == ("Pending", "ImagePullBackOff")
    attempt.release()
    assert (await stage.ends("cube")).phase == "Succeeded"


async def test_success_is_shown_before_argo_says_so(stage: Stage) -> None:
    await stage.claim()
    argo = stage.world.played.argo
    await stage.create(download("cube"), succeed(seconds=0.5))
    await stage.phase("cube", "Running")
    argo.works.clear()
    try:
        seen = await stage.ends("cube", 3)
        assert await ended_phase(stage, seen.workflow) == "Running"
    finally:
        argo.works.set()
    assert seen.phase == "Succeeded"


async def test_run_goes_on_when_argo_was_stopped_for_a_while(stage: Stage) -> None:
    await stage.claim()
    argo = stage.world.played.argo
    argo.works.clear()
    try:
        await stage.create(download("cube", backoffLimit=1), fail(Reason.SERVER_ERROR), succeed())
        await stage.until("cube", lambda seen: seen.workflow != "")
        await stage.quiet()
        assert (await stage.phase("cube", "Pending")).attempts == ()
    finally:
        argo.works.set()
    seen = await stage.ends("cube")
    assert (seen.phase, len(stage.workflows())) == ("Succeeded", 1)


@asynccontextmanager
async def without_argo(cache: Path, folder: Path) -> AsyncIterator[Stage]:
    """An operator before a server that knows nothing of workflows."""
    with api_server(folder / "api", cache) as server:
        serve_cubes(server)
        async with made_world(server, folder, "bare") as world:
            yield await world.stage("stage")


async def test_engine_that_is_installed_later_is_waited_for(cluster_cache: Path, tmp_path: Path) -> None:
    async with without_argo(cluster_cache, tmp_path) as stage:
        await stage.claim()
        await stage.create(download("cube"), succeed())
        seen = await stage.waits("cube", Reason.ENGINE_UNAVAILABLE)
        assert (await stage.world.operator.ask("/readyz"))[0] == 200
        assert "install" in seen.messages["Initialized"]
        await stage.quiet()
        events = [event["reason"] for event in await stage.objects(EVENTS)]
        await asyncio.to_thread(serve_argo, stage.world.server)
        after = await stage.ends("cube", 45)
        assert (after.phase, len(stage.workflows())) == ("Succeeded", 1)
        assert events == ["EngineUnavailable"]
