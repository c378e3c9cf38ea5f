"""Tier T3: the Prefect server as it is installed, from the operator's real image, with a PostgreSQL outside.

Its API server proxies requests without a client's own credentials, so what is asked here is what anybody may ask.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.install import AUTH_KEY, PREFECT
from datacube_operator.install_prefect import DATABASE_KEY, PORT, make_prefect_installation
from datacube_operator.settings import DEFAULT_NAMESPACE

from tests.canary import CANARY, has_canary
from tests.cluster.errors import ClusterError
from tests.cluster.image_build import operator_image
from tests.cluster.namespace import made_namespace
from tests.cluster.pods.forward import LOOPBACK, forwarded
from tests.cluster.process import wait_for
from tests.servers.postgres import start_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t3, pytest.mark.timeout(300)]

SECONDS = 120.0
INSTALLED = ("Deployment", "Service", "ServiceAccount", "NetworkPolicy")
AUTH = f"datacube:{CANARY}-pod"

FINDS_FLOW = f"""
import os

os.environ["PREFECT_API_URL"] = "http://127.0.0.1:{PORT}/api"
os.environ["PREFECT_API_AUTH_STRING"] = os.environ["PREFECT_SERVER_API_AUTH_STRING"]
from prefect.client.orchestration import get_client

with get_client(sync_client=True) as client:
    print(client.create_flow_from_name("kept"))
"""
"""Makes the flow, or finds it, and prints its id; a change, so it needs all that the server asks of its clients."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Installed:
    cluster: Cluster
    namespace: str

    @property
    def here(self) -> str:
        return f"--namespace={self.namespace}"

    def pod(self) -> Object:
        """The server's pod; there may be none for a moment."""
        found: list[Object] = self.cluster.get("pods", self.here)["items"]
        return next((pod for pod in found if "deletionTimestamp" not in pod["metadata"]), {})

    def is_ready(self) -> bool:
        conditions = self.pod().get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def ask(self, path: str) -> str:
        """What the server answers through its service."""
        service = f"/api/v1/namespaces/{self.namespace}/services/{PREFECT}:{PORT}/proxy"
        return self.cluster.kubectl("get", "--raw", f"{service}{path}")

    def run(self, script: str) -> str:
        """What a script in Python prints, run beside the server in its container."""
        return self.cluster.kubectl("exec", self.here, f"deployment/{PREFECT}", "--", "python", "-c", script)


def localized(made: Object, namespace: str, image: str) -> Object:
    made = json.loads(json.dumps(made).replace(DEFAULT_NAMESPACE, namespace))
    if made["kind"] == "Deployment":
        (container,) = made["spec"]["template"]["spec"]["containers"]
        container |= {"image": image, "imagePullPolicy": "Never"}
    return made


@pytest.fixture(scope="module")
def installed(
    own_cluster: Cluster, cluster_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """The server, ready: its database was empty."""
    image = operator_image(own_cluster, cluster_cache, os.environ)
    with (
        start_postgres(tmp_path_factory.mktemp("postgres") / "server") as postgres,
        forwarded(own_cluster.bridge_address, [postgres.port]),
        made_namespace(own_cluster) as namespace,
    ):
        url = postgres.url.replace("://", "+asyncpg://").replace(LOOPBACK, own_cluster.bridge_address)
        words = {AUTH_KEY: AUTH, DATABASE_KEY: url}
        metadata = {"name": PREFECT, "namespace": namespace}
        own_cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": words})
        objects = [o for o in make_prefect_installation() if o["kind"] in INSTALLED]
        own_cluster.apply(*(localized(made, namespace, image.name) for made in objects))
        server = Installed(own_cluster, namespace)
        wait_for(server.is_ready, SECONDS, "the server is not ready")
        yield server
        own_cluster.kubectl("delete", "deployment", PREFECT, server.here, "--cascade=foreground")


def test_server_is_healthy_and_shows_its_pages_and_nothing_else_to_strangers(installed: Installed) -> None:
    assert json.loads(installed.ask("/api/health")) is True
    assert "<title>Prefect" in installed.ask("/v2/")
    assert json.loads(installed.ask("/ui-settings"))["api_url"] == "/api"
    with pytest.raises(ClusterError, match="asked for the client to provide credentials"):
        installed.ask("/api/admin/version")


def test_server_keeps_what_it_knows_when_its_pod_is_deleted(installed: Installed) -> None:
    before, known = installed.pod()["metadata"]["uid"], installed.run(FINDS_FLOW)
    installed.cluster.kubectl("delete", "pod", installed.pod()["metadata"]["name"], installed.here)
    wait_for(
        lambda: installed.is_ready() and installed.pod()["metadata"]["uid"] != before, SECONDS, "no other pod is ready"
    )
    assert installed.run(FINDS_FLOW) == known


def test_server_writes_below_its_scratch_folder_and_says_no_secret(installed: Installed) -> None:
    tried = "import os; print([p for p in ('/', '/opt/datacube', '/tmp') if os.access(p, os.W_OK)], os.getuid())"
    assert installed.run(tried).strip() == "['/tmp'] 65532"
    shown = installed.cluster.kubectl("logs", f"deployment/{PREFECT}", installed.here)
    shown += json.dumps(installed.pod())
    assert not has_canary(shown)
    assert "Traceback" not in shown
    assert installed.pod()["status"]["containerStatuses"][0]["restartCount"] == 0
