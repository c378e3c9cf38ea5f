"""Argo's objects say what the pod of an attempt says, for every example, and need no workflow around them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.core import labels
from datacube_flows.core.expansion import expand
from datacube_flows.core.manifests import Installation, make_claim, make_container, make_owner, make_pod
from datacube_flows.core.plan import TransferPlan, make_plan
from datacube_flows.core.retry import EXIT_PERMANENT, backoff_seconds
from datacube_flows.core.rules import validate
from datacube_flows.engines import argo
from datacube_flows.engines.argo import render_template, render_workflow, template_name
from datacube_flows.engines.argo_accounts import ArgoSettings, render_accounts, render_cluster_roles
from datacube_flows.engines.argo_text import BRACE
from datacube_flows.errors import InvalidDataCube
from tests.core.rule_documents import OPTIONS, TEMPLATE, document
from tests.core.test_manifests import plan_of
from tests.generate import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.t0

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)

SETTINGS: dict[str, Any] = {
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}],
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
            ]
        }
    },
    "priorityClassName": "low",
    "serviceAccountName": "irsa",
    "imagePullSecrets": [{"name": "registry"}],
    "securityContext": {"runAsUser": 1000, "supplementalGroups": [7]},
    "resources": {
        "limits": {"memory": "4Gi", "nvidia.com/gpu": 1},
        "requests": {"cpu": 2},
        "claims": [{"name": "gpu"}],
    },
    "options": {"activeDeadlineSeconds": 60, "backoffLimit": 4},
}
"""All that a document may say of the pod."""

OWN_LABELS = {labels.RUN: "{{inputs.parameters.run}}", labels.ATTEMPT: "{{=asInt(retries) + 1}}"}
"""What differs between the pods of a template."""

DROPPED = {"restartPolicy", "automountServiceAccountToken"}
"""Fields of a pod that Argo sets itself; the token's folder is covered in the attempt instead."""


def templates_of(plan: TransferPlan, installation: Installation | None = None) -> dict[str, Any]:
    rendered = render_template(plan, installation or Installation())
    return {t["name"]: t for t in rendered["spec"]["templates"]}


def cube_named(name: str, uid: str = "u") -> TransferPlan:
    given_document = document("s3-download")
    given_document["metadata"] = {"name": name, "namespace": "ns", "uid": uid}
    return make_plan(validate(given_document))


def assert_parity(plan: TransferPlan, installation: Installation) -> None:
    """Every field of the pod is in the template under its name, or in the patch, or known to be Argo's own."""
    template, pod = templates_of(plan, installation)["transfer"], make_pod(plan, installation, name="p")
    spec, patch = pod["spec"], json.loads(template["podSpecPatch"])
    assert template["metadata"]["labels"] == pod["metadata"]["labels"] | OWN_LABELS
    assert template["metadata"]["annotations"] == pod["metadata"]["annotations"]
    volumes, token = template["volumes"][:-1], template["volumes"][-1]
    assert (volumes, token) == (spec["volumes"], {"name": "no-token", "emptyDir": {}})
    seen = {n: template.get(n, patch.get(n)) for n in spec.keys() - DROPPED - {"containers", "volumes"}}
    assert seen == {n: spec[n] for n in seen}


@each_example
def test_container_of_every_example_is_that_of_its_pod(path: Path) -> None:
    plan = plan_of(path.stem)
    written, container = make_container(plan, Installation()), templates_of(plan)["transfer"]["container"]
    brace, *env = container.pop("env")
    *mounts, token = container.pop("volumeMounts")
    assert brace == {"name": BRACE, "value": "{"}
    assert env == written.pop("env")
    assert mounts == written.pop("volumeMounts")
    assert token == {"name": "no-token", "mountPath": argo.TOKEN_FOLDER, "readOnly": True}
    assert container == written


@each_example
def test_pod_of_every_example_is_in_its_template(path: Path) -> None:
    assert_parity(plan_of(path.stem), Installation())


@pytest.mark.parametrize("kind", OPTIONS)
def test_all_settings_of_a_pod_are_in_the_template(kind: str) -> None:
    full = document(kind)
    full["spec"]["executor"] = SETTINGS
    installation = Installation(image_pull_policy="Never", ca_config_map="ca", allow_http=True)
    plan = make_plan(validate(full))
    assert_parity(plan, installation)
    template = templates_of(plan, installation)["transfer"]
    assert template["container"]["resources"] == {
        "limits": {"memory": "4Gi", "nvidia.com/gpu": "1"},
        "requests": {"cpu": "2"},
        "claims": [{"name": "gpu"}],
    }
    assert template["container"]["imagePullPolicy"] == "Never"
    assert template["activeDeadlineSeconds"] == 60


@each_example
def test_retries_are_the_documents_with_the_pauses_of_other_engines(path: Path) -> None:
    plan = plan_of(path.stem)
    retry = templates_of(plan)["transfer"]["retryStrategy"]
    assert retry.pop("backoff") == {"duration": "10s", "factor": "2", "cap": "360s"}
    assert [backoff_seconds(n, jitter=0.5) for n in (1, 2, 9)] == [10, 20, 360]
    assert retry == {
        "limit": str(plan.retries),
        "retryPolicy": "Always",
        "expression": f"lastRetry.exitCode != '{EXIT_PERMANENT}'",
    }


@each_example
def test_containers_of_argo_itself_are_restricted(path: Path) -> None:
    for template in templates_of(plan_of(path.stem)).values():
        if "container" in template:
            patch = json.loads(template["podSpecPatch"])
            found = [(c["name"], c["securityContext"]) for c in (*patch["initContainers"], *patch["containers"])]
            assert [name for name, _ in found] == ["init", "wait"]
            assert all(context == template["container"]["securityContext"] for _, context in found)
            assert template["securityContext"]["runAsNonRoot"] is True


@each_example
def test_nothing_that_a_run_needs_stands_outside_of_its_templates(path: Path) -> None:
    plan = plan_of(path.stem)
    assert set(render_template(plan, Installation())["spec"]) == {"entrypoint", "templates"}
    spec = render_workflow(plan)["spec"]
    assert set(spec) == {"workflowTemplateRef", "arguments", "ttlStrategy"}
    assert spec["workflowTemplateRef"] == {"name": f"datacube-{plan.name}"}


def test_claim_is_made_by_a_step_of_its_own_account_unless_an_argument_says_no() -> None:
    plan = plan_of("s3-download")
    templates = templates_of(plan)
    provision, (first, second) = templates["provision"], templates["datacube"]["steps"]
    (argument,) = provision["container"]["args"]
    assert json.loads(expand(argument, {BRACE: "{"})) == make_claim(plan)
    assert provision["serviceAccountName"] == "datacube-provisioner"
    assert templates["transfer"]["serviceAccountName"] == "datacube-runner"
    assert (first[0]["when"], second[0]["name"]) == ("{{inputs.parameters.provision}} == true", "transfer")
    given_arguments = render_workflow(plan, claim_exists=True)["spec"]["arguments"]["parameters"]
    assert given_arguments == [{"name": "run", "value": plan.run_id}, {"name": "provision", "value": "false"}]


def test_step_that_makes_the_claim_runs_where_the_attempt_may_and_pulls_its_image_alike() -> None:
    full = document("s3-download", template=TEMPLATE)
    full["spec"]["executor"] = SETTINGS
    templates = templates_of(make_plan(validate(full)), Installation(image_pull_policy="Always"))
    provision, transfer = templates["provision"], templates["transfer"]
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "podSpecPatch"):
        assert provision[name] == transfer[name]
    assert json.loads(provision["podSpecPatch"])["imagePullSecrets"] == SETTINGS["imagePullSecrets"]
    assert provision["container"]["image"] == transfer["container"]["image"]
    assert provision["container"]["imagePullPolicy"] == "Always"
    assert provision["serviceAccountName"] == "datacube-provisioner"


def test_pods_that_make_claims_are_told_from_attempts() -> None:
    templates = templates_of(plan_of("s3-download"))
    steps = {name: templates[name]["metadata"]["labels"][labels.STEP] for name in ("provision", "transfer")}
    assert steps == {"provision": "provision", "transfer": "transfer"}


def test_document_without_a_claim_template_has_no_step_for_it() -> None:
    plan = plan_of("s3-upload")
    assert list(templates_of(plan)) == ["datacube", "transfer"]
    assert len(templates_of(plan)["datacube"]["steps"]) == 1
    assert [p["name"] for p in render_workflow(plan)["spec"]["arguments"]["parameters"]] == ["run"]


def test_outputs_are_those_of_the_attempt_under_the_same_names() -> None:
    templates = templates_of(plan_of("git-download"))
    names = [o["name"] for o in templates["transfer"]["outputs"]["parameters"]]
    assert names == ["path", "revision", "files", "bytes"]
    assert templates["datacube"]["outputs"]["parameters"] == [
        {"name": n, "valueFrom": {"parameter": f"{{{{steps.transfer.outputs.parameters.{n}}}}}"}} for n in names
    ]


def test_runs_of_a_cube_exclude_each_other_wherever_they_run() -> None:
    template = templates_of(cube_named("a.b"))["datacube"]
    assert template["synchronization"] == {"mutexes": [{"name": "datacube-a.b"}]}


def test_rerun_finds_the_same_template_and_makes_another_workflow() -> None:
    plan, again = cube_named("a"), cube_named("a").model_copy(update={"run_id": "another1"})
    assert render_template(plan, Installation()) == render_template(again, Installation())
    assert plan.run_name != again.run_name


def test_objects_go_with_their_cube_and_the_claim_does_not() -> None:
    plan = cube_named("a", uid="1234")
    wanted = [
        {"apiVersion": "tensorstack.dev/v1beta1", "kind": "DataCube", "name": "a", "uid": "1234", "controller": True}
    ]
    rendered = render_template(plan, Installation(), make_owner(plan)), render_workflow(plan, make_owner(plan))
    assert [o["metadata"]["ownerReferences"] for o in rendered] == [wanted, wanted]
    assert make_owner(plan_of("s3-download")) is None
    assert "ownerReferences" not in json.dumps(make_claim(plan_of("s3-download")))


def test_field_that_hera_does_not_know_is_a_bug_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("s3-upload")
    monkeypatch.setattr(argo, "make_pod_spec", lambda *_: make_pod(plan, Installation(), name="p")["spec"] | UNKNOWN)
    with pytest.raises(argo.LostFields, match="notAField"):
        render_template(plan, Installation())


UNKNOWN = {"securityContext": {"notAField": 1}}

SUBDOMAIN = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?){0,3}\Z")


@given(name=SUBDOMAIN, suffix=st.sampled_from(["a", "b-1"]))
def test_names_fit_and_are_told_apart(name: str, suffix: str) -> None:
    names = [name, f"{name}-{suffix}", name + "x" * 60]
    plans = [cube_named(n, uid=n) for n in names]
    for rendered in ([template_name(n) for n in names], [p.run_name for p in plans]):
        assert len(set(rendered)) == len(names)
        assert all(len(r) <= 63 and "..-" not in r and ".-" not in r and r == r.lower() for r in rendered)
    assert names[0] in template_name(names[0]) or len(names[0]) > 54


def test_long_name_is_cut_and_keeps_its_hash() -> None:
    digest = hashlib.sha256(b"a" * 55).hexdigest()[:8]
    assert template_name("a" * 54) == "datacube-" + "a" * 54
    assert template_name("a" * 55) == f"datacube-{'a' * 45}-{digest}"
    plan = cube_named("n" * 39 + "-longer")
    assert plan.run_name == f"{'n' * 39}-{plan.run_id}"


PIECES = st.sampled_from(
    ["{", "{{", "}}", "$", "$$", "$(", "$(TOKEN)", "$({{", "(", ")", "workflow.name", "=1+1", "\n"]
)
TEXT = st.lists(PIECES, max_size=8).map("".join)
OWN = {
    "{{inputs.parameters.run}}",
    "{{=asInt(retries) + 1}}",
    "{{inputs.parameters.provision}} == true",
    *(f"{{{{steps.transfer.outputs.parameters.{name}}}}}" for name in argo.OUTPUTS),
}


@given(message=TEXT, proxy=TEXT)
def test_no_text_of_a_document_is_a_template_of_argos(message: str, proxy: str) -> None:
    plan = make_plan(validate(document("huggingface-upload", {"commit-message": message}, env={"MY_NOTE": proxy})))
    rendered = render_template(plan, Installation())
    assert {text for text in _texts(rendered) if "{{" in text} <= OWN
    written = {v["name"]: v.get("value", "") for v in _container(rendered)["env"]}
    seen = {name: expand(written[name], {BRACE: "{", "TOKEN": "t"}) for name in ("COMMIT_MESSAGE", "MY_NOTE")}
    assert seen == {"COMMIT_MESSAGE": expand(message, {"TOKEN": "t"}), "MY_NOTE": expand(proxy, {"TOKEN": "t"})}


@given(note=TEXT)
def test_annotation_of_a_claim_reaches_the_step_that_makes_it_as_it_was_written(note: str) -> None:
    template = TEMPLATE | {"metadata": {"annotations": {"note": note + "."}}}
    plan = make_plan(validate(document("s3-download", template=template)))
    rendered = render_template(plan, Installation())
    assert {text for text in _texts(rendered) if "{{" in text} <= OWN
    (argument,) = _container(rendered, "provision")["args"]
    assert json.loads(expand(argument, {BRACE: "{"})) == make_claim(plan)


def test_braces_that_nothing_can_protect_are_refused() -> None:
    plan = plan_of("s3-upload")
    pod = plan.pod.model_copy(update={"node_selector": {"disk": "{{workflow.name}}"}})
    with pytest.raises(InvalidDataCube, match=r"pod\.nodeSelector\.disk: holds `\{\{`"):
        render_template(plan.model_copy(update={"pod": pod}), Installation())


def _container(rendered: dict[str, Any], name: str = "transfer") -> dict[str, Any]:
    return next(t["container"] for t in rendered["spec"]["templates"] if t["name"] == name)  # type: ignore[no-any-return]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def test_accounts_have_the_rights_that_their_pods_use() -> None:
    roles = {role["metadata"]["name"]: role["rules"] for role in render_cluster_roles()}
    documents = render_accounts("ns", ArgoSettings(runner_account="runner", provisioner_account="maker"))
    rights = {
        account["name"]: [(rule["resources"], rule["verbs"]) for rule in roles[binding["roleRef"]["name"]]]
        for binding in documents
        if binding["kind"] == "RoleBinding"
        for account in binding["subjects"]
    }
    outputs = (["workflowtaskresults"], ["create", "patch"])
    assert rights == {"runner": [outputs], "maker": [outputs, (["persistentvolumeclaims"], ["get", "create"])]}
    assert {d["metadata"]["namespace"] for d in documents} == {"ns"}
    assert [d["metadata"]["name"] for d in documents if d["kind"] == "ServiceAccount"] == ["runner", "maker"]
