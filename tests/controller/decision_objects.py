"""Objects as the operator's decisions meet them, each made with the fields that a test is about."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.cube import Cube, read_status

from datacube_flows.api.status import Condition, DataCubeStatus
from datacube_flows.core import labels
from datacube_flows.core.manifests import Installation, make_labels, make_owner, make_pod_spec
from datacube_flows.core.plan import TransferPlan, make_plan
from datacube_flows.core.rules import validate
from tests.controller.fake_clock import START
from tests.controller.scenarios_documents import Document, download, with_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

NAMESPACE: Final = "team"
INSTALLATION: Final = Installation(image="datacube.test/transfer:1")
WORKFLOW_LABEL: Final = "workflows.argoproj.io/workflow"


def made(
    document: Document, *, uid: str = "", age: int = 0, rerun: str = "", version: int = 1, **metadata: Any
) -> Object:
    """Returns a DataCube as the API shows it; the larger its `age`, the older it is."""
    name = document["metadata"]["name"]
    about = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": uid or f"uid-of-{name}",
        "generation": 1,
        "resourceVersion": str(version),
        "creationTimestamp": f"2025-12-31T23:59:{59 - age:02}Z",
        "annotations": {labels.RERUN: rerun} if rerun else {},
    }
    return {**document, "metadata": about | metadata}


def status_of(phase: str | None = None, run: str = "", **fields: Any) -> Object:
    """Returns a status: its phase, the name of its run, and the reason of a condition by its name."""
    if phase is None:
        return {}
    conditions = [
        {"type": kind, "status": state, "lastTransitionTime": moment(0), "lastProbeTime": moment(0)}
        | ({"reason": fields[kind]} if kind in fields else {})
        for kind, state in zip(("Initialized", "Complete", "Failed"), fields.get("states", "FFF"), strict=True)
        for state in ({"T": "True", "F": "False"}[state],)
    ]
    workflow = {"engine": "argo", "template": "datacube-cube"} | ({"name": run} if run else {})
    more = {k: v for k, v in fields.items() if k in ("completionTime", "attempts", "observedGeneration")}
    return {"phase": phase, "conditions": conditions, "workflow": workflow, **more}


def cube_of(document: Object, status: Object | None = None) -> Cube:
    """Returns a DataCube with a status."""
    return Cube(document, read_status({"status": status or {}}))


def plan_of(document: Object) -> TransferPlan:
    """Returns the plan of a DataCube."""
    return make_plan(validate(document))


def cube_named(name: str, status: Object | None = None, *, sub_path: str = "set", age: int = 0, **spec: Any) -> Cube:
    """Returns a download of a name."""
    return cube_of(made(with_spec(download(name, sub_path=sub_path), **spec), age=age), status)


def moment(seconds: float) -> str:
    """Returns the time so many seconds after the tests' clock began."""
    return datetime.fromtimestamp(START.timestamp() + seconds, START.tzinfo).strftime("%Y-%m-%dT%H:%M:%SZ")


def workflow_of(plan: TransferPlan, *, phase: str = "", seconds: float = 0, **metadata: Any) -> Object:
    """Returns the workflow of a plan's run, as Argo leaves it."""
    about = {
        "name": plan.run_name,
        "namespace": plan.namespace,
        "uid": f"workflow-{plan.run_id}",
        "creationTimestamp": moment(seconds),
        "resourceVersion": "1",
        "labels": make_labels(plan),
        "ownerReferences": [make_owner(plan)],
    }
    status = {"phase": phase} if phase else {}
    return {"metadata": about | metadata, "spec": {}, "status": status}


def pod_of(
    plan: TransferPlan,
    workflow: Object | str,
    phase: str = "Running",
    *,
    number: int = 1,
    seconds: float = 0,
    code: int | None = None,
    message: str = "",
    more: Mapping[str, str] | None = None,
) -> Object:
    """Returns an attempt's pod; of somebody else's workflow where only its name is given."""
    name = workflow if isinstance(workflow, str) else workflow["metadata"]["name"]
    owner = name if isinstance(workflow, str) else workflow["metadata"]["uid"]
    marks = make_labels(plan) | {labels.STEP: labels.TRANSFER, labels.ATTEMPT: str(number), WORKFLOW_LABEL: name}
    if isinstance(workflow, str):
        del marks[labels.RUN]
    about = {
        "name": f"{name}-transfer-{number}",
        "namespace": plan.namespace,
        "uid": f"pod-{name}-{number}",
        "resourceVersion": "1",
        "creationTimestamp": moment(seconds),
        "labels": marks | dict(more or {}),
        "ownerReferences": [{"kind": "Workflow", "name": name, "uid": owner}],
    }
    return {
        "metadata": about,
        "spec": make_pod_spec(plan, INSTALLATION),
        "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": _state(phase, code, message)}]},
    }


def _state(phase: str, code: int | None, message: str) -> Object:
    if phase == "Pending":
        return {"waiting": {"reason": "ContainerCreating"}}
    if phase == "Running":
        return {"running": {"startedAt": moment(1)}}
    code = (0 if phase == "Succeeded" else 75) if code is None else code
    return {"terminated": {"exitCode": code, "message": message, "startedAt": moment(1), "finishedAt": moment(2)}}


def reasons_of(status: DataCubeStatus) -> dict[str, str]:
    """Returns the reasons that stand at conditions, by their type."""
    found: tuple[Condition, ...] = status.conditions or ()
    return {str(c.type): c.reason for c in found if c.reason}
