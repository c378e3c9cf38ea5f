"""`datacube run --engine prefect` where something ends too soon: the person, the server, the command itself."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.cli.conftest import Command
from tests.cli.prefect_history import make_home, newest_history
from tests.cluster.process import wait_for
from tests.servers.faults import Fault, FaultProxy, start_fault_proxy
from tests.servers.prefect import start_prefect_with_sqlite
from tests.servers.stage import BUCKET, PREFIX
from tests.support import tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.servers.prefect import PrefectServer
    from tests.servers.stage import Stage

pytestmark = pytest.mark.t1
CLAIM = "datacube-pvc"
COMMAND = str(Path(sys.executable).parent / "datacube")
PREFECT = ("--engine", "prefect")
ONE_OBJECT = f"GET /{BUCKET}/{PREFIX}/3"
SAYS_WHETHER_PREFECT_IS_LOADED = """
import sys
from datacube_flows.cli.main import app
app(sys.argv[1:], standalone_mode=False)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"prefect", "kubernetes", "hera"}))
"""


@pytest.fixture
def proxy(stage: Stage) -> Iterator[FaultProxy]:
    """Stands before the S3 store."""
    with start_fault_proxy(stage.store.url) as made:
        yield made


def start(command: Command, proxy: FaultProxy, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Starts the real command in a process group of its own."""
    store, path = command.stage.store, command.folder / "cube.yaml"
    keys = {"endpoint": proxy.url, "accessKeyID": store.access_key, "secretAccessKey": store.secret_key}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3-config"}, "stringData": keys}
    path.write_text(yaml.safe_dump_all([secret, command.example("s3-download")]))
    arguments = ["-f", str(path), "--volumes", str(command.volumes), "--allow-http", "-o", "json"]
    return subprocess.Popen(
        [COMMAND, "run", *arguments, *PREFECT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={"PATH": os.environ["PATH"], "PREFECT_HOME": str(command.folder / "home"), **environment},
    )


def wait_until_it_moves(command: Command) -> None:
    wait_for(lambda: any(command.volumes.rglob(".datacube/*")), 30, "nothing is moved")


def processes_with(text: str) -> list[int]:
    """Processes in whose environment the text stands."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and text.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_ends_the_attempt_and_the_history_says_cancelled(
    command: Command, proxy: FaultProxy, prefect_server: PrefectServer, number: int, code: int
) -> None:
    proxy.inject(Fault(ONE_OBJECT, "stall", after=10, times=None))
    running = start(command, proxy, prefect_server.client_environment)
    wait_until_it_moves(command)
    os.kill(running.pid, number)
    stdout, stderr = running.communicate(timeout=30)
    assert running.returncode == code, stderr
    status = json.loads(stdout)["status"]
    assert (status["phase"], status["attempts"][0]["reason"]) == ("Failed", "Cancelled")
    assert "Traceback" not in stderr
    assert not list(command.volumes.rglob(".datacube"))
    assert not processes_with(str(command.volumes))
    history = newest_history(prefect_server.ask, tasks=3)
    assert history.state == ("Cancelled", "the run was ended by the person who started it: run it again")
    assert "Crashed" not in {state for state, _ in history.tasks.values()}


def test_server_that_dies_ends_no_transfer(command: Command, proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.inject(Fault(ONE_OBJECT, "slow", rate=500, times=1))
    with start_prefect_with_sqlite(tmp_path / "server") as server:
        running = start(command, proxy, server.client_environment)
        wait_until_it_moves(command)
        server.kill()
        wait_for(lambda: not any(command.volumes.rglob(".datacube/*")), 30, "the transfer does not end")
        moved = time.monotonic()
        stdout, stderr = running.communicate(timeout=60)
    assert time.monotonic() - moved < 20
    assert running.returncode == 0, stderr
    assert json.loads(stdout)["status"]["phase"] == "Succeeded"
    assert len(tree(command.volumes / CLAIM / "dev/s3")) == 20
    (told,) = [line for line in stderr.splitlines() if "history" in line]
    assert "the history of this run is incomplete" in told
    assert "Traceback" not in stderr


def test_server_that_is_away_is_named_and_nothing_starts(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://somebody:word@127.0.0.1:1/api")
    monkeypatch.setenv("PREFECT_HOME", str(command.folder / "home"))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    said = command("run", command.example("s3-download"), arguments=PREFECT)
    assert (said.code, said.condition("Initialized")["reason"]) == (6, "EngineUnavailable")
    assert "start the one that PREFECT_API_URL names" in said.stderr
    assert "word" not in said.stderr
    assert not (command.volumes / CLAIM).exists()


def test_own_server_ends_with_a_command_that_is_killed_and_the_next_one_goes_on(
    command: Command, proxy: FaultProxy
) -> None:
    home = command.folder / "home"
    make_home(home)
    proxy.inject(Fault(ONE_OBJECT, "stall", after=10, times=None))
    running = start(command, proxy, {})
    wait_until_it_moves(command)
    assert len(processes_with(str(home))) > 1
    running.kill()
    running.communicate(timeout=30)
    wait_for(lambda: not processes_with(str(home)), 15, "its server goes on")
    proxy.clear()
    again = start(command, proxy, {})
    stdout, stderr = again.communicate(timeout=60)
    assert again.returncode == 0, stderr
    assert json.loads(stdout)["status"]["phase"] == "Succeeded"
    assert "starting a Prefect server for this command" in stderr.splitlines()[0]
    assert stderr.splitlines()[-1] == f"  history: PREFECT_HOME={home} prefect server start"
    assert not processes_with(str(home))


def test_prefect_that_is_not_installed_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    said = command("run", command.example("s3-download"), arguments=PREFECT)
    assert (said.code, said.stdout) == (6, "")
    assert "pip install 'datacube-flows[prefect]'" in said.stderr
    assert not (command.volumes / CLAIM).exists()


def test_plain_loop_loads_no_workflow_engine(command: Command) -> None:
    path = command.folder / "cubes.yaml"
    path.write_text(yaml.safe_dump_all([*command.stage.secret_documents(), command.example("s3-download")]))
    argv = ["run", "-f", str(path), "--volumes", str(command.volumes), "--allow-http"]
    said = subprocess.run(
        [sys.executable, "-c", SAYS_WHETHER_PREFECT_IS_LOADED, *argv],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert said.stdout == "[]\n", said.stderr
    assert "Succeeded" in said.stderr
