"""What is played around the API server is as the real thing: what the operator is tested with is tested here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.resource import CLAIMS, DATACUBES, PODS, WORKFLOW_TEMPLATES, WORKFLOWS

from datacube_flows.api.reasons import Reason
from datacube_flows.core.manifests import Installation, make_owner
from datacube_flows.core.observation import PodPhase
from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.core.plan import TransferPlan, make_plan
from datacube_flows.core.rules import validate
from datacube_flows.engines.argo import render_template, render_workflow
from tests.controller.played_argo import fnv
from tests.controller.played_cluster import PlayedCluster, played_cluster, serve_argo
from tests.controller.played_kubelet import ENDED, crash, fail, hang, succeed
from tests.controller.scenarios_documents import CLAIM_SPEC, download

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.cluster.cluster import Cluster
    from tests.controller.played_kubelet import Attempt

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

Object = dict[str, Any]


@pytest.fixture
async def played(api: Cluster) -> AsyncIterator[PlayedCluster]:
    serve_argo(api)
    async with played_cluster(api.kubeconfig) as made:
        yield made


async def begin(played: PlayedCluster, namespace: str, *script: Attempt, **document: Any) -> TransferPlan:
    """Makes a DataCube, its template and its workflow, as the operator does."""
    played.kubelet.scripts[f"{namespace}/cube"] = script
    cube = await played.client.create(DATACUBES, namespace, download("cube", **document))
    plan = make_plan(validate(cube))
    owner = make_owner(plan)
    await played.client.create(WORKFLOW_TEMPLATES, namespace, render_template(plan, Installation(), owner))
    await played.client.create(WORKFLOWS, namespace, render_workflow(plan, owner))
    return plan


async def ended(played: PlayedCluster, plan: TransferPlan) -> Object:
    async with asyncio.timeout(10):
        while True:
            workflow = await played.client.get(WORKFLOWS, plan.namespace, plan.run_name)
            if workflow.get("status", {}).get("phase") in ENDED:
                return workflow
            await asyncio.sleep(0.02)


async def pods(played: PlayedCluster, namespace: str) -> list[Object]:
    found = (await played.client.list(PODS, namespace)).items
    return sorted(found, key=lambda pod: observe_pod(pod).number)


async def until_pods(played: PlayedCluster, namespace: str, holds: Callable[[list[Object]], bool]) -> list[Object]:
    async with asyncio.timeout(10):
        while not holds(found := await pods(played, namespace)):
            await asyncio.sleep(0.02)
    return found


def test_names_of_nodes_are_hashed_as_argo_hashes_them() -> None:
    assert fnv("update-assignments-1715907600.onExit(0)[0].datadog-metrics(0)") == 1115121203


async def test_workflow_that_succeeds_leaves_a_pod_that_reports_and_outputs(
    played: PlayedCluster, namespace: str
) -> None:
    plan = await begin(played, namespace, succeed())
    workflow = await ended(played, plan)
    (pod,) = await pods(played, namespace)
    seen = observe_pod(pod)
    assert (workflow["status"]["phase"], seen.phase, seen.status) == ("Succeeded", PodPhase.SUCCEEDED, "Completed")
    assert seen.report is not None
    assert (seen.number, seen.report.files) == (1, 3)
    assert pod["metadata"]["labels"]["datacube.tensorstack.dev/run"] == plan.run_id
    assert pod["metadata"]["name"].startswith(f"{plan.run_name}-transfer-")
    outputs = workflow["status"]["nodes"][plan.run_name]["outputs"]["parameters"]
    assert {o["name"]: o["value"] for o in outputs}["files"] == "3"


async def test_workflow_retries_what_may_get_better_and_nothing_else(played: PlayedCluster, namespace: str) -> None:
    plan = await begin(played, namespace, crash(75), fail(Reason.NOT_FOUND), backoffLimit=5)
    workflow = await ended(played, plan)
    found = [observe_pod(pod) for pod in await pods(played, namespace)]
    assert [(seen.number, seen.exit_code) for seen in found] == [(1, 75), (2, 65)]
    nodes = workflow["status"]["nodes"].values()
    (retry,) = (node for node in nodes if node["type"] == "Retry")
    assert workflow["status"]["phase"] == "Failed"
    assert retry["message"] == "retryStrategy.expression evaluated to false"
    codes = {node["displayName"]: node["outputs"]["exitCode"] for node in nodes if node["type"] == "Pod"}
    assert codes == {"transfer(0)": "75", "transfer(1)": "65"}


async def test_workflow_makes_the_claim_of_a_template_first(played: PlayedCluster, namespace: str) -> None:
    plan = await begin(played, namespace, succeed(), template={"spec": CLAIM_SPEC})
    await ended(played, plan)
    claim = await played.client.get(CLAIMS, namespace, "data")
    found = [pod["metadata"]["labels"]["datacube.tensorstack.dev/step"] for pod in await pods(played, namespace)]
    assert claim["status"]["phase"] == "Bound"
    assert sorted(found) == ["provision", "transfer"]


async def test_pod_that_is_deleted_ends_as_the_kubelet_ends_it_and_is_followed_by_another(
    played: PlayedCluster, namespace: str
) -> None:
    plan = await begin(played, namespace, hang(), succeed(), backoffLimit=1)
    (pod,) = await until_pods(played, namespace, lambda found: bool(found) and is_running(found[0]))
    about = pod["metadata"]
    await played.client.delete(PODS, namespace, about["name"], uid=about["uid"])
    workflow = await ended(played, plan)
    (after,) = await pods(played, namespace)
    assert observe_pod(after).number == 2
    messages = {n["displayName"]: n.get("message", "") for n in workflow["status"]["nodes"].values()}
    assert messages["transfer(0)"] == "pod deleted"


def is_running(pod: Object) -> bool:
    return observe_pod(pod).phase is PodPhase.RUNNING


async def test_workflow_that_is_shut_down_ends_its_pod_and_starts_no_other(
    played: PlayedCluster, namespace: str
) -> None:
    plan = await begin(played, namespace, hang(), backoffLimit=3)
    await until_pods(played, namespace, lambda found: bool(found) and is_running(found[0]))
    await played.client.patch(WORKFLOWS, namespace, plan.run_name, {"spec": {"shutdown": "Terminate"}})
    workflow = await ended(played, plan)
    (pod,) = await pods(played, namespace)
    assert (workflow["status"]["phase"], observe_pod(pod).exit_code) == ("Failed", 143)


async def test_cube_that_is_deleted_takes_all_of_its_objects_with_it(played: PlayedCluster, namespace: str) -> None:
    await begin(played, namespace, hang())
    await until_pods(played, namespace, lambda found: bool(found) and is_running(found[0]))
    uid = (await played.client.get(DATACUBES, namespace, "cube"))["metadata"]["uid"]
    await played.client.delete(DATACUBES, namespace, "cube", uid=uid)
    await until_pods(played, namespace, lambda found: not found)
    for kind in (WORKFLOWS, WORKFLOW_TEMPLATES):
        assert (await played.client.list(kind, namespace)).items == []
