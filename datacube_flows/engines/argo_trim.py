"""What is kept of workflows and pods: as little as decisions need, since thousands of them are held in memory. Pure."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.core.labels import ENDED_BY
from datacube_flows.core.manifests import CONTAINER
from datacube_flows.core.pod_fields import field_at, items_at, text_at

if TYPE_CHECKING:
    from collections.abc import Mapping

Fields = dict[str, Any]
Object = dict[str, Any]

METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "ownerReferences",
)
NODE: Final = ("type", "templateName", "displayName", "phase", "message", "finishedAt", "taskResultSynced")
WORKFLOW_STATUS: Final = ("phase", "message", "finishedAt")
WORKFLOW_SPEC: Final = ("shutdown", "suspend", "workflowTemplateRef")
POD_STATUS: Final = ("phase", "reason", "message", "startTime")
CONDITIONS: Final = ("PodScheduled", "DisruptionTarget", "Ready")
CONDITION: Final = ("type", "status", "reason", "message", "lastTransitionTime")

DATA: Final = "data"
"""The volume that is the DataCube's claim."""

SUB_PATH: Final = "--sub-path="


def trim_workflow(workflow: Mapping[str, Any]) -> Object:
    """Returns what is read of a workflow; not its templates, which Argo writes into its status once more."""
    status = _some(field_at(workflow, "status"), WORKFLOW_STATUS)
    nodes = field_at(workflow, "status", "nodes")
    if isinstance(nodes, dict):
        status["nodes"] = {key: _node(node) for key, node in nodes.items() if _is_read(node)}
    metadata = _some(field_at(workflow, "metadata"), METADATA)
    if ended_by := field_at(workflow, "metadata", "annotations", ENDED_BY):
        metadata["annotations"] = {ENDED_BY: ended_by}
    spec = _some(field_at(workflow, "spec"), WORKFLOW_SPEC)
    return _shared({**_kind(workflow), "metadata": metadata, "spec": spec, "status": status})


def trim_pod(pod: Mapping[str, Any]) -> Object:
    """Returns what is read of a pod: how it stands, and which folder of which claim it uses."""
    spec = _some(field_at(pod, "spec"), ("activeDeadlineSeconds", "nodeName"))
    spec["containers"] = [_container(c) for c in items_at(pod, "spec", "containers") if c.get("name") == CONTAINER]
    spec["volumes"] = [v for v in items_at(pod, "spec", "volumes") if v.get("name") == DATA]
    status = _some(field_at(pod, "status"), POD_STATUS)
    conditions = items_at(pod, "status", "conditions")
    status["conditions"] = [_some(c, CONDITION) for c in conditions if c.get("type") in CONDITIONS]
    statuses = items_at(pod, "status", "containerStatuses")
    status["containerStatuses"] = [_some(s, ("name", "state")) for s in statuses if s.get("name") == CONTAINER]
    metadata = _some(field_at(pod, "metadata"), METADATA)
    return _shared({**_kind(pod), "metadata": metadata, "spec": spec, "status": status})


def _kind(obj: Mapping[str, Any]) -> Fields:
    return _some(obj, ("apiVersion", "kind"))


def _is_read(node: object) -> bool:
    """Whether a node tells of a pod, or of a lock that is waited for; the others only hold those together."""
    return text_at(node, "type") == "Pod" or bool(text_at(node, "synchronizationStatus", "waiting"))


def _node(node: object) -> Fields:
    kept = _some(node, NODE)
    if waiting := text_at(node, "synchronizationStatus", "waiting"):
        kept["synchronizationStatus"] = {"waiting": waiting}
    outputs = _some(field_at(node, "outputs"), ("exitCode",))
    if parameters := items_at(node, "outputs", "parameters"):
        outputs["parameters"] = [_some(p, ("name", "value")) for p in parameters]
    return kept | ({"outputs": outputs} if outputs else {})


def _container(container: Mapping[str, object]) -> Fields:
    """Name, memory limit, the folder of the claim that is mounted, and the one that is named in its arguments."""
    kept = _some(container, ("name",))
    arguments = field_at(container, "args")
    named = (
        [a for a in arguments if isinstance(a, str) and a.startswith(SUB_PATH)] if isinstance(arguments, list) else []
    )
    if named:
        kept["args"] = named
    if memory := field_at(container, "resources", "limits", "memory"):
        kept["resources"] = {"limits": {"memory": memory}}
    kept["volumeMounts"] = [m for m in items_at(container, "volumeMounts") if m.get("name") == DATA]
    return kept


def _some(value: object, names: tuple[str, ...]) -> Fields:
    """The named fields, as far as they are there."""
    return {name: value[name] for name in names if name in value} if isinstance(value, dict) else {}


def _shared(value: Object) -> Object:
    """The same, with the names of fields and labels held once for all objects."""
    return {sys.intern(str(name)): _shared_part(part) for name, part in value.items()}


def _shared_part(value: object) -> object:
    if isinstance(value, dict):
        return _shared(value)
    return [_shared_part(part) for part in value] if isinstance(value, list) else value
