"""The subflow `transfer` in flows as users write them, on one machine, with a real Prefect server and a real store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.process import wait_for
from tests.servers.faults import Fault, start_fault_proxy
from tests.support import ROOT, tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.objectstore import ObjectStore
    from tests.servers.prefect import PrefectServer

pytestmark = pytest.mark.t1
SECRET_OPTIONS = {
    "s3-endpoint": "endpoint",
    "s3-access-key-id": "accessKeyID",
    "s3-secret-access-key": "secretAccessKey",
}


@pytest.fixture(scope="module")
def filled(object_store: ObjectStore) -> ObjectStore:
    object_store.make_bucket("bucket")
    object_store.put_many("bucket", {f"data/{number}": b"x" * 2_000 for number in range(5)})
    return object_store


def make_document() -> dict[str, Any]:
    options: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "s3", "key": key}}}
        for name, key in SECRET_OPTIONS.items()
    ]
    claim = {"name": "data", "subPath": "in", "template": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}}
    claim["template"]["spec"]["accessModes"] = ["ReadWriteOnce"]  # type: ignore[index]
    return {
        "apiVersion": "tensorstack.dev/v1beta1",
        "kind": "DataCube",
        "metadata": {"name": "moving", "namespace": "team"},
        "spec": {
            "source": {"type": "s3", "options": [*options, {"name": "s3-uri", "value": "s3://bucket/data/"}]},
            "sink": {"type": "pvc", "pvc": claim},
        },
    }


def start(
    scene: str, prefect: PrefectServer, store: ObjectStore, folder: Path, endpoint: str = ""
) -> subprocess.Popen[str]:
    secret = {
        "endpoint": endpoint or store.url,
        "accessKeyID": store.access_key,
        "secretAccessKey": store.secret_key,
    }
    told = {"document": make_document(), "volumes": str(folder / "volumes"), "secrets": {"s3": secret}}
    environment = {"PATH": os.environ["PATH"], "PREFECT_HOME": str(folder / "home"), **prefect.client_environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pipelines.moving", scene],
        cwd=ROOT,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(told))
    process.stdin.close()
    process.stdin = None
    return process


def test_subflow_moves_data_in_every_kind_of_flow_and_fails_with_a_typed_reason(
    filled: ObjectStore, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    flow = start("everything", prefect_server, filled, tmp_path)
    stdout, stderr = flow.communicate(timeout=60)
    assert flow.returncode == 0, stderr
    told = json.loads(stdout)
    result = {"path": "in", "revision": "", "files": 5, "bytes": 10_000, "claim": "data"}
    assert told["sync"] == result
    assert told["async"] == told["alone"] == result | {"files": 0, "bytes": 0}
    assert len(tree(tmp_path / "volumes/data/in")) == 5
    assert (told["failing"]["reason"], told["failing"]["attempt"]) == ("NotFound", "NotFound")
    assert told["failing"]["name"] == "team/moving"
    assert told["without_secret"] == {"reason": "WaitingForSecret"}
    shown = runs_of(prefect_server, "team/moving")
    assert [(run["parent_task_run_id"] is None, run["state"]["name"]) for run in shown] == [
        (False, "Completed"),
        (False, "UpToDate"),
        (True, "UpToDate"),
        (False, "Failed"),
        (False, "Failed"),
    ]
    assert {"store:s3", "direction:download", "namespace:team"} <= set(shown[0]["tags"])
    assert shown[0]["parameters"]["source"] == "s3://bucket/data/"
    assert prefect_server.leaks() == []


def runs_of(server: PrefectServer, name: str) -> list[dict[str, Any]]:
    """Flow runs of that name, oldest first."""
    query = {"flow_runs": {"name": {"any_": [name]}}, "sort": "START_TIME_ASC"}
    found: list[dict[str, Any]] = server.ask("POST", "/flow_runs/filter", query)
    return found


def test_flow_that_is_interrupted_leaves_no_attempt_and_nothing_half_written(
    filled: ObjectStore, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    with start_fault_proxy(filled.url) as proxy:
        proxy.inject(Fault("GET /bucket/data/3", "stall", after=10, times=None))
        flow = start("sync_flow", prefect_server, filled, tmp_path, proxy.url)
        wait_for(lambda: any((tmp_path / "volumes").rglob(".datacube/*")), 30, "nothing is moved")
        flow.send_signal(signal.SIGINT)
        flow.communicate(timeout=40)
    assert flow.returncode != 0
    assert not list((tmp_path / "volumes").rglob(".datacube"))
    assert not list((tmp_path / "volumes/.datacube-locks").glob("*.lock"))
