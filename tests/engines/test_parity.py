"""The engines agree: what an attempt is in Argo, in Prefect and on one machine, field by field, over every document.

What may differ stands in two short lists, each entry with its reason; whatever else differs is a fault of an engine.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from datacube_flows.api.reasons import PERMANENT, RETRIED, Reason
from datacube_flows.core.expansion import expand, resolve_env
from datacube_flows.core.manifests import COMMAND, Installation, make_attempt_pod
from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.core.plan import TransferPlan, make_plan
from datacube_flows.core.retry import BACKOFF_JITTER, backoff_seconds, exit_code
from datacube_flows.core.rules import validate
from datacube_flows.engines.argo import TEMPLATE_FIELDS, render_template, render_workflow
from datacube_flows.engines.child import ChildRunner, ChildSettings
from datacube_flows.engines.prefect_flow import _attempts_of
from datacube_flows.engines.volumes import LocalVolumes
from datacube_flows.steps import is_followed
from tests.core.rule_documents import CONFIG, OPTIONS, SECRET, TEMPLATE, document
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from datacube_flows.core.plan import TransferPlan

pytestmark = pytest.mark.t0

Document = dict[str, Any]
Leaves = dict[str, Any]

NUMBER = 2
"""Of the attempt that is compared."""

ABSENT = "(absent)"
VARIES = "(each its own)"

ARGO_ALONE: Mapping[str, tuple[Any, Any, str]] = {
    "spec.restartPolicy": (ABSENT, "Never", "Argo's controller writes it into each pod that it makes"),
    "spec.automountServiceAccountToken": (ABSENT, False, "Argo's own container reports with the token"),
    "spec.volumes.no-token.emptyDir": (VARIES, ABSENT, "so an empty folder hides the token from the attempt"),
    "spec.containers.main.volumeMounts.no-token.mountPath": (VARIES, ABSENT, "and this is where"),
    "spec.containers.main.volumeMounts.no-token.readOnly": (True, ABSENT, "and nothing is put there"),
    "spec.serviceAccountName": ("datacube-runner", ABSENT, "the account with which Argo's container reports outputs"),
    "spec.containers.main.env.DATACUBE_LB": ("{", ABSENT, "keeps Argo from replacing text that holds two braces"),
    "metadata.name": (ABSENT, VARIES, "Argo names pods by its own rule"),
    "metadata.namespace": (ABSENT, VARIES, "a pod of Argo's is where its workflow is"),
    "metadata.owner": (ABSENT, "DataCube", "a pod of Argo's belongs to its workflow, and that to the DataCube"),
}
"""Field of a pod -> what it is in Argo, what it is in Prefect, and why."""

CHILD_ALONE = {
    "--folder": "the claim's folder is where it is, and is mounted nowhere",
    "--report": "there is no kubelet that reads a termination message",
    "--outputs": "nobody but Argo reads outputs from files",
    "--ca-bundle": "a file of this machine, and no ConfigMap",
    "--end-with": "a child must not outlive the process that waits for it; pods are ended by the kubelet",
}
"""Argument of an attempt -> why it is another on one machine."""

CHILD_VARIABLES = {"PATH", "TMPDIR", "HOME"}
"""What the image has of its own, and a process of this machine must be given."""

POD_OF_ARGO = {"container", "volumes", "metadata", "podSpecPatch", *TEMPLATE_FIELDS}
RUN_OF_ARGO = {"name", "inputs", "outputs", "retryStrategy"}
"""Fields of a template; one that is in neither set is one that nobody has compared."""

EXECUTORS: Mapping[str, Document] = {
    "node selector": {"nodeSelector": {"disk": "fast"}},
    "tolerations": {"tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}]},
    "affinity": {
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
                ]
            }
        }
    },
    "priority": {"priorityClassName": "low"},
    "account": {"serviceAccountName": "irsa"},
    "pull secrets": {"imagePullSecrets": [{"name": "registry"}, {"name": "other"}]},
    "security context": {"securityContext": {"runAsUser": 1000, "supplementalGroups": [7], "fsGroup": 8}},
    "root": {"securityContext": {"runAsUser": 0}},
    "resources": {
        "resources": {
            "limits": {"memory": "4Gi", "nvidia.com/gpu": 1},
            "requests": {"cpu": 2},
            "claims": [{"name": "g"}],
        }
    },
    "retries": {"options": {"backoffLimit": 4}},
    "deadline": {"options": {"activeDeadlineSeconds": 60}},
    "manner": {"options": {"verify": "size", "stallTimeoutSeconds": 9, "bandwidthLimit": "10Mi", "dryRun": True}},
    "variables": {"env": [{"name": "HTTPS_PROXY", "value": "http://$(WHO)@proxy"}, {"name": "WHO", **SECRET}]},
    "setting from a config map": {"env": [{"name": "AWS_REGION", **CONFIG}]},
    "text that looks like Argo's": {"env": [{"name": "NOTE", "value": "{{workflow.name}} $$(A) $(B) {{{x}} $({{"}]},
}
"""What a document may say of how it is executed, one thing each."""


def documents() -> Iterator[tuple[str, Document]]:
    """Names and documents: the examples, each kind with each setting, and what only some kinds have."""
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        yield path.stem, yaml.safe_load(path.read_text())
    everything = {name: value for executor in EXECUTORS.values() for name, value in executor.items()}
    for kind in OPTIONS:
        yield f"{kind}, everything", executed(document(kind), everything)
    for name, executor in EXECUTORS.items():
        yield name, executed(document("s3-download"), executor)
    yield "sync", document("s3-download", manner={"sync": True, "maxDelete": 3})
    yield "no deletion", document("s3-download", manner={"sync": True, "maxDelete": 0})
    yield "template of a claim", document("git-download", template=TEMPLATE, subPath="dev/git")
    yield "folder of a claim", document("s3-upload", subPath="dev/s3")
    long = document("git-upload")
    yield "long name", long | {"metadata": {"name": "long" * 15}}
    args = ["--exclude={a,b}$x$$y", "--include=*.bin"]
    yield "arguments of a tool", document("s3-download", manner={"extraArgs": args})


def executed(made: Document, executor: Document) -> Document:
    return made | {"spec": made["spec"] | {"executor": executor}}


def plan_of(made: Document) -> TransferPlan:
    about = {"namespace": "team", "uid": "5ac9"}
    return make_plan(validate(made | {"metadata": made["metadata"] | about}))


PLANS = {name: plan_of(made) for name, made in documents()}
INSTALLATIONS = {
    "plain": Installation(),
    "full": Installation("registry.test/t:1", True, "authorities", 2.5, "Always"),
}
each_plan = pytest.mark.parametrize("name", PLANS)
each_installation = pytest.mark.parametrize("installation", INSTALLATIONS.values(), ids=INSTALLATIONS)


def transfer_template(plan: TransferPlan, installation: Installation) -> Document:
    templates = render_template(plan, installation)["spec"]["templates"]
    (found,) = (t for t in templates if t["name"] == "transfer")
    return dict(found)


def argo_pod(plan: TransferPlan, installation: Installation) -> Document:
    """The pod that Argo makes of its template for an attempt, but for Argo's own containers in it."""
    template = transfer_template(plan, installation)
    assert template.keys() <= POD_OF_ARGO | RUN_OF_ARGO
    patch = json.loads(template["podSpecPatch"])
    own = [container["name"] for container in (*patch.pop("initContainers"), *patch.pop("containers"))]
    assert own == ["init", "wait"]
    spec = {name: template[name] for name in TEMPLATE_FIELDS if name in template} | patch
    spec |= {"containers": [template["container"]], "volumes": template["volumes"]}
    parameters = {p["name"]: p["value"] for p in render_workflow(plan)["spec"]["arguments"]["parameters"]}
    texts = {"{{inputs.parameters.run}}": parameters["run"], "{{=asInt(retries) + 1}}": str(NUMBER)}
    about = template["metadata"]
    about["labels"] = {name: texts.get(value, value) for name, value in about["labels"].items()}
    return {"metadata": about, "spec": spec}


def prefect_pod(plan: TransferPlan, installation: Installation) -> Document:
    """The pod that an attempt is where no workflow makes it."""
    pod = make_attempt_pod(plan, installation, NUMBER)
    assert (pod.pop("apiVersion"), pod.pop("kind")) == ("v1", "Pod")
    (owner,) = pod["metadata"].pop("ownerReferences")
    pod["metadata"]["owner"] = owner["kind"]
    return pod


def looked_up(source: str, name: str, key: str, optional: bool) -> str:
    """What stands in a Secret: text that nobody may expand."""
    return f"<{source} {name}/{key} {optional} $(TOKEN) {{{{x}}}}>"


def as_the_kubelet_does(plan: TransferPlan, pod: Document) -> Document:
    """Returns the pod with arguments and variables as its process gets them."""
    (container,) = pod["spec"]["containers"]
    wire = container.get("env", [])
    entries = type(plan).model_validate(plan.model_dump(mode="json", by_alias=True) | {"env": wire}).env
    env = resolve_env(entries, looked_up)
    sources = {v["name"]: v["valueFrom"] for v in wire if "valueFrom" in v}
    seen = {"args": [expand(arg, env) for arg in container["args"]], "env": env, "valueFrom": sources}
    return pod | {"spec": pod["spec"] | {"containers": [container | seen]}}


def leaves(value: Any, path: str = "") -> Leaves:
    """Returns path -> leaf; items that have names are found by them, whatever their order."""
    if isinstance(value, dict) and value:
        return {k: v for name, inner in value.items() for k, v in leaves(inner, f"{path}.{name}").items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        named = {item["name"]: {k: v for k, v in item.items() if k != "name"} for item in value}
        assert len(named) == len(value)
        return leaves(named, path)
    return {path.removeprefix("."): value}


def differences(plan: TransferPlan, installation: Installation) -> dict[str, tuple[Any, Any]]:
    """Field -> what it is in Argo and in Prefect, where that is not the same."""
    argo, prefect = (leaves(as_the_kubelet_does(plan, make(plan, installation))) for make in (argo_pod, prefect_pod))
    pairs = {path: (argo.get(path, ABSENT), prefect.get(path, ABSENT)) for path in argo | prefect}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def is_allowed(path: str, pair: tuple[Any, Any]) -> bool:
    """Whether the list has this very difference."""
    if path not in ARGO_ALONE:
        return False
    wanted = ARGO_ALONE[path][:2]
    return all(w == found or (w == VARIES and found != ABSENT) for w, found in zip(wanted, pair, strict=True))


@each_installation
@each_plan
def test_pod_of_argo_is_that_of_prefect(name: str, installation: Installation) -> None:
    found = differences(PLANS[name], installation)
    assert {path: pair for path, pair in found.items() if not is_allowed(path, pair)} == {}


def test_list_of_differences_holds_none_that_there_is_not() -> None:
    found = {path for plan in PLANS.values() for path in differences(plan, Installation())}
    assert found == set(ARGO_ALONE)


@each_plan
def test_attempts_are_as_many_and_as_far_apart_in_every_engine(name: str) -> None:
    plan = PLANS[name]
    retry = transfer_template(plan, Installation())["retryStrategy"]
    task = _attempts_of(Untouched(plan))
    assert (int(retry["limit"]), task.retries) == (plan.retries, plan.retries)
    pauses = [backoff_seconds(n, jitter=0.5) for n in range(1, plan.retries + 1)]
    first, factor, cap = (float(retry["backoff"][field].rstrip("s")) for field in ("duration", "factor", "cap"))
    assert [min(first * factor**n, cap) for n in range(plan.retries)] == pauses
    assert (task.retry_delay_seconds or []) == pauses
    assert task.retry_jitter_factor == BACKOFF_JITTER


@pytest.mark.parametrize("reason", sorted(PERMANENT | RETRIED))
def test_failure_is_followed_by_another_attempt_in_every_engine_or_in_none(reason: Reason) -> None:
    plan = PLANS["retries"]
    retry = transfer_template(plan, Installation())["retryStrategy"]
    word, equal, code = retry["expression"].split()
    assert (word, equal, retry["retryPolicy"]) == ("lastRetry.exitCode", "!=", "Always")
    for number in range(1, plan.attempts + 1):
        in_argo = f"'{exit_code(reason)}'" != code and number <= int(retry["limit"])
        seen = AttemptSeen(number, "p", PodPhase.FAILED, "Error", reason=reason)
        assert is_followed(plan, seen) is in_argo


class Started(Exception):
    """Instead of a child: what it would have been."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        super().__init__()
        self.argv, self.env = argv, env


@pytest.fixture
def _no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(argv: list[str], *, env: dict[str, str], **_rest: Any) -> None:
        raise Started(argv, env)

    monkeypatch.setattr("datacube_flows.engines.child.subprocess.Popen", start)


def child_of(plan: TransferPlan, installation: Installation, folder: Path) -> Started:
    """What the child process of an attempt is given."""
    settings = ChildSettings(installation, ca_bundle="/ca.pem" if installation.ca_config_map else "")
    runner = ChildRunner(settings, resolve_env(plan.env, looked_up), folder)
    with pytest.raises(Started) as caught:
        runner.run_attempt(plan, NUMBER, lambda _values: None)
    return caught.value


def shared(argv: list[str]) -> list[str]:
    """The arguments that may not differ."""
    return [arg for arg in argv if arg.partition("=")[0] not in CHILD_ALONE]


@pytest.mark.usefixtures("_no_children")
@each_installation
@each_plan
def test_child_process_is_given_what_the_pods_container_is(
    name: str, installation: Installation, tmp_path: Path
) -> None:
    plan = PLANS[name]
    (container,) = as_the_kubelet_does(plan, prefect_pod(plan, installation))["spec"]["containers"]
    child = child_of(plan, installation, tmp_path)
    assert child.argv[1 : len(COMMAND)] == container["command"][1:]
    assert shared(child.argv[len(COMMAND) :]) == shared(container["args"])
    assert {n: v for n, v in child.env.items() if n not in CHILD_VARIABLES} == container["env"]


@pytest.mark.usefixtures("_no_children")
def test_list_of_a_childs_arguments_holds_none_that_do_not_differ(tmp_path: Path) -> None:
    plan, installation = PLANS["s3-download"], INSTALLATIONS["full"]
    (container,) = prefect_pod(plan, installation)["spec"]["containers"]
    pod, child = (_by_flag(argv) for argv in (container["args"], child_of(plan, installation, tmp_path).argv))
    assert {flag for flag in pod | child if flag.startswith("--") and pod.get(flag) != child.get(flag)} == set(
        CHILD_ALONE
    )


def _by_flag(argv: list[str]) -> dict[str, str]:
    return {flag: value for flag, _, value in (arg.partition("=") for arg in argv)}


@each_plan
def test_folder_of_a_child_is_the_one_that_the_pod_mounts(name: str, tmp_path: Path) -> None:
    plan = PLANS[name]
    spec = prefect_pod(plan, Installation())["spec"]
    (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "data")
    (volume,) = (v for v in spec["volumes"] if v["name"] == "data")
    claim = tmp_path / volume["persistentVolumeClaim"]["claimName"]
    claim.mkdir()
    assert LocalVolumes(tmp_path).mount(plan) == claim / mount.get("subPath", "")


class Untouched:
    """The work of a run before its first attempt."""

    attempts = ()

    def __init__(self, plan: TransferPlan) -> None:
        self.plan = plan
