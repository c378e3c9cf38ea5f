"""A namespace for one test, and pods that it admits."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.cluster.errors import ClusterError
from tests.cluster.images import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster

USER = 65532
ENDED = ("Succeeded", "Failed")


@contextmanager
def made_namespace(cluster: Cluster, level: str = "restricted") -> Iterator[str]:
    """Makes a namespace that enforces a Pod Security level; deletes it afterwards, without waiting for its end."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": level}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        _wait_for_account(cluster, name)
        yield name
    finally:
        cluster.kubectl("delete", "pods", "--all", f"--namespace={name}", "--grace-period=1", "--wait=false")
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def make_pod(name: str, namespace: str, script: str, *, claims: dict[str, str] | None = None) -> dict[str, Any]:
    """Returns a restricted pod that runs a shell script once; `claims` maps a claim to where it is mounted."""
    claims = claims or {}
    container = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": claim, "mountPath": path} for claim, path in claims.items()],
    }
    security = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 2,
        "securityContext": security | {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def make_claim(name: str, namespace: str, size: str = "1Mi") -> dict[str, Any]:
    """Returns a claim of the default storage class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def finish_pod(cluster: Cluster, pod: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    """Applies a pod, waits for its end, and returns it as the API then shows it."""
    cluster.apply(pod)
    return wait_for_pod(cluster, pod["metadata"]["name"], pod["metadata"]["namespace"], seconds)


def wait_for_pod(
    cluster: Cluster, name: str, namespace: str, seconds: float = 60, phases: tuple[str, ...] = ENDED
) -> dict[str, Any]:
    """Returns the pod when it is in one of the phases."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = cluster.get("pod", name, f"--namespace={namespace}")
        if found["status"].get("phase") in phases:
            return found
        time.sleep(0.2)
    raise ClusterError(f"pod {name} is not {' or '.join(phases)} in {seconds:.0f} s: {json.dumps(found['status'])}")


def log_of(cluster: Cluster, pod: dict[str, Any]) -> str:
    """What the pod's only container wrote."""
    return cluster.kubectl("logs", pod["metadata"]["name"], f"--namespace={pod['metadata']['namespace']}")


def ended(pod: dict[str, Any]) -> dict[str, Any]:
    """The `terminated` state of the pod's only container."""
    state: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return state


def _wait_for_account(cluster: Cluster, namespace: str) -> None:
    """A pod needs the namespace's service account, which a controller makes a moment after the namespace."""
    end = time.monotonic() + 30
    while cluster.try_kubectl("get", "serviceaccount", "default", f"--namespace={namespace}").returncode:
        if time.monotonic() > end:
            raise ClusterError(f"namespace {namespace} gets no service account")
        time.sleep(0.1)
