"""Pods and claims: restricted, without a secret value, mounted as the specification says; goldens for every example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from datacube_flows.core.expansion import expand
from datacube_flows.core.manifests import DATA_FOLDER, Installation, Places, make_arguments, make_claim, make_pod
from datacube_flows.core.plan import TransferPlan, make_plan
from datacube_flows.core.rules import validate
from datacube_flows.transfers.run import parse_arguments
from tests.generate import ROOT, generated

pytestmark = pytest.mark.t0

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def plan_of(name: str, **executor: Any) -> TransferPlan:
    document = yaml.safe_load((ROOT / f"examples/{name}.yaml").read_text())
    document["spec"].setdefault("executor", {}).update(executor)
    return make_plan(validate(document))


def pod_of(plan: TransferPlan, installation: Installation | None = None) -> dict[str, Any]:
    return make_pod(plan, installation or Installation(), name="p")["spec"]  # type: ignore[no-any-return]


def container_of(plan: TransferPlan) -> dict[str, Any]:
    return pod_of(plan)["containers"][0]  # type: ignore[no-any-return]


def test_generated_files_are_current() -> None:
    stale = [path.name for path, text in generated() if not path.exists() or path.read_text() != text]
    assert stale == [], "run: make generate"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_pod_of_every_example_is_restricted(path: Path) -> None:
    spec = pod_of(plan_of(path.stem))
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["name"] == "main"
    assert container["command"]


def test_download_mounts_its_folder_and_upload_the_whole_claim_read_only() -> None:
    download = container_of(plan_of("git-download"))["volumeMounts"][0]
    assert download == {"name": "data", "mountPath": DATA_FOLDER, "subPath": "dev/git"}
    plan = plan_of("git-upload")
    assert container_of(plan)["volumeMounts"][0] == {"name": "data", "mountPath": DATA_FOLDER, "readOnly": True}
    assert pod_of(plan)["volumes"][0]["persistentVolumeClaim"] == {"claimName": "datacube-pvc", "readOnly": True}


def test_deadline_is_the_pods_own() -> None:
    assert "activeDeadlineSeconds" not in pod_of(plan_of("git-download"))
    assert pod_of(plan_of("git-download", options={"activeDeadlineSeconds": 7}))["activeDeadlineSeconds"] == 7


def test_users_security_context_is_merged_field_by_field() -> None:
    context = pod_of(plan_of("git-download", securityContext={"runAsUser": 1000}))["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (1000, 65532, True)
    context = pod_of(plan_of("git-download", securityContext={"runAsUser": 0}))["securityContext"]
    assert "runAsNonRoot" not in context


RULE = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}


def test_pod_settings_of_the_document_reach_the_pod() -> None:
    wanted: dict[str, Any] = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "priorityClassName": "low",
        "serviceAccountName": "irsa",
        "imagePullSecrets": [{"name": "registry"}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [RULE]}},
    }
    spec = pod_of(plan_of("s3-download", resources={"limits": {"memory": "4Gi"}}, **wanted))
    assert {name: spec.get(name) for name in wanted} == wanted
    assert spec["containers"][0]["resources"] == {"limits": {"memory": "4Gi"}}


def test_claim_is_the_template_and_is_owned_by_nobody() -> None:
    claim = make_claim(plan_of("git-download"))
    assert claim is not None
    assert claim["metadata"] == {"name": "datacube-pvc", "namespace": "default"}
    assert claim["spec"]["resources"] == {"requests": {"storage": "100Gi"}}
    assert make_claim(plan_of("git-upload")) is None


def test_settings_reach_the_attempt_as_they_were_written() -> None:
    options = {
        "sync": True,
        "verify": "size",
        "maxDelete": 0,
        "stallTimeoutSeconds": 60,
        "bandwidthLimit": "1M",
        "dryRun": True,
        "extraArgs": ["--transfers", "8"],
    }
    plan = plan_of("s3-download", options=options)
    places = Places("/data", "/report", "/out", "/ca.pem")
    read = parse_arguments(make_arguments(plan, Installation(allow_http=True), places))
    assert (read.kind, str(read.folder), read.sub_path, str(read.report)) == (
        "s3-download",
        "/data",
        "dev/s3",
        "/report",
    )
    assert (read.sync, read.dry_run, read.allow_http) == (True, True, True)
    assert (read.verify, read.max_delete, read.stall_timeout, read.bandwidth_limit) == ("size", 0, 60, 1_000_000)
    assert read.extra_args == ["--transfers", "8"]
    assert str(read.ca_bundle) == "/ca.pem"
    assert read.secret_env == ["S3_ENDPOINT", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"]


def test_arguments_survive_the_kubelets_expansion() -> None:
    document = yaml.safe_load((ROOT / "examples/s3-download.yaml").read_text())
    document["spec"]["sink"]["pvc"]["subPath"] = "odd/$TOKEN$$x"
    plan = make_plan(validate(document))
    seen = [expand(a, {"TOKEN": "value"}) for a in container_of(plan)["args"]]
    assert "--sub-path=odd/$TOKEN$$x" in seen


def test_no_value_of_a_reference_is_in_any_object() -> None:
    text = json.dumps(pod_of(plan_of("s3-download")))
    assert "secretKeyRef" in text
    assert '"value": "https' not in text


def test_authorities_of_the_installation_are_mounted() -> None:
    spec = pod_of(plan_of("git-download"), Installation(ca_config_map="ca"))
    assert {"name": "ca", "configMap": {"name": "ca"}} in spec["volumes"]
    assert "--ca-bundle=/etc/datacube/ca/ca-bundle.pem" in spec["containers"][0]["args"]
