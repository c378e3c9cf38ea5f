"""From a plan to Kubernetes objects as plain dicts: container, pod, claim. Nobody else writes a container."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core import labels
from datacube_flows.core.expansion import escape
from datacube_flows.errors import WaitingError

if TYPE_CHECKING:
    from datacube_flows.api.corev1 import WireModel
    from datacube_flows.core.plan import TransferPlan

CONTAINER: Final = "main"
MODULE: Final = ("-P", "-m", "datacube_flows.transfers.run")
COMMAND: Final = ("python", *MODULE)
"""Always set: an engine would otherwise have to ask the registry for the image's entry point. `-P`: nothing is imported
from the folder that the process happens to be in."""

DATA_FOLDER: Final = "/data"
SCRATCH_FOLDER: Final = "/tmp"  # noqa: S108 - the pod's own emptyDir
REPORT_FILE: Final = "/dev/termination-log"
OUTPUTS_FOLDER: Final = f"{SCRATCH_FOLDER}/outputs"
CA_FOLDER: Final = "/etc/datacube/ca"
CA_KEY: Final = "ca-bundle.pem"

USER_ID: Final = 65532
SCRATCH_LIMIT: Final = "2Gi"

RESTRICTED_POD: Final = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
POD_ANNOTATIONS: Final = {"sidecar.istio.io/inject": "false"}
"""A proxy beside the transfer would keep the pod running after its end."""

PROVISION_MODULE: Final = ("-P", "-m", "datacube_flows.engines.provision")
PROVISION_RESOURCES: Final = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
DEFAULT_RESOURCES: Final = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}


@dataclass(frozen=True, slots=True)
class Installation:
    """What the installation decides and no document can.

    Attributes:
        image: the transfer image.
        allow_http: whether plain HTTP may be spoken (closed networks).
        ca_config_map: ConfigMap with the authorities to trust, under key `ca-bundle.pem`; "" is the image's own.
        progress_seconds: how often an attempt prints its counters.
        image_pull_policy: `Always`, `IfNotPresent` or `Never`; "" leaves it to Kubernetes.
    """

    image: str = "datacube/transfer:latest"
    allow_http: bool = False
    ca_config_map: str = ""
    progress_seconds: float = 10
    image_pull_policy: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where an attempt finds its folder and leaves what it has to say; differs between a pod and a local child."""

    folder: str = DATA_FOLDER
    report: str = REPORT_FILE
    outputs: str = OUTPUTS_FOLDER
    ca_bundle: str = ""


def make_pod(plan: TransferPlan, installation: Installation, *, name: str) -> dict[str, Any]:
    """Returns the pod of one attempt, complete but for its owner."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": plan.namespace,
            "labels": make_labels(plan) | {labels.STEP: labels.TRANSFER},
            "annotations": POD_ANNOTATIONS,
        },
        "spec": make_pod_spec(plan, installation),
    }


def make_attempt_pod(plan: TransferPlan, installation: Installation, number: int) -> dict[str, Any]:
    """Returns the pod of an attempt that no workflow makes: named after its run, owned by its DataCube."""
    pod = make_pod(plan, installation, name=plan.attempt_name(number))
    pod["metadata"]["labels"] |= {labels.ATTEMPT: str(number)}
    if owner := make_owner(plan):
        pod["metadata"]["ownerReferences"] = [owner]
    return pod


def make_labels(plan: TransferPlan) -> dict[str, str]:
    """Returns the labels by which a plan's objects are found."""
    found = {
        labels.NAME: labels.label_value(plan.name),
        labels.UID: plan.uid,
        labels.RUN: plan.run_id,
        labels.KIND: plan.kind_name,
        labels.PLAN: plan.hash,
        labels.MANAGED_BY: labels.MANAGER,
    }
    return {name: value for name, value in found.items() if value}


def make_pod_spec(plan: TransferPlan, installation: Installation) -> dict[str, Any]:
    """Returns the pod's spec: restricted by default, the user's settings merged over it field by field."""
    pod = plan.pod
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "activeDeadlineSeconds": plan.deadline_seconds,
        "securityContext": _security_context(pod.security_context),
        "serviceAccountName": pod.service_account_name,
        "priorityClassName": pod.priority_class_name,
        "nodeSelector": pod.node_selector,
        "tolerations": [_wire(t) for t in pod.tolerations],
        "affinity": _wire(pod.affinity),
        "imagePullSecrets": [_wire(s) for s in pod.image_pull_secrets],
        "containers": [make_container(plan, installation)],
        "volumes": make_volumes(plan, installation),
    }
    return {name: value for name, value in spec.items() if value not in (None, [], {})}


def make_container(plan: TransferPlan, installation: Installation) -> dict[str, Any]:
    """Returns the container of an attempt, the same in every engine."""
    places = Places(ca_bundle=f"{CA_FOLDER}/{CA_KEY}" if installation.ca_config_map else "")
    return {
        "name": CONTAINER,
        **_image(installation),
        "command": list(COMMAND),
        "args": [escape(a) for a in make_arguments(plan, installation, places)],
        "env": [_wire(v) for v in plan.env],
        "resources": _resources(plan) or DEFAULT_RESOURCES,
        "securityContext": RESTRICTED_CONTAINER,
        "terminationMessagePath": REPORT_FILE,
        "terminationMessagePolicy": "File",
        "volumeMounts": _mounts(plan, installation),
    }


def make_provisioner(claim: dict[str, Any], installation: Installation) -> dict[str, Any]:
    """Returns the container that makes a claim unless it exists; it is the only one that speaks to the API server."""
    return {
        "name": CONTAINER,
        **_image(installation),
        "command": ["python", *PROVISION_MODULE],
        "args": [escape(json.dumps(claim, separators=(",", ":")))],
        "resources": PROVISION_RESOURCES,
        "securityContext": RESTRICTED_CONTAINER,
        "terminationMessagePath": REPORT_FILE,
        "terminationMessagePolicy": "File",
    }


def make_arguments(plan: TransferPlan, installation: Installation, places: Places) -> list[str]:
    """Returns the attempt's argv after the command, as `transfers/run.py` reads it; no secret is among it."""
    flags: list[tuple[str, object]] = [
        ("--folder", places.folder),
        ("--sub-path", plan.claim.sub_path),
        ("--report", places.report),
        ("--outputs", places.outputs),
        ("--ca-bundle", places.ca_bundle),
        ("--verify", plan.verify if plan.verify != "checksum" else ""),
        ("--max-delete", plan.max_delete),
        ("--stall-timeout", plan.stall_timeout_seconds),
        ("--bandwidth-limit", plan.bandwidth_limit),
        ("--progress-interval", f"{installation.progress_seconds:g}"),
        *(("--secret-env", name) for name in plan.secret_env),
        *(("--pass-env", name) for name in plan.user_env),
    ]
    switches = {"--sync": plan.sync, "--dry-run": plan.dry_run, "--allow-http": installation.allow_http}
    return [
        plan.kind_name,
        *(f"{flag}={value}" for flag, value in flags if value not in (None, "")),
        *(flag for flag, is_on in switches.items() if is_on),
        *(("--", *plan.extra_args) if plan.extra_args else ()),
    ]


def make_volumes(plan: TransferPlan, installation: Installation) -> list[dict[str, Any]]:
    """Returns the pod's volumes: the claim, a scratch folder, and the authorities where the installation has some."""
    claim = {"claimName": plan.claim.name} | ({"readOnly": True} if plan.kind.is_upload else {})
    volumes: list[dict[str, Any]] = [
        {"name": "data", "persistentVolumeClaim": claim},
        {"name": "scratch", "emptyDir": {"sizeLimit": SCRATCH_LIMIT}},
    ]
    if installation.ca_config_map:
        volumes.append({"name": "ca", "configMap": {"name": installation.ca_config_map}})
    return volumes


def make_claim(plan: TransferPlan) -> dict[str, Any] | None:
    """Returns the claim that the document's template describes, owned by nobody; None when there is no template."""
    template = plan.claim.template
    if template is None:
        return None
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if k in ("labels", "annotations") and v}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": plan.claim.name, "namespace": plan.namespace, **metadata},
        "spec": template["spec"],
    }


def require_claim(plan: TransferPlan) -> dict[str, Any]:
    """Returns the claim to make where the plan's is not there.

    Raises:
        WaitingError: WaitingForVolume when there is no template to make it from.
    """
    claim = make_claim(plan)
    if claim is None:
        more = "" if plan.kind.is_upload else ", or give sink.pvc.template"
        raise WaitingError(Reason.WAITING_FOR_VOLUME, f"there is no claim '{plan.claim.name}': create it{more}")
    return claim


def make_owner(plan: TransferPlan) -> dict[str, Any] | None:
    """Returns the reference that makes an object go with its DataCube; None for one that no cluster has seen."""
    from datacube_flows.api.datacube import API_VERSION, KIND  # the models, which a step in a pod can do without

    if not plan.uid:
        return None
    return {"apiVersion": API_VERSION, "kind": KIND, "name": plan.name, "uid": plan.uid, "controller": True}


def _resources(plan: TransferPlan) -> dict[str, Any]:
    """What the user asks for, each quantity as text: a bare number is one to Kubernetes, but not to every client."""
    asked = _wire(plan.pod.resources) or {}
    amounts = {name: asked[name] for name in ("limits", "requests") if name in asked}
    return asked | {name: {what: str(amount) for what, amount in each.items()} for name, each in amounts.items()}


def _image(installation: Installation) -> dict[str, Any]:
    policy = installation.image_pull_policy
    return {"image": installation.image} | ({"imagePullPolicy": policy} if policy else {})


def _mounts(plan: TransferPlan, installation: Installation) -> list[dict[str, Any]]:
    """A download mounts its own folder, which kubelet makes; an upload mounts the whole claim read-only."""
    data: dict[str, Any] = {"name": "data", "mountPath": DATA_FOLDER}
    if plan.kind.is_upload:
        data["readOnly"] = True
    elif plan.claim.sub_path:
        data["subPath"] = plan.claim.sub_path
    mounts = [data, {"name": "scratch", "mountPath": SCRATCH_FOLDER}]
    if installation.ca_config_map:
        mounts.append({"name": "ca", "mountPath": CA_FOLDER, "readOnly": True})
    return mounts


def _security_context(user: WireModel | None) -> dict[str, Any]:
    """The restricted default under the user's fields; who asks for uid 0 is not held to be non-root."""
    wanted = _wire(user) or {}
    merged = RESTRICTED_POD | wanted
    if wanted.get("runAsUser") == 0 and "runAsNonRoot" not in wanted:
        del merged["runAsNonRoot"]
    return merged


def _wire(model: WireModel | None) -> dict[str, Any] | None:
    """The object as Kubernetes takes it: what says nothing (null, an empty list) is left out."""
    return None if model is None else model.model_dump(by_alias=True, exclude_defaults=True, mode="json")
