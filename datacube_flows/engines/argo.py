"""From a plan to Argo's objects, built with Hera's models: a WorkflowTemplate per DataCube, a Workflow per run.

Nothing is submitted here: Hera's own `create` and `lint` want an Argo server; objects go through the Kubernetes API.
All that a run needs travels in the template, since only that reaches a workflow of somebody else's that refers to it:
volumes, security, accounts and the mutex stand at templates, never at a workflow. What differs between the runs of a
DataCube goes in as arguments; so an old template that Argo still remembers for a moment is not a wrong one.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hera.workflows import models as m
from pydantic import BaseModel

from datacube_flows.core import labels
from datacube_flows.core.manifests import (
    OUTPUTS_FOLDER,
    POD_ANNOTATIONS,
    RESTRICTED_CONTAINER,
    RESTRICTED_POD,
    make_claim,
    make_labels,
    make_pod_spec,
    make_provisioner,
)
from datacube_flows.core.retry import BACKOFF_CAP_SECONDS, BACKOFF_FACTOR, BACKOFF_FIRST_SECONDS, EXIT_PERMANENT
from datacube_flows.engines.argo_accounts import DEFAULTS, ArgoSettings
from datacube_flows.engines.argo_text import check_no_braces, protect_container

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_flows.core.manifests import Installation
    from datacube_flows.core.plan import TransferPlan

API_VERSION: Final = "argoproj.io/v1alpha1"
ENTRYPOINT: Final = "datacube"
"""The template that other workflows refer to; it has the outputs, and the mutex of the DataCube."""

OUTPUTS: Final = {"path": "", "revision": "", "files": "0", "bytes": "0"}
"""Output -> what stands for it where an attempt left none, which only one that failed does."""

RUN: Final = "run"
"""Argument: the run's id, a label of its pods; empty in workflows that are not the operator's."""

PROVISION: Final = "provision"
"""Argument: `false` leaves out the step that makes the claim, and the seconds that it takes."""

ATTEMPT_NUMBER: Final = "{{=asInt(retries) + 1}}"
"""Argo counts retries from 0; an attempt is counted from 1, and stays so when a pod before it was lost."""

MAX_NAME: Final = 63
TOKEN_FOLDER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - where Kubernetes mounts it
PLACEMENT_FIELDS: Final = ("affinity", "nodeSelector", "priorityClassName", "tolerations")
TEMPLATE_FIELDS: Final = (*PLACEMENT_FIELDS, "activeDeadlineSeconds", "securityContext", "serviceAccountName")
"""Fields of a pod that a template has under the same name; where it may run counts for the step before it as well."""

PATCHED_FIELDS: Final = ("imagePullSecrets", "enableServiceLinks")
"""Fields of a pod that a template lacks; the only text of a document in them is the names of Secrets."""

PROVISION_RETRIES: Final = 5
PROVISION_SECONDS: Final = 600

Model = TypeVar("Model", bound=BaseModel)


class LostFields(Exception):
    """Bug: an object holds fields that Hera does not know and would have left out without a word."""


def render_template(
    plan: TransferPlan,
    installation: Installation,
    owner: Mapping[str, Any] | None = None,
    settings: ArgoSettings = DEFAULTS,
) -> dict[str, Any]:
    """Returns the WorkflowTemplate of a DataCube, the same for all of its runs.

    Raises:
        InvalidDataCube: the document holds `{{` where nothing can keep Argo from replacing it.
    """
    steps = [_provision(plan, installation, settings), _transfer(plan, installation, settings)]
    return _wire(
        m.WorkflowTemplate(
            api_version=API_VERSION,
            kind="WorkflowTemplate",
            metadata=_metadata(plan, template_name(plan.name), owner, _lasting_labels(plan)),
            spec=m.WorkflowSpec(entrypoint=ENTRYPOINT, templates=[_datacube(plan), *(s for s in steps if s)]),
        )
    )


def render_workflow(
    plan: TransferPlan,
    owner: Mapping[str, Any] | None = None,
    settings: ArgoSettings = DEFAULTS,
    *,
    claim_exists: bool = False,
) -> dict[str, Any]:
    """Returns the Workflow of the plan's run: a reference to the DataCube's template, and the run's arguments."""
    arguments = {RUN: plan.run_id} | ({PROVISION: str(not claim_exists).lower()} if plan.claim.template else {})
    return _wire(
        m.Workflow(
            api_version=API_VERSION,
            kind="Workflow",
            metadata=_metadata(plan, plan.run_name, owner, make_labels(plan)),
            spec=m.WorkflowSpec(
                workflow_template_ref=m.WorkflowTemplateRef(name=template_name(plan.name)),
                arguments=m.Arguments(parameters=[m.Parameter(name=n, value=v) for n, v in arguments.items()]),
                ttl_strategy=m.TTLStrategy(seconds_after_completion=settings.ttl_seconds),
            ),
        )
    )


def template_name(cube: str) -> str:
    """Returns `datacube-<name>`; where that is too long for Argo, the name is cut and its hash appended."""
    name = f"datacube-{cube}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(cube.encode()).hexdigest()[:8]
    return f"{_cut(name, MAX_NAME - len(digest) - 1)}-{digest}"


def _cut(name: str, length: int) -> str:
    return name[:length].rstrip("-.")


def _metadata(
    plan: TransferPlan, name: str, owner: Mapping[str, Any] | None, own_labels: dict[str, str]
) -> m.ObjectMeta:
    owners = [_typed(m.OwnerReference, dict(owner), "metadata.ownerReferences")] if owner else None
    return m.ObjectMeta(name=name, namespace=plan.namespace or None, labels=own_labels, owner_references=owners)


def _lasting_labels(plan: TransferPlan) -> dict[str, str]:
    return {name: value for name, value in make_labels(plan).items() if name != labels.RUN}


def _datacube(plan: TransferPlan) -> m.Template:
    """The whole of a run: the claim where it may have to be made, then the transfer with its outputs."""
    inputs = {RUN: ""} | ({PROVISION: "true"} if plan.claim.template else {})
    run = m.Arguments(parameters=[m.Parameter(name=RUN, value=_input(RUN))])
    transfer = m.WorkflowStep(name=labels.TRANSFER, template=labels.TRANSFER, arguments=run)
    provision = m.WorkflowStep(
        name=labels.PROVISION, template=labels.PROVISION, arguments=run, when=f"{_input(PROVISION)} == true"
    )
    steps = [provision, transfer] if plan.claim.template else [transfer]
    results = {name: f"{{{{steps.{labels.TRANSFER}.outputs.parameters.{name}}}}}" for name in OUTPUTS}
    return m.Template(
        name=ENTRYPOINT,
        inputs=m.Inputs(parameters=[m.Parameter(name=name, value=value) for name, value in inputs.items()]),
        outputs=m.Outputs(
            parameters=[m.Parameter(name=n, value_from=m.ValueFrom(parameter=v)) for n, v in results.items()]
        ),
        steps=[m.ParallelSteps(root=[step]) for step in steps],
        synchronization=m.Synchronization(mutexes=[m.Mutex(name=template_name(plan.name))]),
    )


def _transfer(plan: TransferPlan, installation: Installation, settings: ArgoSettings) -> m.Template:
    """A pod per attempt, as `core/manifests.py` describes it, and the retries."""
    spec = make_pod_spec(plan, installation)
    (container,) = spec["containers"]
    hidden_token = {"name": "no-token", "mountPath": TOKEN_FOLDER, "readOnly": True}
    template: dict[str, Any] = {
        "name": labels.TRANSFER,
        "serviceAccountName": settings.runner_account,
        **_some(spec, TEMPLATE_FIELDS),
        "container": container | {"volumeMounts": [*container["volumeMounts"], hidden_token]},
        "volumes": [*spec["volumes"], {"name": "no-token", "emptyDir": {}}],
        "podSpecPatch": _patch(_some(spec, PATCHED_FIELDS)),
    }
    outputs = [_output(name, default) for name, default in OUTPUTS.items()]
    return _template(plan, template, retries=plan.retries).model_copy(
        update={"outputs": m.Outputs(parameters=outputs)},
    )


def _provision(plan: TransferPlan, installation: Installation, settings: ArgoSettings) -> m.Template | None:
    """The step that makes the claim unless it exists; None where the document has no template of one.

    No `resource` template: its `create` fails where the claim exists, and its `apply` would change it.
    """
    claim = make_claim(plan)
    if claim is None:
        return None
    spec = make_pod_spec(plan, installation)
    template: dict[str, Any] = {
        "name": labels.PROVISION,
        "serviceAccountName": settings.provisioner_account,
        "activeDeadlineSeconds": PROVISION_SECONDS,
        "securityContext": RESTRICTED_POD,
        **_some(spec, PLACEMENT_FIELDS),
        "container": make_provisioner(claim, installation),
        "podSpecPatch": _patch(_some(spec, PATCHED_FIELDS)),
    }
    return _template(plan, template, retries=PROVISION_RETRIES)


def _template(plan: TransferPlan, foreign: dict[str, Any], *, retries: int) -> m.Template:
    """A template that runs a pod: what is written for Kubernetes, and around it what is Argo's."""
    protected = foreign | {"container": protect_container(foreign["container"])}
    pod_labels = _lasting_labels(plan) | {
        labels.STEP: foreign["name"],
        labels.RUN: _input(RUN),
        labels.ATTEMPT: ATTEMPT_NUMBER,
    }
    return _typed(m.Template, protected, "pod").model_copy(
        update={
            "metadata": m.Metadata(labels=pod_labels, annotations=dict(POD_ANNOTATIONS)),
            "inputs": m.Inputs(parameters=[m.Parameter(name=RUN)]),
            "retry_strategy": _retry_strategy(retries),
        }
    )


def _retry_strategy(retries: int) -> m.RetryStrategy:
    """Lost pods are retried too: they leave no exit code, which is another than that of a permanent failure."""
    return m.RetryStrategy(
        limit=str(retries),
        retry_policy="Always",
        expression=f"lastRetry.exitCode != '{EXIT_PERMANENT}'",
        backoff=m.Backoff(
            duration=f"{BACKOFF_FIRST_SECONDS:.0f}s",
            factor=f"{BACKOFF_FACTOR:.0f}",
            cap=f"{BACKOFF_CAP_SECONDS:.0f}s",
        ),
    )


def _some(spec: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: spec[name] for name in names if name in spec}


def _patch(fields: dict[str, Any]) -> str:
    """What templates have no field for; and Argo's own containers, which a restricted namespace would refuse."""
    init, wait = ({"name": name, "securityContext": RESTRICTED_CONTAINER} for name in ("init", "wait"))
    return json.dumps(fields | {"initContainers": [init], "containers": [wait]}, sort_keys=True)


def _input(name: str) -> str:
    return f"{{{{inputs.parameters.{name}}}}}"


def _output(name: str, default: str) -> m.Parameter:
    return m.Parameter(name=name, value_from=m.ValueFrom(path=f"{OUTPUTS_FOLDER}/{name}", default=default))


def _typed(model: type[Model], value: dict[str, Any], path: str) -> Model:
    """Returns an object that was written for Kubernetes as Hera's; every field of it must still be there.

    Raises:
        InvalidDataCube: it holds `{{`.
        LostFields: Hera does not know a field of it.
    """
    check_no_braces(value, path)
    typed = model.model_validate(value)
    if (kept := _wire(typed)) != value:
        raise LostFields(f"{path}: Hera makes {kept} of {value}")
    return typed


def _wire(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(exclude_none=True, by_alias=True, mode="json")
