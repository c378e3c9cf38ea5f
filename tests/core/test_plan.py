"""The plan: all that a document says, frozen, without a secret value, and the same after a round trip through JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from datacube_flows.core.plan import Policy, TransferPlan, make_plan, run_id
from datacube_flows.core.rules import validate
from datacube_flows.errors import InvalidDataCube
from tests.canary import CANARY

pytestmark = pytest.mark.t0

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def example(name: str) -> dict[str, Any]:
    path = next(p for p in EXAMPLES if p.stem == name)
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def plan_of(document: dict[str, Any]) -> TransferPlan:
    return make_plan(validate(document))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_plan_of_every_example_survives_json(path: Path) -> None:
    plan = plan_of(yaml.safe_load(path.read_text()))
    again = TransferPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.hash == plan.hash


def test_plan_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        plan_of(example("git-download")).name = "other"  # type: ignore[misc]


def test_reference_comes_after_what_it_names_whatever_the_user_wrote() -> None:
    document = example("git-download")
    document["spec"]["source"]["options"].reverse()
    names = [v.name for v in plan_of(document).env]
    assert names.index("TOKEN") < names.index("URL")


def test_options_become_environment_names_and_user_variables_follow() -> None:
    document = example("s3-upload")
    document["spec"]["executor"] = {"env": [{"name": "HTTPS_PROXY", "value": "proxy:3128"}]}
    plan = plan_of(document)
    assert [v.name for v in plan.env] == [
        "S3_ENDPOINT",
        "S3_ACCESS_KEY_ID",
        "S3_SECRET_ACCESS_KEY",
        "S3_URI",
        "S3_NO_CHECK_BUCKET",
        "HTTPS_PROXY",
    ]
    assert plan.user_env == ("HTTPS_PROXY",)


def test_secret_names_are_those_from_secrets_and_those_that_are_credentials() -> None:
    document = example("git-download")
    document["spec"]["source"]["options"][0] = {"name": "token", "value": CANARY}
    document["spec"]["executor"] = {
        "env": [{"name": "EXTRA", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]
    }
    assert plan_of(document).secret_env == ("TOKEN", "EXTRA")


def test_defaults_are_the_specifications() -> None:
    plan = plan_of(example("git-download"))
    assert (plan.retries, plan.deadline_seconds, plan.sync, plan.verify, plan.max_delete) == (
        0,
        None,
        False,
        "checksum",
        None,
    )


def test_trailing_slash_of_the_path_means_nothing() -> None:
    assert plan_of(example("git-upload")).claim.sub_path == "dev/git"


def test_null_path_is_the_root() -> None:
    document = example("s3-download")
    document["spec"]["sink"]["pvc"]["subPath"] = None
    assert plan_of(document).claim.sub_path == ""


def test_bandwidth_is_read_as_a_quantity() -> None:
    document = example("s3-download")
    document["spec"]["executor"]["options"]["bandwidthLimit"] = "10Mi"
    assert plan_of(document).bandwidth_limit == 10 * 1024 * 1024


def test_hash_differs_when_anything_differs() -> None:
    document = example("s3-download")
    before = plan_of(document).hash
    document["spec"]["executor"]["options"]["backoffLimit"] = 3
    assert plan_of(document).hash != before


def test_run_id_depends_on_uid_and_rerun_annotation_alone() -> None:
    assert run_id("u", "") == run_id("u", "")
    assert len({run_id("u", ""), run_id("u", "again"), run_id("v", "")}) == 3
    document = example("s3-download")
    document["metadata"] |= {"uid": "u", "annotations": {"datacube.tensorstack.dev/rerun": "again"}}
    assert plan_of(document).run_id == run_id("u", "again")


def test_plan_of_a_cube_that_the_policy_refuses_raises_the_violation() -> None:
    document = example("git-download")
    document["spec"]["executor"] = {"env": [{"name": "MY_SETTING", "value": "1"}]}
    cube = validate(document)
    assert make_plan(cube).user_env == ("MY_SETTING",)
    with pytest.raises(InvalidDataCube, match="MY_SETTING"):
        make_plan(cube, Policy(env_policy="allowlist"))
