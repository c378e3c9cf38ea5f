"""The Prefect task in flows as users write them: a process each, with a real Prefect server and a real API server."""

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
import yaml

from datacube_flows.cluster.errors import NotFound
from datacube_flows.cluster.resource import DATACUBES
from datacube_flows.core import labels
from tests.canary import CANARY
from tests.pipelines.documents import failed, make_cube, run_name, running, succeeded
from tests.pipelines.server import Line, line_to
from tests.servers.prefect import start_prefect_with_sqlite
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster
    from tests.servers.prefect import PrefectServer

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

SOURCE = {
    "type": "git",
    "options": [
        {"name": "url", "value": "https://example.test/owner/repo.git"},
        {"name": "token", "value": f"{CANARY}-in-the-document"},
    ],
}


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with start_prefect_with_sqlite(tmp_path_factory.mktemp("prefect")) as server:
        yield server
        assert server.leaks() == []


@dataclass
class Scene:
    """A DataCube in a file, and flows that use it."""

    line: Line
    prefect: PrefectServer
    folder: Path
    document: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.folder / "cube.yaml"

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @contextmanager
    def flow(self, scene: str) -> Iterator[subprocess.Popen[str]]:
        """Runs a flow; it is ended with the block."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.line.kubeconfig),
            "PREFECT_HOME": str(self.folder / "prefect"),
            **self.prefect.client_environment,
        }
        command = [sys.executable, "-m", "tests.pipelines.training", scene, str(self.file)]
        with (self.folder / "stderr").open("w") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
            try:
                yield process
            finally:
                process.kill()
                process.communicate()

    async def there(self) -> dict[str, Any]:
        """The DataCube, once it is applied."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await self.line.others.get(DATACUBES, self.line.namespace, self.name)
                except NotFound:
                    await asyncio.sleep(0.05)

    async def is_there(self) -> bool:
        try:
            await self.line.others.get(DATACUBES, self.line.namespace, self.name)
        except NotFound:
            return False
        return True

    async def operate(self, end: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        """Plays the operator: takes the DataCube up, and ends it. Returns it as it was applied."""
        cube = await self.there()
        about = cube["metadata"]
        run = run_name(about["uid"], (about.get("annotations") or {}).get(labels.RERUN, ""), self.name)
        progress = {"percent": 50, "bytesDone": 1000, "bytesTotal": 2000}
        await self.line.says(self.name, running(run, progress=progress))
        await asyncio.sleep(0.5)
        await self.line.says(self.name, end(run))
        return cube

    async def outcome(self, process: subprocess.Popen[str]) -> Any:
        """What the flow printed at its end."""
        output, _ = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, self.said
        return json.loads(output)

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    def task_run(self) -> dict[str, Any]:
        """The newest run of the task, as Prefect shows it."""
        asked = {"sort": "EXPECTED_START_TIME_DESC", "limit": 20}
        runs = self.prefect.ask("POST", "/task_runs/filter", asked)
        return next(run for run in runs if run["name"].startswith("apply_and_wait"))

    def log_of(self, run: dict[str, Any]) -> list[str]:
        asked = {"logs": {"task_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC"}
        return [entry["message"] for entry in self.prefect.ask("POST", "/logs/filter", asked)]


@pytest.fixture
async def scene(api: Cluster, namespace: str, tmp_path: Path, prefect: PrefectServer) -> AsyncIterator[Scene]:
    document = make_cube(f"cube-{namespace}", source=SOURCE)
    async with line_to(api, namespace, tmp_path) as line:
        config = yaml.safe_load(line.kubeconfig.read_text())
        config["contexts"][0]["context"]["namespace"] = namespace
        line.kubeconfig.write_text(json.dumps(config))
        made = Scene(line, prefect, tmp_path, document)
        made.file.write_text(json.dumps(document))
        yield made
        assert CANARY not in made.said


async def test_task_returns_what_was_moved_and_is_logged(scene: Scene) -> None:
    with scene.flow("sync_flow") as process:
        await scene.operate(succeeded)
        found = await scene.outcome(process)
    assert found == {
        "path": "sets/repo",
        "revision": "a" * 40,
        "files": 3,
        "bytes": 2048,
        "claim": "claim",
        "trained": 3,
    }
    assert await scene.is_there()
    run = scene.task_run()
    assert (run["name"], run["state_type"]) == ("apply_and_wait cube", "COMPLETED")
    lines = scene.log_of(run)
    assert f"DataCube '{scene.line.namespace}/{scene.name}' is applied" in lines
    assert "50 %, 1.0 kB of 2.0 kB" in lines
    assert any(line.startswith("Succeeded: 3 files, 2.0 kB moved") for line in lines)


async def test_task_that_is_submitted_twice_waits_for_one_run(scene: Scene) -> None:
    with scene.flow("submitted") as process:
        await scene.operate(succeeded)
        found = await scene.outcome(process)
    assert (found["files"], found["same"]) == (3, True)
    assert scene.task_run()["name"] == f"apply_and_wait {scene.name}"


async def test_async_task_runs_an_ended_cube_again_and_deletes_it(scene: Scene) -> None:
    cube = await scene.line.apply(scene.document)
    await scene.line.says(scene.name, succeeded(run_name(cube.uid, "", scene.name), files=1))
    with scene.flow("async_flow") as process:
        async with asyncio.timeout(60):
            while labels.RERUN not in ((await scene.there())["metadata"].get("annotations") or {}):
                await asyncio.sleep(0.05)
        await scene.operate(lambda run: succeeded(run, files=2))
        found = await scene.outcome(process)
    assert found["files"] == 2
    assert not await scene.is_there()


async def test_failed_cube_raises_the_typed_reason_and_is_deleted_where_asked_for(scene: Scene) -> None:
    with scene.flow("failing") as process:
        await scene.operate(failed)
        found = await scene.outcome(process)
    name = f"{scene.line.namespace}/{scene.name}"
    assert found == {"reason": "AccessDenied", "message": "give a token that may read", "name": name}
    assert not await scene.is_there()
    run = scene.task_run()
    assert run["state_type"] == "FAILED"
    assert "AccessDenied: give a token that may read" in run["state"]["message"]


async def test_failed_cube_fails_a_flow_that_does_not_handle_it_and_stays(scene: Scene) -> None:
    with scene.flow("unhandled") as process:
        await scene.operate(failed)
        assert await asyncio.to_thread(process.wait, 60) == 1
    assert "TransferFailed" in scene.said
    assert await scene.is_there()


@pytest.mark.parametrize(("flow", "stays"), [("kept", True), ("not_kept", False)])
async def test_flow_that_is_told_to_end_leaves_the_cube_only_where_it_is_kept(
    scene: Scene, flow: str, stays: bool
) -> None:
    with scene.flow(flow) as process:
        await scene.there()
        await scene.line.watched()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) != 0
    assert await scene.is_there() is stays


@pytest.mark.parametrize("flow", ["cancelled", "late_in_a_thread"])
async def test_task_that_is_cancelled_deletes_a_cube_that_is_not_kept(scene: Scene, flow: str) -> None:
    with scene.flow(flow) as process:
        await scene.there()
        found = await scene.outcome(process)
    assert found in ({"cancelled": True}, {"state": "TimedOut"})
    assert not await scene.is_there()
