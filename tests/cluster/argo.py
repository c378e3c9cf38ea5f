"""Argo Workflows in the cluster: its real controller as one more process of it, which `down` ends with the others.

The controller has the rights of its own installation, not those of an administrator, and lets nobody run a workflow
that is not a reference to a template (`templateReferencing: Strict`).
"""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import yaml

from tests.cluster.argo_build import ROLE, ArgoParts, build_argo
from tests.cluster.binaries import locked
from tests.cluster.control_plane import ControlPlane
from tests.cluster.images import write_archive
from tests.cluster.node import NODE_ADDRESS, child_of
from tests.cluster.process import Process, wait_for
from tests.cluster.versions import ARGO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.cluster.cluster import Cluster
    from tests.cluster.node import Node

NAMESPACE = "argo"
USER = "argo-workflow-controller"
PROGRAM = "workflow-controller"
EXECUTOR = f"datacube.test/argoexec:{ARGO.build_name}"
CONFIG = {"workflowRestrictions": "templateReferencing: Strict\n"}
HEALTH = f"http://{NODE_ADDRESS}:6060/healthz"
READY_SECONDS = 60


def ensure_argo(cluster: Cluster, environ: Mapping[str, str]) -> None:
    """Has Argo's controller running, and its CRDs served; installs only what is not there."""
    node = cluster.own_node("install Argo Workflows in it")
    parts = build_argo(node.places.cache, environ)
    with locked(node.places.lock):
        if node.roster.find(PROGRAM):
            return
        node.roster.forget_ended()
        _install(cluster, parts)
        cluster.load_image(_executor_image(parts))
        controller = node.roster.ensure(PROGRAM, _command(node, parts))
        wait_for(lambda: _is_ready(node, controller), READY_SECONDS, "Argo's controller is not ready: see its log")


def serve_crds(cluster: Cluster, *files: Path) -> None:
    """Has the CRDs of the files served; each is too large for the annotation that `kubectl apply` makes by itself."""
    names = [f"--filename={file}" for file in files]
    cluster.kubectl("apply", "--server-side", "--force-conflicts", *names, seconds=120)
    cluster.kubectl("wait", "--for=condition=Established", *names, "--timeout=60s", seconds=90)


def stop_controller(node: Node) -> None:
    """Ends the controller at once; `ensure_argo` starts it again."""
    process = node.roster.find(PROGRAM)
    if process is not None:
        os.kill(child_of(process.pid), 9)  # what was recorded is the process that entered the namespaces for it
        process.wait()


def _install(cluster: Cluster, parts: ArgoParts) -> None:
    serve_crds(cluster, *parts.crds.glob("*.yaml"))
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": USER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}],
    }
    config = {"name": "workflow-controller-configmap", "namespace": NAMESPACE}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": config, "data": CONFIG},
        yaml.safe_load(parts.role.read_text()),
        binding,
    )


def _command(node: Node, parts: ArgoParts) -> list[str]:
    plane = ControlPlane(node.places.state, {}, NODE_ADDRESS)
    pair = plane.authority.issue(PROGRAM, user=USER)
    kubeconfig = plane.write_kubeconfig(plane.folder / f"{PROGRAM}.kubeconfig", pair)
    settings = [f"ARGO_NAMESPACE={NAMESPACE}", "LEADER_ELECTION_DISABLE=true"]
    flags = [f"--kubeconfig={kubeconfig}", f"--namespace={NAMESPACE}", "--qps=200", "--burst=400"]
    flags += [f"--executor-image={EXECUTOR}", "--executor-image-pull-policy=Never"]
    return ["env", *settings, str(parts.controller), *flags]


def _is_ready(node: Node, controller: Process) -> bool:
    """Whether it says that it is healthy; workflows that were made before are found by it all the same."""
    node.roster.must_run(controller)
    with suppress(OSError), urlopen(HEALTH, timeout=1) as answer:
        return bool(answer.status == HTTPStatus.OK)
    return False


def _executor_image(parts: ArgoParts) -> Path:
    """Returns an archive of the image that holds the executor and nothing else."""
    archive = parts.folder / "argoexec.tar"
    if not archive.exists():
        part = archive.with_suffix(".part")
        config: dict[str, Any] = {"Entrypoint": ["argoexec"]}
        write_archive(part, _executor_layer(parts), {EXECUTOR: config})
        part.rename(archive)
    return archive


def _executor_layer(parts: ArgoParts) -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        tar.add(parts.executor, "bin/argoexec", filter=_plain)
    return layer.getvalue()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry
