"""Tier T3: the installation, from the operator's real image, in a namespace that admits restricted pods only.

It is put into a namespace of the test's own, with its rights there and nowhere else, so that several can be tried at
once; all else is as it is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from datacube_operator.install import AUTH_KEY, NAME, PORT, PREFECT, REPLICAS, make_installation
from datacube_operator.install_prefect import DATABASE_KEY, make_prefect_installation
from datacube_operator.settings import DEFAULT_NAMESPACE, LEASE_NAME

from datacube_flows.api.reasons import Reason
from tests.canary import CANARY, has_canary
from tests.cluster.argo import ensure_argo
from tests.cluster.image_build import operator_image, transfer_image
from tests.cluster.namespace import made_namespace
from tests.cluster.pods.bench import made_bench
from tests.cluster.pods.forward import LOOPBACK, forwarded
from tests.cluster.process import wait_for
from tests.controller.server import make_cube
from tests.readme import commands
from tests.servers.postgres import start_postgres
from tests.servers.stage import BUCKET, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.cluster.cluster import Cluster
    from tests.cluster.pods.bench import Bench
    from tests.servers.postgres import Postgres

pytestmark = [pytest.mark.t3, pytest.mark.timeout(300)]

SECONDS = 60.0
CLUSTER, SERVER = 1, 4
"""The README's blocks of commands for a cluster."""

SHARED = ("CustomResourceDefinition", "ClusterRole")

Object = dict[str, Any]


@dataclass(frozen=True)
class Installed:
    cluster: Cluster
    namespace: str
    image: str

    @property
    def here(self) -> str:
        return f"--namespace={self.namespace}"

    def pods(self) -> list[str]:
        """Names of the replicas that are ready."""
        found = self.cluster.get("pods", self.here, "--selector=app.kubernetes.io/component=operator")["items"]
        ready = [p for p in found if "deletionTimestamp" not in p["metadata"] and is_ready(p)]
        return [pod["metadata"]["name"] for pod in ready]

    def leader(self) -> str:
        """Name of the pod that holds the lease; "" where none does."""
        asked = self.cluster.try_kubectl("get", "lease", LEASE_NAME, self.here, "-o", "json")
        holder = json.loads(asked.stdout)["spec"].get("holderIdentity") or "" if not asked.returncode else ""
        return str(holder).rpartition("-")[0]

    def ask(self, pod: str, path: str) -> str:
        """What a replica answers at its port."""
        return self.cluster.kubectl(
            "get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{PORT}/proxy{path}"
        )

    def logs(self) -> list[Object]:
        """What all replicas logged."""
        texts = [self.cluster.kubectl("logs", pod, self.here) for pod in self.pods()]
        return [json.loads(line) for text in texts for line in text.splitlines()]


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def localized(made: Object, namespace: str, image: str) -> Object:
    """An object of the installation as it is in one namespace; rights in the cluster become rights there."""
    made = json.loads(json.dumps(made).replace(DEFAULT_NAMESPACE, namespace))
    if made["kind"] == "ClusterRoleBinding":
        made |= {"kind": "RoleBinding", "metadata": {"name": f"{NAME}-here", "namespace": namespace}}
    if made["kind"] == "Deployment":
        (container,) = made["spec"]["template"]["spec"]["containers"]
        container |= {"image": image, "imagePullPolicy": "Never"}
        if made["metadata"]["name"] == NAME:
            container["args"].append(f"--namespace={namespace}")
    return made


@pytest.fixture(scope="module")
def installed(own_cluster: Cluster, cluster_cache: Path) -> Iterator[Installed]:
    """Both replicas, ready."""
    image = operator_image(own_cluster, cluster_cache, os.environ)
    objects = [o for o in make_installation() if o["kind"] != "Namespace"]
    with made_namespace(own_cluster) as namespace:
        own_cluster.apply(*(o for o in objects if o["kind"] in SHARED))
        own_cluster.kubectl("wait", "crd/datacubes.tensorstack.dev", "--for=condition=Established", "--timeout=30s")
        own_cluster.apply(*(localized(o, namespace, image.name) for o in objects if o["kind"] not in SHARED))
        made = Installed(own_cluster, namespace, image.name)
        wait_for(lambda: len(made.pods()) == REPLICAS, SECONDS, "the replicas are not ready")
        yield made


@pytest.fixture(scope="module")
def transfers(own_cluster: Cluster, cluster_cache: Path) -> str:
    """The image of the attempts; a test's own environment would not say where its wheels come from."""
    return transfer_image(own_cluster, cluster_cache, os.environ).name


def test_one_replica_leads_and_both_are_ready_and_healthy(installed: Installed) -> None:
    wait_for(lambda: installed.leader() in installed.pods(), SECONDS, "no replica leads")
    metrics = {pod: installed.ask(pod, "/metrics") for pod in installed.pods()}
    assert len(metrics) == REPLICAS
    assert [pod for pod, text in metrics.items() if "datacube_leader 1.0" in text] == [installed.leader()]
    assert {installed.ask(pod, "/healthz") for pod in metrics} == {"ok\n"}


def test_installed_operator_tells_what_a_datacube_waits_for(installed: Installed) -> None:
    installed.cluster.apply(make_cube("waits", namespace=installed.namespace))

    def reasons() -> set[str]:
        status = installed.cluster.get("datacube", "waits", installed.here).get("status", {})
        return {condition.get("reason", "") for condition in status.get("conditions", [])}

    wait_for(
        lambda: Reason.WAITING_FOR_VOLUME in reasons(), SECONDS, "the status does not say that the claim is missing"
    )


def test_commands_of_the_readme_work(
    installed: Installed, transfers: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    ensure_argo(installed.cluster, os.environ)
    with made_bench(installed.cluster, transfers, tmp_path_factory.mktemp("servers")) as bench:
        write_files(tmp_path, installed, bench)
        assert "Succeeded" in run_in(tmp_path, "\n".join(commands()[CLUSTER])).splitlines()[-1]
        assert_moved(bench)
        assert_logged_well(installed)


def assert_logged_well(installed: Installed) -> None:
    """The replicas say what they do, and nothing of a bug or a refusal; their rights end with the bench's namespace."""
    entries = installed.logs()
    assert "started" in [entry["message"] for entry in entries]
    assert [entry for entry in entries if entry["level"] == "error" or "Forbidden" in json.dumps(entry)] == []


def run_in(folder: Path, script: str) -> str:
    """Runs commands as a user does, and returns what they print."""
    finished = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "KUBECONFIG": str(folder / "kubeconfig")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert not has_canary(finished.stdout + finished.stderr)
    return finished.stdout


def assert_moved(bench: Bench) -> None:
    """All that the bucket has is on the volume."""
    store = bench.stage.store
    wanted = {key: store.get(BUCKET, key) for key in store.list(BUCKET, PREFIX)}
    folder = bench.volume("datacube-pvc") / "dev/s3"
    assert {key: (folder / key.removeprefix(f"{PREFIX}/")).read_bytes() for key in wanted} == wanted != {}


def test_commands_of_the_readme_have_prefect_run_a_document(
    installed: Installed, transfers: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    cluster = installed.cluster
    with (
        made_bench(cluster, transfers, tmp_path_factory.mktemp("servers")) as bench,
        start_postgres(tmp_path_factory.mktemp("postgres") / "server") as postgres,
        forwarded(cluster.bridge_address, [postgres.port]),
    ):
        address = write_prefect(tmp_path, installed, bench, postgres)
        write_files(tmp_path, installed, bench, engine="prefect", hosts={f"{PREFECT}.{installed.namespace}": address})
        run_in(tmp_path, "kubectl apply --server-side --force-conflicts -f operator/deploy/install.yaml")
        run_in(tmp_path, "\n".join(commands()[SERVER]).replace(DEFAULT_NAMESPACE, installed.namespace))
        run_in(tmp_path, ROLLED_OUT.format(here=installed.here))
        run_in(tmp_path, "\n".join(commands()[CLUSTER][1:]))
        status = cluster.get("datacube", "s3-download", bench.here)["status"]
        assert (status["phase"], status["workflow"]["engine"]) == ("Succeeded", "prefect")
        assert_moved(bench)
        assert_logged_well(installed)
        assert not has_canary(
            json.dumps(installed.logs()) + cluster.kubectl("logs", f"deployment/{PREFECT}", installed.here)
        )


ROLLED_OUT = "\n".join(f"kubectl rollout status deployment/{name} {{here}} --timeout=240s" for name in (PREFECT, NAME))


def write_prefect(folder: Path, installed: Installed, bench: Bench, postgres: Postgres) -> str:
    """The server's manifest with the image's name, and its passwords; returns the address of its service.

    There are no names in this cluster, so the service is made before the operator that is to find it.
    """
    made = [localized(o, installed.namespace, installed.image) for o in make_prefect_installation()]
    installed.cluster.apply(*(one for one in made if one["kind"] in (*SHARED, "Service")))
    for one in made:
        if one["kind"] == "RoleBinding":
            one["metadata"] = {"name": f"{PREFECT}-here", "namespace": bench.namespace}
    (folder / "operator/deploy").mkdir(parents=True)
    (folder / "operator/deploy/prefect.yaml").write_text(yaml.safe_dump_all(made))
    url = postgres.url.replace("://", "+asyncpg://").replace(LOOPBACK, installed.cluster.bridge_address)
    (folder / "prefect.env").write_text(f"{AUTH_KEY}=admin:{CANARY}\n{DATABASE_KEY}={url}\n")
    return str(installed.cluster.get("service", PREFECT, installed.here)["spec"]["clusterIP"])


def write_files(
    folder: Path, installed: Installed, bench: Bench, *, engine: str = "", hosts: Mapping[str, str] | None = None
) -> None:
    """What a user has: the checkout, with the images' names; a kubeconfig with their namespace; the bucket's keys.

    With an engine, the example names it; `hosts` are names that the operator's pods know.
    """
    cluster = bench.cluster
    made = [localized(o, installed.namespace, installed.image) for o in make_installation() if o["kind"] not in SHARED]
    for one in made:
        if one["kind"] == "Deployment":
            (container,) = one["spec"]["template"]["spec"]["containers"]
            kept = [a for a in container["args"] if not a.startswith(("--transfer-image", "--namespace"))]
            flags = [f"--transfer-image={bench.installation.image}", "--image-pull-policy=Never", "--allow-http"]
            container["args"] = [*kept, *flags, f"--namespace={bench.namespace}"]
            known = [{"ip": address, "hostnames": [name]} for name, address in (hosts or {}).items()]
            one["spec"]["template"]["spec"]["hostAliases"] = known
        if one["kind"] == "RoleBinding":
            one["metadata"]["namespace"] = bench.namespace
    (folder / "operator/deploy").mkdir(parents=True, exist_ok=True)
    (folder / "operator/deploy/install.yaml").write_text(
        yaml.safe_dump_all(o for o in made if o["kind"] != "Namespace")
    )
    (folder / "examples").mkdir()
    (folder / "examples/s3-download.yaml").write_text(yaml.safe_dump(example(bench, engine)))
    values = {k: bench.address(v) for k, v in bench.stage.secrets()["s3-config"].items()}
    (folder / "s3.env").write_text("".join(f"{k}={v}\n" for k, v in values.items()))
    cluster.kubectl("delete", "secret", "s3-config", bench.here)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = bench.namespace
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))


def example(bench: Bench, engine: str) -> Object:
    document = bench.document("s3-download", "datacube-pvc")
    if engine:
        document["spec"].setdefault("executor", {})["engine"] = engine
    del document["metadata"]["namespace"], document["metadata"]["uid"]
    return document


def test_other_replica_takes_over_when_the_leader_is_deleted(installed: Installed) -> None:
    before = installed.leader()
    installed.cluster.kubectl("delete", "pod", before, installed.here, "--wait=false")
    wait_for(lambda: installed.leader() not in {before, ""}, SECONDS, "no other replica leads")
    wait_for(lambda: len(installed.pods()) == REPLICAS, SECONDS, "the deleted replica is not replaced")
    assert before not in installed.pods()
