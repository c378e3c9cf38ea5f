"""Every rendered object is one of Argo's: by its own CRDs, read strictly, and by an API server that serves them."""

from __future__ import annotations

import copy
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.core.manifests import Installation, make_owner
from datacube_flows.core.plan import TransferPlan, make_plan
from datacube_flows.core.rules import validate
from datacube_flows.engines.argo import render_template, render_workflow
from tests.cluster.api import api_server
from tests.cluster.argo import serve_crds
from tests.cluster.argo_build import ArgoParts, build_argo
from tests.cluster.argo_schema import find_errors, read_schemas
from tests.core.rule_documents import OPTIONS, TEMPLATE, document
from tests.core.test_manifests import EXAMPLES, plan_of
from tests.engines.test_argo import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.argo_schema import Schema
    from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.t2


@pytest.fixture(scope="module")
def parts(cluster_cache: Path) -> ArgoParts:
    return build_argo(cluster_cache, os.environ)


@pytest.fixture(scope="module")
def schemas(parts: ArgoParts) -> dict[str, Schema]:
    return read_schemas(parts)


@pytest.fixture(scope="module")
def argo_api(parts: ArgoParts, cluster_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server of its own: the CRDs are so large that every other test would wait for them."""
    with api_server(tmp_path_factory.mktemp("api"), cluster_cache) as server:
        serve_crds(server, *(parts.crds / f"argoproj.io_{name}.yaml" for name in ("workflows", "workflowtemplates")))
        yield server


def full_plan(kind: str) -> TransferPlan:
    """All that a document may say, in a DataCube that a cluster has seen."""
    claim = {"template": TEMPLATE} if kind.endswith("-download") else {}
    everything = document(kind, env={"NOTE": "{{x}}"}, **claim)
    everything["spec"]["executor"] |= SETTINGS
    everything["metadata"] |= {"uid": "00000000-0000-4000-8000-000000000000", "namespace": "default"}
    return make_plan(validate(everything))


def plans() -> list[TransferPlan]:
    return [*(plan_of(path.stem) for path in EXAMPLES), *(full_plan(kind) for kind in OPTIONS)]


def objects_of(plan: TransferPlan) -> list[dict[str, Any]]:
    owner, installation = make_owner(plan), Installation(image_pull_policy="Never", ca_config_map="ca")
    return [render_template(plan, installation, owner), render_workflow(plan, owner, claim_exists=True)]


@pytest.mark.parametrize("plan", plans(), ids=lambda p: f"{p.name}-{p.uid[:1]}")
def test_rendered_objects_are_what_the_crds_describe(plan: TransferPlan, schemas: dict[str, Schema]) -> None:
    assert [find_errors(o, schemas) for o in objects_of(plan)] == [[], []]


def test_rendered_objects_are_taken_by_an_api_server_that_is_strict(argo_api: Cluster) -> None:
    every = [o for index, plan in enumerate(plans()) for o in objects_of(renamed(plan, index))]
    done = try_create(argo_api, *every)
    assert done == ""


def renamed(plan: TransferPlan, index: int) -> TransferPlan:
    return plan.model_copy(update={"name": f"{plan.name}-{index}"})


def try_create(cluster: Cluster, *objects: dict[str, Any]) -> str:
    """Returns the API server's refusal, empty where it would take all; nothing is kept."""
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    done = cluster.try_kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", text=listing)
    return done.stderr.strip()


def transfer_of(template: dict[str, Any]) -> dict[str, Any]:
    return next(t for t in template["spec"]["templates"] if t["name"] == "transfer")


MUTATIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "field unknown": lambda o: transfer_of(o).update(pendingTimeout="5s", notAField=1),
    "field unknown deep inside": lambda o: transfer_of(o)["container"]["env"][0].update(valeu="x"),
    "text for a number": lambda o: transfer_of(o)["securityContext"].update(runAsUser="65532"),
    "number for a text": lambda o: transfer_of(o)["container"].update(image=1),
    "text for a bool": lambda o: transfer_of(o)["container"]["volumeMounts"][0].update(readOnly="true"),
    "object for a list": lambda o: transfer_of(o).update(volumes={"name": "data"}),
    "bool for a number or text": lambda o: transfer_of(o)["retryStrategy"].update(limit=True),
    "no name where one is required": lambda o: transfer_of(o)["container"]["env"][1].pop("name"),
}


@pytest.mark.parametrize("change", MUTATIONS.values(), ids=MUTATIONS)
def test_wrong_object_is_refused_by_both(
    change: Callable[[dict[str, Any]], object], schemas: dict[str, Schema], argo_api: Cluster
) -> None:
    wrong = copy.deepcopy(objects_of(plan_of("s3-download"))[0])
    change(wrong)
    assert find_errors(wrong, schemas)
    assert try_create(argo_api, wrong)
