"""DataCubes and statuses for the tests of pipelines."""

from __future__ import annotations

from typing import Any

from datacube_flows.api.status import DataCubeStatus
from datacube_flows.core import labels
from datacube_flows.core.plan import run_id

UID = "5f0e8a6c-0000-4000-8000-000000000001"


def make_cube(name: str = "data", **spec: Any) -> dict[str, Any]:
    source = {"type": "git", "options": [{"name": "url", "value": "https://example.test/owner/repo.git"}]}
    sink = {"type": "pvc", "pvc": {"name": "claim", "subPath": "sets"}}
    return {
        "apiVersion": "tensorstack.dev/v1beta1",
        "kind": "DataCube",
        "metadata": {"name": name},
        "spec": {"source": source, "sink": sink, **spec},
    }


def rerun(document: dict[str, Any], value: str) -> dict[str, Any]:
    return document | {"metadata": document["metadata"] | {"annotations": {labels.RERUN: value}}}


def shown(document: dict[str, Any], status: dict[str, Any], *, uid: str = UID) -> dict[str, Any]:
    """The object as the API shows it."""
    return document | {"metadata": document["metadata"] | {"uid": uid}, "status": status}


def condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, str]:
    said = {"reason": reason, "message": message}
    return {"type": kind, "status": status} | {name: text for name, text in said.items() if text}


def conditions(holds: str = "", reason: str = "", message: str = "") -> list[dict[str, str]]:
    """All three, of which one holds and has something to say."""
    started = "True" if holds else "False"
    told = {"Complete": condition("Complete", "False"), "Failed": condition("Failed", "False")}
    if holds in told:
        told[holds] = condition(holds, "True", reason, message)
    return [condition("Initialized", started), *told.values()]


def run_name(uid: str, value: str = "", name: str = "data") -> str:
    return f"{name}-{run_id(uid, value)}"


def succeeded(run: str, **result: Any) -> dict[str, Any]:
    done = {"path": "sets/repo", "revision": "a" * 40, "files": 3, "bytes": 2048, "verified": "git"} | result
    return {
        "phase": "Succeeded",
        "conditions": conditions("Complete", "TransferComplete", "The DataCube is complete"),
        "result": done,
        "workflow": {"engine": "argo", "name": run},
    }


def failed(run: str, reason: str = "AccessDenied", message: str = "give a token that may read") -> dict[str, Any]:
    workflow = {"workflow": {"engine": "argo", "name": run}} if run else {}
    attempt = {"number": 1, "pod": "data-1", "reason": reason, "message": message}
    return {"phase": "Failed", "conditions": conditions("Failed", reason, message), "attempts": [attempt], **workflow}


def running(run: str, **more: Any) -> dict[str, Any]:
    attempt = {"number": 1, "pod": f"{run}-1", "startTime": "2026-01-01T00:00:00Z"}
    workflow = {"engine": "argo", "name": run}
    return {
        "phase": "Running",
        "conditions": conditions("Initialized"),
        "attempts": [attempt],
        "workflow": workflow,
    } | more


def status_of(wire: dict[str, Any]) -> DataCubeStatus:
    return DataCubeStatus.model_validate(wire)
