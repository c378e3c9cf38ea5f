"""Tier T2: an API server and its etcd, as other tests use them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.api import api_server
from tests.cluster.process import Process, wait_for
from tests.cluster.versions import KUBERNETES

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.t2
ROOT = Path(__file__).parents[2]

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "cups.tea.test"},
    "spec": {
        "group": "tea.test",
        "names": {"kind": "Cup", "plural": "cups", "singular": "cup"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"size": {"type": "integer"}},
                        "x-kubernetes-validations": [{"rule": "self.size < 9", "message": "too large a cup"}],
                    }
                },
            }
        ],
    },
}


def test_api_server_makes_a_namespace(api: Cluster) -> None:
    api.kubectl("create", "namespace", "made")
    assert api.get("namespace", "made")["status"]["phase"] == "Active"


def test_api_server_says_its_pinned_version(api: Cluster) -> None:
    version = json.loads(api.kubectl("version", "-o", "json"))["serverVersion"]
    assert version["gitVersion"] == KUBERNETES.version
    assert f"v{version['major']}.{version['minor']}." in KUBERNETES.version


def test_api_server_enforces_cel_rules_of_a_crd(api: Cluster) -> None:
    api.apply(CRD)
    api.kubectl("wait", "crd/cups.tea.test", "--for=condition=Established", "--timeout=20s")
    cup = {"apiVersion": "tea.test/v1", "kind": "Cup", "metadata": {"name": "c", "namespace": "default"}, "size": 12}
    refused = api.try_kubectl("create", "-f", "-", text=json.dumps(cup))
    assert refused.returncode == 1
    assert "too large a cup" in refused.stderr
    api.apply(cup | {"size": 3})
    assert api.get("cups", "c", "--namespace=default")["size"] == 3


def test_api_server_refuses_who_shows_no_certificate(api: Cluster) -> None:
    trusting = ssl.create_default_context(cafile=str(api.kubeconfig.parent / "pki" / "ca.crt"))
    assert _status_of(api, trusting) == 401


def test_api_server_is_not_trusted_without_its_authority(api: Cluster) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _status_of(api, ssl.create_default_context())


def test_two_api_servers_know_nothing_of_each_other(api: Cluster, cluster_cache: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with api_server(tmp_path, cluster_cache) as other:
        assert time.monotonic() - began < 30
        other.kubectl("create", "namespace", "only-there")
        assert api.try_kubectl("get", "namespace", "only-there").returncode == 1
    assert other.try_kubectl("get", "namespaces").returncode == 1


def test_api_server_runs_the_controllers_that_are_asked_for(cluster_cache: Path, tmp_path: Path) -> None:
    with api_server(tmp_path, cluster_cache, controllers=["namespace-controller"]) as server:
        server.kubectl("create", "namespace", "short-lived")
        server.kubectl("delete", "namespace", "short-lived", "--timeout=30s", seconds=40)
        assert server.try_kubectl("get", "namespace", "short-lived").returncode == 1


def test_api_server_ends_with_the_test_run_that_is_killed(cluster_cache: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.cluster.api import api_server\n"
        "with api_server(Path(sys.argv[1]), Path(sys.argv[2])): print('ready', flush=True); time.sleep(300)"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(cluster_cache)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]}
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        servers = [Process(**json.loads(f.read_text())) for f in (tmp_path / "processes").glob("*.json")]
        assert sorted(s.name for s in servers if s.alive) == ["etcd", "kube-apiserver"]
        run.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(s.alive for s in servers), 10, "servers outlive the test run")


def _status_of(cluster: Cluster, context: ssl.SSLContext) -> int:
    """The status of an answer to somebody without a certificate."""
    found = re.search(r'"server": "https://([^:"]+):(\d+)"', cluster.kubeconfig.read_text())
    assert found is not None
    connection = http.client.HTTPSConnection(found[1], int(found[2]), timeout=10, context=context)
    try:
        connection.request("GET", "/api")
        return connection.getresponse().status
    finally:
        connection.close()
