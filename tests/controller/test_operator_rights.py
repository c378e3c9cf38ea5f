"""The operator's rights are those that it uses: what the API server wrote down of it, beside what it was given."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from datacube_operator.accounts import Accounts
from datacube_operator.argo_engine import ArgoEngine, ArgoParts
from datacube_operator.client import Client, connect
from datacube_operator.engine import Found
from datacube_operator.errors import TemporaryError
from datacube_operator.events import Recorder, Words
from datacube_operator.fence import Fence
from datacube_operator.informer import Informer
from datacube_operator.metrics import Metrics
from datacube_operator.resource import PODS, WORKFLOW_RESULTS, WORKFLOW_TEMPLATES, WORKFLOWS
from datacube_operator.status_book import StatusBook

from datacube_flows.core import labels
from datacube_flows.engines.argo import render_workflow, template_name
from datacube_flows.engines.argo_accounts import DEFAULTS
from tests.cluster.api import AUDIT_LOG
from tests.controller.decision_objects import INSTALLATION, plan_of
from tests.controller.played_kubelet import hang, succeed
from tests.controller.scenarios_documents import download, with_spec
from tests.controller.scenarios_rights import INSTALL
from tests.controller.server import CLOCK

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.cluster import Cluster
    from tests.controller.scenarios_bench import Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

OPERATOR_FLAGS = ("--allow-http",)

CHECKED_ONLY: Final = {("rbac.authorization.k8s.io/clusterroles", "bind")}
"""Asked of the authorizer when a binding is made; no request of its own, so no line of the log."""

Right = tuple[str, str]


async def test_rights_are_those_that_are_used_and_no_others(stage: Stage, api: Cluster) -> None:
    await live_through(stage)
    async with connect(stage.world.operator.kubeconfig) as connection:
        client = Client(connection, Fence.none(CLOCK), Metrics())
        await meet_predecessor(stage, client)
        await free_hanging_run(stage, client)
        await say_again(stage, client)
        await write_over_a_change(stage, client)
    await asyncio.sleep(1)  # the server writes its log a moment later
    assert rights_in(INSTALL, "datacube-operator") - CHECKED_ONLY == used(api.kubeconfig.parent / AUDIT_LOG)


async def live_through(stage: Stage) -> None:
    """A run that is held, goes on, and removes itself; one whose workflow is taken away; one whose template is old."""
    await stage.claim()
    await stage.create(with_spec(download("brief", sub_path="brief"), ttlSecondsAfterFinished=2), hang())
    await stage.phase("brief", "Running")
    await asyncio.sleep(3)  # until its log is read
    await stage.suspend("brief", on=True)
    await stage.phase("brief", "Suspended")
    await stage.gone(WORKFLOWS)
    stage.play("brief", succeed())
    await stage.suspend("brief", on=False)
    await stage.ends("brief")
    await stage.create(download("taken", sub_path="taken"), hang())
    run = (await stage.phase("taken", "Running")).workflow
    (workflow,) = [w for w in await stage.objects(WORKFLOWS) if w["metadata"]["name"] == run]
    await stage.client.delete(WORKFLOWS, stage.namespace, run, uid=workflow["metadata"]["uid"])
    await stage.ends("taken")
    old = {"metadata": {"annotations": {"datacube.tensorstack.dev/rendered": "by an older operator"}}}
    await stage.client.patch(WORKFLOW_TEMPLATES, stage.namespace, "datacube-taken", old)
    await stage.quiet()
    stage.play("taken", succeed())
    await stage.rerun("taken", "again")
    await stage.until("taken", lambda seen: seen.phase == "Succeeded")
    async with asyncio.timeout(15):
        while any(c["metadata"]["name"] == "brief" for c in await cubes(stage)):
            await asyncio.sleep(0.1)


async def meet_predecessor(stage: Stage, client: Client) -> None:
    """A template that an earlier DataCube of a name has left."""
    made = await stage.create(with_spec(download("heir", claim="missing")))
    plan = plan_of(made)
    name = template_name(plan.name)
    owner = {"apiVersion": made["apiVersion"], "kind": "DataCube", "name": "heir", "uid": made["metadata"]["uid"]}
    metadata = {"name": name, "ownerReferences": [owner | {"controller": True}]}
    left = {"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": metadata, "spec": {}}
    await stage.client.create(WORKFLOW_TEMPLATES, stage.namespace, left)
    with pytest.raises(TemporaryError):
        await engine_of(client).prepare(plan.model_copy(update={"uid": "uid-of-the-heir"}))


async def free_hanging_run(stage: Stage, client: Client) -> None:
    """A workflow that waits for a result which will not come, and then for nothing at all."""
    plan = plan_of(await stage.create(with_spec(download("hangs", claim="missing"))))
    body = render_workflow(plan)
    del body["metadata"]["labels"][labels.MANAGED_BY]  # nobody is to play it
    workflow = await stage.client.create(WORKFLOWS, stage.namespace, body)
    result = {"name": "result", "labels": {"workflows.argoproj.io/workflow": body["metadata"]["name"]}}
    await stage.client.create(WORKFLOW_RESULTS, stage.namespace, {**RESULT, "metadata": result})
    node = {"type": "Pod", "templateName": "transfer", "displayName": "transfer(0)", "phase": "Succeeded"}
    node |= {"finishedAt": "2026-01-01T00:00:00Z", "taskResultSynced": False}
    workflow["status"] = {"phase": "Running", "nodes": {"node": node}}
    engine = engine_of(client)
    for hour in (0, 1):
        now = CLOCK.utc().replace(year=2026, month=1, day=1, hour=hour, minute=3, second=0)
        await engine.watch_over(plan, Found(workflow), now)
    (freed,) = await stage.objects(WORKFLOW_RESULTS)
    assert freed["metadata"]["labels"]["workflows.argoproj.io/report-outputs-completed"] == "true"
    ended = await stage.client.get(WORKFLOWS, stage.namespace, body["metadata"]["name"])
    assert ended["spec"]["shutdown"] == "Terminate"


RESULT: Final = {"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskResult"}


async def say_again(stage: Stage, client: Client) -> None:
    """An event that a process before this one has said already."""
    cube = await stage.cube("taken")
    for process in ("first", "second"):
        recorder = Recorder(client, process, CLOCK)
        recorder.record(cube, Words("Normal", "Said", "the same words", "Say"))
        writing = asyncio.create_task(recorder.run())
        await recorder.written()
        writing.cancel()


async def write_over_a_change(stage: Stage, client: Client) -> None:
    """A status that is written while a user changes the DataCube."""
    before = await stage.cube("taken")
    await stage.patch("taken", {"metadata": {"labels": {"team": "a"}}})
    book = StatusBook(client)
    cube = book.read(before)
    await book.write(cube, cube.status.model_copy(update={"start_time": None}))


def engine_of(client: Client) -> ArgoEngine:
    """The engine with caches that know nothing, as after a start."""
    caches = [Informer(client, resource, CLOCK, Metrics()) for resource in (WORKFLOWS, WORKFLOW_TEMPLATES, PODS)]
    accounts = Accounts(client, CLOCK, DEFAULTS, is_on=False)
    return ArgoEngine(ArgoParts(client, *caches, accounts, CLOCK, INSTALLATION, DEFAULTS, ""))


async def cubes(stage: Stage) -> list[dict[str, Any]]:
    from datacube_operator.resource import DATACUBES

    return await stage.objects(DATACUBES)


def rights_in(manifest: Path, name: str) -> set[Right]:
    """What the roles of a name in a manifest allow."""
    roles = [d for d in yaml.safe_load_all(manifest.read_text()) if d["kind"] in ("ClusterRole", "Role")]
    rules = [rule for role in roles if role["metadata"]["name"] == name for rule in role["rules"]]
    return {
        (f"{group}/{resource}".lstrip("/"), verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(log: Path) -> set[Right]:
    """What the API server wrote down that it let the operator do."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    allowed = [e for e in entries if e["annotations"].get("authorization.k8s.io/decision") == "allow"]
    return {(_resource(e["objectRef"]), e["verb"]) for e in allowed if "objectRef" in e}


def _resource(about: dict[str, str]) -> str:
    return "/".join(p for p in (about.get("apiGroup", ""), about["resource"], about.get("subresource", "")) if p)
