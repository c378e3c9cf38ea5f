"""Tier T3: the cluster's own life: found when it runs, brought back when it was hurt, invisible from outside.

That `down` leaves nothing is checked by `down` itself; here it is shown that its check sees what there is to see.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.namespace import finish_pod, log_of, make_pod
from tests.cluster.node import child_of
from tests.cluster.process import wait_for

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t3, pytest.mark.usefixtures("own_cluster")]
ROOT = Path(__file__).parents[2]
EXPECTED = ("process", "cgroup", "folder", "interface")


@pytest.fixture
def environ(cluster: Cluster) -> dict[str, str]:
    """The environment in which the cluster is the one of `make cluster`."""
    places = cluster.own_node("").places
    folders = {"XDG_CACHE_HOME": str(places.cache.parent), "XDG_STATE_HOME": str(places.state.parent)}
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]} | folders


def test_up_finds_the_cluster_that_runs(cluster: Cluster, environ: dict[str, str]) -> None:
    began = time.monotonic()
    assert _run("up", environ).stdout == f"export KUBECONFIG={cluster.kubeconfig}\n"
    assert time.monotonic() - began < 10


def test_up_restarts_what_was_killed(cluster: Cluster, environ: dict[str, str], namespace: str) -> None:
    for name in ("kubelet", "kube-apiserver", "kube-proxy"):
        _kill(cluster, name)
    assert _run("status", environ).returncode == 1
    assert _run("up", environ).returncode == 0
    assert _run("status", environ).returncode == 0
    assert log_of(cluster, finish_pod(cluster, make_pod("after", namespace, "echo well"))) == "well\n"


def test_up_brings_everything_back_when_the_namespaces_ended(
    cluster: Cluster, environ: dict[str, str], namespace: str
) -> None:
    init = cluster.own_node("").keeper.find("init")
    assert init is not None
    init.kill()
    assert _run("up", environ).returncode == 0
    assert cluster.get("namespace", namespace)["status"]["phase"] == "Active"
    assert log_of(cluster, finish_pod(cluster, make_pod("after", namespace, "echo well"))) == "well\n"


def test_check_clean_fails_when_a_cluster_runs(environ: dict[str, str]) -> None:
    found = _run("check-clean", environ)
    assert found.returncode == 1
    kinds = {line.split()[0] for line in found.stdout.splitlines()[1:]}
    assert kinds == set(EXPECTED), "mounts and packet rules belong inside the namespaces, the others are seen"


def test_cluster_shares_no_mount_and_no_packet_rule_with_the_machine(cluster: Cluster) -> None:
    assert "KUBE-SERVICES" in cluster.in_node("iptables-save")
    assert "/var/lib/kubelet" in cluster.in_node("cat", "/proc/self/mounts")
    assert "/var/lib/kubelet" not in Path("/proc/self/mounts").read_text()
    saved = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True)
    assert "KUBE-SERVICES" not in saved.stdout


def _run(verb: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.cluster", verb]
    return subprocess.run(command, cwd=ROOT, env=environ, check=False, text=True, capture_output=True, timeout=100)


def _kill(cluster: Cluster, name: str) -> None:
    """Kills the process behind the nsenter that is recorded."""
    process = cluster.own_node("").roster.find(name)
    assert process is not None
    os.kill(child_of(process.pid), signal.SIGKILL)
    wait_for(lambda: not process.alive, 10, f"{name} lives on")
