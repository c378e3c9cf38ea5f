"""The subflow `transfer` with pods, before a real API server; the kubelet is played by the tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.cluster.resource import CLAIMS, PODS
from datacube_flows.core import labels
from tests.pipelines.server import Line, line_to
from tests.pipelines.test_subflow import make_document
from tests.servers.prefect import start_prefect_with_sqlite
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster
    from tests.servers.prefect import PrefectServer

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

AT = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with start_prefect_with_sqlite(tmp_path_factory.mktemp("prefect")) as server:
        yield server
        assert server.leaks() == []


@dataclass(frozen=True)
class Scene:
    """A flow in a process of its own, and the cluster that it speaks to."""

    line: Line
    api: Cluster
    prefect: PrefectServer
    folder: Path

    @contextmanager
    def flow(self) -> Iterator[subprocess.Popen[str]]:
        """Runs the flow; it is ended with the block."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.line.kubeconfig),
            "PREFECT_HOME": str(self.folder / "home"),
            **self.prefect.client_environment,
        }
        command = [sys.executable, "-m", "tests.pipelines.moving", "in_cluster"]
        pipe = subprocess.PIPE
        told = json.dumps({"document": make_document(), "namespace": self.line.namespace})
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe
        ) as run:
            assert run.stdin is not None
            run.stdin.write(told)
            run.stdin.close()
            run.stdin = None
            try:
                yield run
            finally:
                run.kill()

    def pods(self) -> list[dict[str, Any]]:
        """The attempts' pods that are there."""
        found = json.loads(self.api.kubectl("get", "pods", "-n", self.line.namespace, "-o", "json"))["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    async def pod(self) -> dict[str, Any]:
        """The pod, once it is there."""
        async with asyncio.timeout(30):
            while not (found := self.pods()):
                await asyncio.sleep(0.2)
        return found[0]

    async def ends(self, pod: dict[str, Any], report: dict[str, Any], code: int) -> None:
        """Has a pod end, as a kubelet does."""
        end = {"exitCode": code, "startedAt": AT, "finishedAt": AT, "message": json.dumps(report)}
        main = {"name": "main", "image": "transfer", "imageID": "", "ready": False, "restartCount": 0}
        ended = [main | {"state": {"terminated": end}}]
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": ended}
        about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["metadata"]["name"]}}
        await self.line.others.apply(PODS, self.line.namespace, about | {"status": status}, subresource="status")


@pytest.fixture
async def scene(api: Cluster, namespace: str, prefect: PrefectServer, tmp_path: Path) -> AsyncIterator[Scene]:
    async with line_to(api, namespace, tmp_path) as line:
        yield Scene(line, api, prefect, tmp_path)


async def test_subflow_makes_claim_and_pod_and_returns_what_the_pod_reports(scene: Scene) -> None:
    with scene.flow() as flow:
        pod = await scene.pod()
        assert pod["metadata"]["labels"][labels.ATTEMPT] == "1"
        assert await scene.line.others.get(CLAIMS, scene.line.namespace, "data")
        report = {"reason": "TransferComplete", "files": 3, "bytes": 5, "path": "in", "verified": "checksum"}
        await scene.ends(pod, report, 0)
        stdout, stderr = await asyncio.to_thread(flow.communicate, timeout=30)
    assert flow.returncode == 0, stderr
    assert json.loads(stdout) == {"path": "in", "revision": "", "files": 3, "bytes": 5, "claim": "data"}


async def test_subflow_fails_with_the_reason_of_its_pod(scene: Scene) -> None:
    with scene.flow() as flow:
        await scene.ends(await scene.pod(), {"reason": "AccessDenied", "message": "the key may not read"}, 65)
        stdout, stderr = await asyncio.to_thread(flow.communicate, timeout=30)
    assert flow.returncode == 0, stderr
    assert json.loads(stdout) == {"reason": "AccessDenied", "attempt": "AccessDenied"}


async def test_subflow_that_is_interrupted_leaves_no_pod(scene: Scene) -> None:
    with scene.flow() as flow:
        await scene.pod()
        flow.send_signal(signal.SIGINT)
        await asyncio.to_thread(flow.communicate, timeout=40)
    assert flow.returncode != 0
    assert scene.pods() == []
