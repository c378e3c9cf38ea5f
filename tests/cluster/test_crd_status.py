"""What kubectl shows of DataCubes, how spec and status are kept apart, and that nothing written is lost."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.api.parse import parse_datacube
from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import ConditionType, DataCubeStatus
from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.labels import RERUN
from datacube_flows.core.observation import Observation
from tests.cluster.crd_documents import full_documents, full_status, model_paths, set_paths
from tests.cluster.crd_verdicts import NOWHERE
from tests.core.rule_table import CHANGES, GOOD, STORED
from tests.core.test_fold import T0, at, failed, running, succeeded

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster
    from tests.cluster.crd_client import Answer, CubeClient
    from tests.cluster.crd_documents import Document

pytestmark = pytest.mark.t2

WORKFLOW = {"engine": "argo", "name": "run"}
SEEN = {
    "huggingface-download": Observation(waiting=(Reason.WAITING_FOR_VOLUME, "claim 'claim' does not exist")),
    "s3-upload": Observation(
        attempts=(failed(1), running(2)), progress={"percent": 42, "bytesPerSecond": 1048576}, workflow=WORKFLOW
    ),
    "s3-download": Observation(attempts=(succeeded(),), workflow=WORKFLOW, progress={"percent": 100}),
    "git-upload": Observation(attempts=(failed(1, Reason.NON_FAST_FORWARD),), workflow=WORKFLOW),
}
SHOWN = {
    "git-download": "git|pvc||||||",
    "huggingface-download": "huggingface|pvc|Pending|||||WaitingForVolume",
    "s3-upload": "pvc|s3|Running|42|2|argo|1048576|",
    "s3-download": "s3|pvc|Succeeded|100|1|argo||TransferComplete",
    "git-upload": "pvc|git|Failed||1|argo||NonFastForward",
}
COLUMNS = ("FROM", "TO", "PHASE", "PROGRESS", "ATTEMPTS")
WIDE = ("ENGINE", "RATE", "REASON")


def folded(seen: Observation) -> Document:
    return fold(initial_status(T0, generation=1), seen, at(20)).to_wire()


def write_status(cubes: CubeClient, name: str, seen: Observation) -> Answer:
    return cubes.patch(f"{name}/status", {"status": folded(seen)})


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [(["datacube"], COLUMNS), (["dcube"], COLUMNS), (["datacubes", "-o", "wide"], COLUMNS + WIDE)],
)
def test_get_shows_how_datacubes_stand(
    crd_api: Cluster, fresh_cubes: CubeClient, arguments: list[str], columns: tuple[str, ...]
) -> None:
    for name in SHOWN:
        assert fresh_cubes.create(GOOD[name]).message == ""
    for name, seen in SEEN.items():
        assert write_status(fresh_cubes, name, seen).message == ""
    rows = rows_of(crd_api.kubectl("get", *arguments, f"--namespace={fresh_cubes.namespace}"))
    wanted = {name: dict(zip(COLUMNS + WIDE, line.split("|"), strict=True)) for name, line in SHOWN.items()}
    assert {name: {c: row[c] for c in columns} for name, row in rows.items()} == {
        name: {c: row[c] for c in columns} for name, row in wanted.items()
    }
    for row in rows.values():
        assert set(row) == {"NAME", "AGE", *columns}
        assert row["AGE"].endswith("s")


def rows_of(table: str) -> dict[str, dict[str, str]]:
    """Name -> column -> what stands below its header."""
    header, *lines = table.splitlines()
    starts = {name: header.index(f" {name}") + 1 if header.index(name) else 0 for name in header.split()}
    ends = [*list(starts.values())[1:], None]
    rows = [{n: line[a:b].strip() for (n, a), b in zip(starts.items(), ends, strict=True)} for line in lines]
    return {row["NAME"]: row for row in rows}


def test_status_is_not_touched_by_a_write_of_the_spec(fresh_cubes: CubeClient) -> None:
    fresh_cubes.create(GOOD["s3-download"] | {"status": {"phase": "Succeeded"}})
    assert "status" not in fresh_cubes.get("s3-download")
    write_status(fresh_cubes, "s3-download", SEEN["s3-download"])
    before = fresh_cubes.get("s3-download")
    answer = fresh_cubes.patch("s3-download", {"spec": {"suspend": True}, "status": {"phase": "Failed"}})
    assert answer.body["spec"]["suspend"] is True
    assert answer.body["status"] == before["status"]
    assert answer.body["metadata"]["generation"] == before["metadata"]["generation"] + 1


def test_spec_is_not_touched_by_a_write_of_the_status(fresh_cubes: CubeClient) -> None:
    before = fresh_cubes.create(GOOD["s3-download"]).body
    change = {"spec": {"suspend": True}, "status": {"phase": "Running"}}
    after = fresh_cubes.patch("s3-download/status", change).body
    assert after["spec"] == before["spec"]
    assert after["status"] == {"phase": "Running"}
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_conditions_of_two_writers_merge_by_type(fresh_cubes: CubeClient) -> None:
    cube = GOOD["git-upload"]
    fresh_cubes.create(cube)
    head = {k: cube[k] for k in ("apiVersion", "kind")} | {"metadata": {"name": "git-upload"}}
    initialized, complete = {"type": "Initialized", "status": "True"}, {"type": "Complete", "status": "False"}
    for writer, condition in (("one", initialized), ("two", complete), ("two", complete | {"status": "True"})):
        answer = fresh_cubes.apply("git-upload/status", head | {"status": {"conditions": [condition]}}, writer)
        assert answer.message == ""
    assert answer.body["status"]["conditions"] == [initialized, complete | {"status": "True"}]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"conditions": [{"type": "Ready", "status": "True"}]}, "Unsupported value"),
        ({"conditions": [{"type": "Failed", "status": "True"}] * 2}, "Duplicate value"),
        ({"phase": "Done"}, "Unsupported value"),
        ({"progress": {"percent": 101}}, "less than or equal to 100"),
        ({"attempts": [{"number": i} for i in range(1, 12)]}, "must have at most 10 items"),
        ({"verdict": "good"}, 'unknown field "status.verdict"'),
    ],
)
def test_status_that_no_fold_makes_is_refused(cubes: CubeClient, status: Document, words: str) -> None:
    name = "huggingface-upload"
    cubes.create(GOOD[name])
    assert words in cubes.patch(f"{name}/status", {"status": status}).message


def test_wait_returns_when_the_datacube_is_complete(crd_api: Cluster, fresh_cubes: CubeClient) -> None:
    fresh_cubes.create(GOOD["s3-upload"])
    write_status(fresh_cubes, "s3-upload", SEEN["s3-upload"])
    wait = ["wait", "--for=condition=Complete", "datacube/s3-upload", f"--namespace={fresh_cubes.namespace}"]
    early = crd_api.try_kubectl(*wait, "--timeout=500ms")
    assert (early.returncode, "timed out" in early.stderr) == (1, True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(crd_api.kubectl, *wait, "--timeout=20s")
        write_status(fresh_cubes, "s3-upload", SEEN["s3-download"])
        assert waiting.result() == "datacube.tensorstack.dev/s3-upload condition met\n"


@pytest.mark.parametrize(("fields", "refused"), CHANGES.values(), ids=CHANGES)
def test_transfer_cannot_be_changed_after_creation(fresh_cubes: CubeClient, fields: Document, refused: str) -> None:
    fresh_cubes.create(STORED)
    answer = fresh_cubes.patch("git-download", {"spec": fields})
    assert [c.path for c in answer.causes] == ([refused] if refused else [])
    assert answer.accepted == (not refused)
    for cause in answer.causes:
        assert "after creation (delete the DataCube and create it anew; to run it again as it is, set" in cause.text
        assert f"{RERUN} to a new value)" in cause.text


def test_executor_cannot_be_added_after_creation(fresh_cubes: CubeClient) -> None:
    fresh_cubes.create(GOOD["git-download"])
    answer = fresh_cubes.patch("git-download", {"spec": {"executor": {"engine": "argo"}}})
    assert [c.path for c in answer.causes] == ["spec.executor"]
    assert "executor cannot be added or removed after creation" in answer.message


def test_metadata_can_be_changed_after_creation(fresh_cubes: CubeClient) -> None:
    fresh_cubes.create(GOOD["git-download"])
    metadata = {
        "labels": {"team": "a"},
        "annotations": {"datacube.tensorstack.dev/rerun": "1"},
        "finalizers": ["a.b/c"],
    }
    changed = fresh_cubes.patch("git-download", {"metadata": metadata})
    assert changed.message == ""
    assert {name: changed.body["metadata"][name] for name in metadata} == metadata
    assert changed.body["metadata"]["generation"] == 1


@pytest.mark.parametrize("name", GOOD)
def test_document_can_be_applied_again(fresh_cubes: CubeClient, name: str) -> None:
    """As charts and continuous delivery do, nulls and all: the stored object differs from the document in defaults."""
    cube = GOOD[name]
    stored = cube["metadata"]["name"]
    assert fresh_cubes.create(cube).message == ""
    assert fresh_cubes.patch(stored, cube).message == ""
    assert fresh_cubes.get(stored)["metadata"]["generation"] == 1


CHARTS = ("nulls of a chart", "empty lists of a chart", "everything in executor")


@pytest.mark.parametrize("name", CHARTS)
def test_kubectl_applies_a_document_again(crd_api: Cluster, fresh_cubes: CubeClient, name: str) -> None:
    cube = GOOD[name]
    command = ["apply", f"--namespace={fresh_cubes.namespace}", "-f", "-"]
    for word in ("created", "unchanged"):
        said = crd_api.kubectl(*command, text=json.dumps(cube))
        assert said == f"datacube.tensorstack.dev/git-download {word}\n"
    stored = fresh_cubes.get("git-download")
    assert stored["metadata"]["generation"] == 1
    assert parse_datacube(stored).spec == parse_datacube(cube).spec


@pytest.mark.parametrize("name", CHARTS)
def test_server_side_apply_takes_a_document_again(fresh_cubes: CubeClient, name: str) -> None:
    cube = without_nulls(GOOD[name])
    for _ in range(2):
        assert fresh_cubes.apply("git-download", cube, "client").message == ""
    assert fresh_cubes.get("git-download")["metadata"]["generation"] == 1
    assert fresh_cubes.apply("git-download", cube, "another").message == ""


def without_nulls(value: Any) -> Any:
    """The value without the fields that are null."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return {k: without_nulls(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def test_server_side_apply_names_each_null_that_it_refuses(fresh_cubes: CubeClient) -> None:
    """Nulls are dropped on create, update and patch, but not here, by any API server and for any CRD."""
    answer = fresh_cubes.apply("git-download", GOOD["nulls of a chart"], "client")
    assert {c.path for c in answer.causes if c.path != NOWHERE} == {
        *("spec.source.pvc", "spec.sink.pvc.subPath", "spec.sink.pvc.template", "spec.suspend"),
        *(f"spec.executor.{name}" for name in ("env", "options", "resources")),
    }


def test_no_field_of_a_document_is_lost(fresh_cubes: CubeClient) -> None:
    for cube in full_documents():
        name = cube["metadata"]["name"]
        assert fresh_cubes.create(cube).message == ""
        stored = fresh_cubes.get(name)
        assert stored["spec"] == cube["spec"]
        assert parse_datacube(stored).spec == parse_datacube(cube).spec


def test_no_field_of_a_status_is_lost(fresh_cubes: CubeClient) -> None:
    status = full_status()
    assert set_paths(status, "status", known := model_paths(DataCubeStatus, "status")) == known
    fresh_cubes.create(GOOD["git-download"])
    assert fresh_cubes.patch("git-download/status", {"status": status}).message == ""
    stored = fresh_cubes.get("git-download")["status"]
    assert stored == status
    assert DataCubeStatus.model_validate(stored).to_wire() == status


@pytest.mark.parametrize("name", SEEN)
def test_status_of_a_fold_comes_back_as_it_was_written(fresh_cubes: CubeClient, name: str) -> None:
    fresh_cubes.create(GOOD[name])
    write_status(fresh_cubes, name, SEEN[name])
    stored = fresh_cubes.get(name)["status"]
    assert stored == folded(SEEN[name])
    assert [c["type"] for c in stored["conditions"]] == list(ConditionType)
