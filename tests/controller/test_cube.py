"""What is read of a DataCube, and by what it and its pods are found."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator.cube import BY_CLAIM, BY_OWNER, BY_UID, CUBE_INDEXES, POD_INDEXES, path_use_of, path_use_of_pod
from datacube_operator.store import Store

from datacube_flows.api.status import DataCubeStatus
from datacube_flows.engines.argo_trim import trim_pod
from tests.controller.decision_objects import (
    NAMESPACE,
    cube_named,
    cube_of,
    made,
    plan_of,
    pod_of,
    status_of,
    workflow_of,
)
from tests.controller.scenarios_documents import download, upload, with_spec

pytestmark = pytest.mark.t0

Object = dict[str, Any]


@pytest.mark.parametrize(
    ("status", "is_active", "is_final", "waits_for"),
    [
        pytest.param(None, False, False, "", id="never looked at"),
        pytest.param(status_of("Pending", Initialized="PathBusy"), False, False, "PathBusy", id="waits"),
        pytest.param(status_of("Pending", "r", Initialized="Queued"), True, False, "", id="began, and waits"),
        pytest.param(status_of("Running", "r", states="TFF", Complete="Transferring"), True, False, "", id="runs"),
        pytest.param(status_of("Suspended", Initialized="Suspended"), False, False, "Suspended", id="held"),
        pytest.param(status_of("Suspended", "r", Initialized="Suspended"), True, False, "", id="held by hand in Argo"),
        pytest.param(
            status_of("Pending", states="TFF", Complete="PathBusy"), False, False, "PathBusy", id="waits once more"
        ),
        pytest.param(status_of("Succeeded", "r", states="TTF"), False, True, "", id="succeeded"),
        pytest.param(status_of("Failed", "r", states="FFT", Initialized="PathBusy"), False, True, "", id="failed"),
    ],
)
def test_cube_tells_how_its_run_stands(
    status: Object | None, *, is_active: bool, is_final: bool, waits_for: str
) -> None:
    cube = cube_named("cube", status)
    assert (cube.is_active, cube.is_final, cube.waits_for) == (is_active, is_final, waits_for)


def test_cube_is_read_where_it_says_little() -> None:
    document = made(download("cube"))
    del document["metadata"]["annotations"]
    cube = cube_of(document)
    assert (cube.rerun, cube.is_suspended, cube.ttl_seconds, cube.run, cube.run_uid) == ("", False, None, "", "")
    assert (cube.key, cube.generation) == (f"{NAMESPACE}/cube", 1)


def test_cube_tells_what_its_author_wants() -> None:
    document = made(with_spec(download("cube"), suspend=True, ttlSecondsAfterFinished=0), rerun="x")
    cube = cube_of(document)
    assert (cube.rerun, cube.is_suspended, cube.ttl_seconds, cube.is_going) == ("x", True, 0, False)
    assert cube_of(made(download("cube"), deletionTimestamp="2026-01-01T00:00:00Z")).is_going


@pytest.mark.parametrize("status", [{"phase": "Resting"}, {"conditions": [{"type": "Initialized"}]}, {"attempts": 3}])
def test_status_that_cannot_be_read_is_none(status: Object) -> None:
    assert cube_of(made(download("cube")), status).status == DataCubeStatus()


@pytest.mark.parametrize(
    ("document", "use"),
    [
        (download("a", claim="data", sub_path="x/y/"), ("a", "data", "x/y", True)),
        (upload("a", claim="data", sub_path="x"), ("a", "data", "x", False)),
        ({"metadata": {"name": "a"}, "spec": {"sink": {"type": "pvc", "pvc": {"name": "c"}}}}, ("a", "c", "", True)),
        ({"metadata": {"name": "a"}, "spec": {"source": {"type": "pvc"}, "sink": {"type": "s3"}}}, None),
        ({"metadata": {"name": "a"}, "spec": {}}, None),
    ],
)
def test_path_is_read_of_any_document(document: Object, use: tuple[str, str, str, bool] | None) -> None:
    found = path_use_of(document)
    assert (found and (found.cube, found.claim, found.sub_path, found.writes)) == use


@pytest.mark.parametrize("document", [download("a"), upload("a"), download("a", sub_path=""), upload("a", sub_path="")])
def test_path_of_an_attempts_pod_is_that_of_its_plan(document: Object) -> None:
    plan = plan_of(made(document))
    pod = pod_of(plan, workflow_of(plan))
    assert path_use_of_pod(pod) == path_use_of_pod(trim_pod(pod)) == plan.path_use == path_use_of(document)


@pytest.mark.parametrize("spec", [{}, {"containers": [{"name": "main"}]}, {"volumes": [{"name": "data"}]}])
def test_pod_that_mounts_no_claim_uses_no_path(spec: Object) -> None:
    assert path_use_of_pod({"metadata": {"name": "p"}, "spec": spec}) is None


def test_pods_are_found_by_cube_owner_and_claim_of_their_namespace_alone() -> None:
    plan = plan_of(made(download("cube")))
    workflow = workflow_of(plan)
    mine, other = pod_of(plan, workflow), pod_of(plan, workflow)
    other["metadata"]["namespace"] = "elsewhere"
    pods = Store(POD_INDEXES)
    pods.put(mine)
    pods.put(other)
    wanted = {BY_UID: plan.uid, BY_OWNER: workflow["metadata"]["uid"], BY_CLAIM: "data"}
    assert {index: pods.find(index, f"{NAMESPACE}/{value}") for index, value in wanted.items()} == {
        index: [mine] for index in wanted
    }


def test_cubes_are_found_by_uid_and_claim() -> None:
    document = made(download("cube"))
    cubes = Store(CUBE_INDEXES)
    cubes.put(document)
    assert cubes.find(BY_UID, f"{NAMESPACE}/uid-of-cube") == cubes.find(BY_CLAIM, f"{NAMESPACE}/data") == [document]
