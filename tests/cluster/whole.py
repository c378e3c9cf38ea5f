"""Tier T3: brings up a whole cluster, or what of one does not run; and takes it down."""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from tests.cluster import kubelet, storage, traces
from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.images import make_images
from tests.cluster.node import NODE_ADDRESS, NODE_NAME, Node
from tests.cluster.process import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.cluster.places import Places
    from tests.cluster.process import Roster

READY_SECONDS = 120.0
PROCESSES = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "local-path-provisioner",
)


def start_whole(places: Places, programs: Mapping[str, Path]) -> Cluster:
    """Has a cluster whose node is ready and whose volumes can be made; starts only what does not run."""
    places.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    traces.prepare(places)
    node = Node(places)
    node.ensure_namespaces()
    plane = ControlPlane(places.state, programs, NODE_ADDRESS)
    roster = node.roster
    roster.forget_ended()
    roster.ensure("etcd", plane.etcd_command())
    roster.ensure("kube-apiserver", plane.api_command("--enable-admission-plugins=NodeRestriction"))
    roster.ensure("containerd", kubelet.containerd_command(places.state))
    _load_images(node)
    _wait(roster, plane.is_ready, "the API server is not ready")
    plane.write_kubeconfig(places.kubeconfig)
    cluster = Cluster(places.kubeconfig, places.logs, node.bridge_address, node)
    _start_loops(roster, plane)
    cluster.apply(*storage.storage_documents(places.state / "volumes"))
    roster.ensure("local-path-provisioner", storage.provisioner_command(plane))
    _wait(roster, lambda: _is_node_ready(cluster, roster), "the node is not ready")
    return cluster


def is_healthy(places: Places) -> bool:
    """Whether all processes of a cluster run and its API answers."""
    node = Node(places)
    if not node.is_running() or not places.kubeconfig.exists():
        return False
    if not all(node.roster.find(name) for name in PROCESSES):
        return False
    return _is_node_ready(Cluster(places.kubeconfig), node.roster)


def end_whole(places: Places) -> list[str]:
    """Ends the cluster and removes all that it made; returns what remains, which should be nothing."""
    before = traces.read_before(places)
    Node(places).end()
    traces.remove(places)
    shutil.rmtree(places.state, ignore_errors=True)
    return traces.remaining_traces(places, before)


def _start_loops(roster: Roster, plane: ControlPlane) -> None:
    """Starts those that watch the API."""
    roster.ensure("kube-controller-manager", plane.controllers_command())
    roster.ensure("kube-scheduler", plane.scheduler_command())
    roster.ensure("kubelet", kubelet.kubelet_command(plane))
    roster.ensure("kube-proxy", kubelet.proxy_command(plane))


def _load_images(node: Node) -> None:
    """Loads the cluster's own images, as soon as containerd answers."""
    archive = make_images(node.places.state / "images.tar")

    def loaded() -> bool:
        try:
            node.load_image(archive)
        except ClusterError:
            return False
        return True

    _wait(node.roster, loaded, "containerd takes no image")


def _wait(roster: Roster, condition: Callable[[], bool], failure: str) -> None:
    """Waits for the condition, or for the end of a process that it needs."""

    def holds() -> bool:
        for process in roster.recorded():
            roster.must_run(process)
        return condition()

    wait_for(holds, READY_SECONDS, f"{failure} in {READY_SECONDS:.0f} s: see {roster.logs}")


def _is_node_ready(cluster: Cluster, roster: Roster) -> bool:
    """Whether pods can be run: the kubelet that runs has said so, and namespaces get their service account."""
    with suppress(ClusterError):
        conditions = cluster.get("node", NODE_NAME)["status"]["conditions"]
        lease = cluster.get("lease", NODE_NAME, "--namespace=kube-node-lease")["spec"]["renewTime"]
        cluster.get("serviceaccount", "default", "--namespace=default")
        is_new = datetime.fromisoformat(lease) > roster.started_at("kubelet")  # else the word of one that has ended
        return is_new and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return False
