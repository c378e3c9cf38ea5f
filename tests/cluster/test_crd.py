"""The CRD on a real API server: how it is taken, how `kubectl explain` reads it, what the largest documents cost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.api.datacube import API_VERSION, MAX_ENV, MAX_EXTRA_ARGS, MAX_OPTIONS, DataCubeSpec
from datacube_flows.api.status import DataCubeStatus
from datacube_flows.api.wire import MAX_VALUE
from datacube_flows.core.crd import PLURAL, make_crd
from datacube_flows.core.kinds import KINDS, Direction, kind_named
from tests.cluster.crd_documents import model_paths
from tests.core.rule_documents import OPTIONS, document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster
    from tests.cluster.crd_client import CubeClient
    from tests.cluster.crd_documents import Document

pytestmark = pytest.mark.t2

CRD_FILE = Path(__file__).parents[2] / "operator/deploy/crd.yaml"
CRD = make_crd()
CRD_NAME = CRD["metadata"]["name"]


def test_crd_is_established_without_complaint(crd_api: Cluster) -> None:
    status = crd_api.get("crd", CRD_NAME)["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]} == {"NamesAccepted": "True", "Established": "True"}
    assert status["storedVersions"] == [CRD["spec"]["versions"][0]["name"]]


def test_crd_is_stored_as_it_was_written(crd_api: Cluster) -> None:
    spec = crd_api.get("crd", CRD_NAME)["spec"]
    assert spec.pop("conversion") == {"strategy": "None"}
    assert spec == CRD["spec"]


def test_crd_file_is_applied_without_a_warning_and_changes_nothing(crd_api: Cluster) -> None:
    before = crd_api.get("crd", CRD_NAME)["metadata"]["generation"]
    done = crd_api.try_kubectl("apply", "--server-side", "--warnings-as-errors", "-f", str(CRD_FILE))
    assert (done.returncode, done.stderr) == (0, "")
    assert crd_api.get("crd", CRD_NAME)["metadata"]["generation"] == before


def test_category_and_short_name_lead_to_datacubes(crd_api: Cluster) -> None:
    assert crd_api.kubectl("api-resources", "--categories=datacube", "-o", "name").split() == [CRD_NAME]
    (line,) = crd_api.kubectl("api-resources", "--api-group=tensorstack.dev", "--no-headers").splitlines()
    assert line.split() == [PLURAL, "dcube", API_VERSION, "true", "DataCube"]


EXPLAINED = (
    "datacube",
    "datacube.spec",
    "datacube.spec.source",
    "datacube.spec.source.options",
    "datacube.spec.sink.pvc.template.spec",
    "datacube.spec.executor",
    "datacube.spec.executor.options",
    "datacube.spec.executor.securityContext",
    "datacube.status",
    "datacube.status.conditions",
    "datacube.status.attempts",
)


@pytest.mark.parametrize("path", EXPLAINED)
def test_explain_describes_every_field(crd_api: Cluster, path: str) -> None:
    text = crd_api.kubectl("explain", path)
    head, fields = text.split("FIELDS:\n")
    assert re.search(r"DESCRIPTION:\n +\w", head), text
    blocks = re.split(r"^  (?=\w+\t<)", fields, flags=re.MULTILINE)[1:]
    names = {block.split("\t")[0] for block in blocks}
    assert names == {p.rsplit(".", 1)[1] for p in children_of(path)}, text
    for block in blocks:
        said = [line for line in block.splitlines()[1:] if line.startswith("    ")]
        assert said, text
        assert said[-1].endswith((".", "resources", "types-kinds", "metadata")), text  # a sentence, or a link's end


def children_of(path: str) -> set[str]:
    """The paths of the fields of what is explained, as the models have them."""
    if path == "datacube":
        return {f".{name}" for name in ("apiVersion", "kind", "metadata", "spec", "status")}
    known = model_paths(DataCubeSpec, "datacube.spec") | model_paths(DataCubeStatus, "datacube.status")
    plain = {p.replace("[]", "") for p in known}
    return {p for p in plain if p.rpartition(".")[0] == path}


@pytest.mark.parametrize(("end", "direction"), [("source", Direction.DOWNLOAD), ("sink", Direction.UPLOAD)])
def test_explain_lists_the_options_of_each_store(crd_api: Cluster, end: str, direction: Direction) -> None:
    text = crd_api.kubectl("explain", f"datacube.spec.{end}.options")
    said = " ".join(text.split())
    for kind in (kind for kind in KINDS if kind.direction is direction):
        listed = said.split(f" {kind.store}: - ")[1]
        for option in kind.options:
            required = " (required)" if option.required else ""
            assert f"{option.name}{required}: {option.help}" in listed, text


def test_explain_knows_every_field(crd_api: Cluster) -> None:
    """`kubectl explain` reads the OpenAPI document; it has every field of the models, and a description of each."""
    published = crd_api.kubectl("get", "--raw", f"/openapi/v3/apis/{API_VERSION}")
    schema = json_schema_of(published)
    described = dict(descriptions(schema["properties"]["spec"], "spec"))
    described |= dict(descriptions(schema["properties"]["status"], "status"))
    assert set(described) == model_paths(DataCubeSpec, "spec") | model_paths(DataCubeStatus, "status")
    assert [path for path, text in described.items() if not text.endswith(".")] == []


def json_schema_of(published: str) -> Document:
    """The schema of DataCubes in an OpenAPI document."""
    schemas: dict[str, Document] = json.loads(published)["components"]["schemas"]
    (found,) = [s for name, s in schemas.items() if name.endswith(".DataCube")]
    return found


def descriptions(node: Document, path: str) -> Iterator[tuple[str, str]]:
    """Each path with its description."""
    if "items" in node:
        yield from descriptions(node["items"], f"{path}[]")
    for name, part in node.get("properties", {}).items():
        yield f"{path}.{name}", part.get("description", "")
        yield from descriptions(part, f"{path}.{name}")


@pytest.mark.parametrize("kind", OPTIONS)
def test_largest_document_is_within_the_cost_limit(cubes: CubeClient, kind: str) -> None:
    cube = largest(kind, MAX_VALUE)
    assert len(cube["spec"]["executor"]["env"]) == MAX_ENV
    assert cubes.check(cube).message == ""


@pytest.mark.parametrize("kind", OPTIONS)
def test_largest_document_that_can_be_stored_can_be_updated(fresh_cubes: CubeClient, kind: str) -> None:
    """What etcd takes at most is 1.5 MiB."""
    cube = largest(kind, MAX_VALUE // 2)
    assert fresh_cubes.create(cube).message == ""
    assert fresh_cubes.patch(kind, {"spec": {"suspend": True}}).message == ""
    refused = fresh_cubes.patch(kind, {"spec": {"executor": {"engine": "argo"}}})
    assert "cannot be changed after creation" in refused.message


@pytest.mark.parametrize("kind", OPTIONS)
def test_largest_wrong_document_is_refused_by_its_rules_and_not_for_its_cost(cubes: CubeClient, kind: str) -> None:
    wrong = [{"name": f"{'x' * 250}-{i:02}", "value": "../" * (MAX_VALUE // 3)} for i in range(MAX_OPTIONS)]
    cube = document(kind, dict.fromkeys(OPTIONS[kind]), more=wrong)
    cube["spec"]["executor"] = largest(kind, MAX_VALUE)["spec"]["executor"]
    answer = cubes.check(cube)
    assert "has no such option" in answer.message
    assert "cost" not in answer.message


def largest(kind: str, size: int) -> Document:
    """A document that is right, with all lists full, and all values of variables and options of a size."""
    cube = document(kind, long_options(kind, size), subPath="a/" * 511)
    env = [{"name": f"E{i:_>252}", "value": "v" * size} for i in range(MAX_ENV)]
    cube["spec"]["executor"] = {"env": env, "options": {"extraArgs": ["-" + "a" * 1023] * MAX_EXTRA_ARGS}}
    return cube


def long_options(kind: str, size: int) -> dict[str, Any]:
    """Every option of a kind, as long as its rules let it be."""
    beginnings = {"url": "https://host/", "s3-uri": "s3://bucket/", "s3-endpoint": "https://host/"}
    found: dict[str, Any] = {}
    for option in kind_named(kind).options:
        long = (beginnings.get(option.name, "") + "a," * size)[:size]
        found[option.name] = option.choices[0] if option.choices else long
    if "repo" in found:
        found["repo"] = f"{'a' * 96}/{'b' * 96}"
    return found
