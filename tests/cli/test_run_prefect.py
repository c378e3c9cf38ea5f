"""`datacube run --engine prefect` on real servers: as the plain loop in all that a user sees, with a history beside."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.core import retry
from datacube_flows.engines.prefect_server import FlowRuns, ServerUnavailable
from tests.cli.conftest import Command, Said
from tests.cli.prefect_history import newest_history
from tests.servers.faults import Fault, start_fault_proxy
from tests.servers.stage import BUCKET
from tests.support import tree

if TYPE_CHECKING:
    from tests.servers.prefect import PrefectServer
    from tests.servers.stage import Stage

pytestmark = pytest.mark.t1
CLAIM = "datacube-pvc"
COMMAND = str(Path(sys.executable).parent / "datacube")
PREFECT = ("--engine", "prefect")


@pytest.fixture(autouse=True)
def _named_server(prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of a user who has a server, and what the command changes of this process put back."""
    for name, value in {**prefect_server.client_environment, "PREFECT_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logging, "raiseExceptions", True)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_FIRST_SECONDS", 0.2)


def with_options(document: dict[str, Any], **options: Any) -> dict[str, Any]:
    document["spec"].setdefault("executor", {})["options"] = options
    return document


def with_endpoint(stage: Stage, url: str) -> dict[str, Any]:
    keys = {"endpoint": url, "accessKeyID": stage.store.access_key, "secretAccessKey": stage.store.secret_key}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3-config"}, "stringData": keys}


def absent(command: Command) -> dict[str, Any]:
    """A download of what is not there."""
    document = with_options(command.example("s3-download"), backoffLimit=5)
    document["spec"]["source"]["options"][-1]["value"] = "s3://absent-bucket/x"
    return document


def masked(status: dict[str, Any]) -> dict[str, Any]:
    """A status without its times and rates."""
    text = json.dumps(status, sort_keys=True)
    found: dict[str, Any] = json.loads(text, object_hook=_without_moments)
    return found


def _without_moments(values: dict[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in values.items() if not n.endswith(("Time", "PerSecond", "etaSeconds"))}


def both(command: Command, *documents: dict[str, Any], secrets: bool = True) -> tuple[Said, Said]:
    """What the plain loop and Prefect say of the same documents, each with empty volumes of its own."""
    loop, prefect = (Command(command.stage, command.folder, command.volumes / name) for name in ("inline", "prefect"))
    return loop("run", *documents, secrets=secrets), prefect("run", *documents, secrets=secrets, arguments=PREFECT)


@pytest.mark.parametrize("name", ["git-download", "huggingface-download", "s3-download"])
def test_download_ends_as_in_the_plain_loop(command: Command, name: str) -> None:
    inline, prefect = both(command, command.example(name))
    assert (prefect.code, masked(prefect.status)) == (inline.code, masked(inline.status))
    assert prefect.status["result"]["files"] > 0
    assert tree(command.volumes / "prefect" / CLAIM) == tree(command.volumes / "inline" / CLAIM)
    assert masked_lines(prefect.stderr) == inline.stderr.splitlines()


def masked_lines(stderr: str) -> list[str]:
    """What the command said, but for the line that only this engine says."""
    return [line for line in stderr.splitlines() if not line.startswith("  Prefect: ")]


def test_uploads_move_all_and_the_second_time_nothing(command: Command, stage: Stage) -> None:
    for name in ("git-download", "huggingface-download"):
        assert command("run", command.example(name)).code == 0
    repository = command.volumes / CLAIM / "dev/git/repo"
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    (repository / "by-prefect.txt").write_text("new")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "new"], check=True)
    folder = command.volumes / CLAIM / "dev/hf/whisper-large-v3"
    (folder / "by-prefect.txt").write_text("new")
    for name in ("git-upload", "huggingface-upload", "s3-upload"):
        said = command("run", command.example(name), arguments=PREFECT)
        assert (said.code, said.condition("Complete")["reason"]) == (0, "TransferComplete"), said.stderr
        again, inline = (command("run", command.example(name), arguments=e) for e in (PREFECT, ()))
        assert again.condition("Complete")["reason"] == "UpToDate"
        assert masked(again.status) == masked(inline.status)
    assert stage.git.repositories["user/repo"].tree("main") == tree(repository)
    assert stage.store.get(BUCKET, "models/whisper-large-v3/by-prefect.txt") == b"new"


def test_history_tells_of_a_run_and_of_no_credential(command: Command, prefect_server: PrefectServer) -> None:
    said = command("run", command.example("s3-download"), arguments=PREFECT)
    history = newest_history(prefect_server.ask, tasks=4)
    assert f"Prefect: {prefect_server.ui_url}/runs/flow-run/{history.run['id']}" in said.stderr
    assert history.run["name"] == "default/s3-download"
    assert history.run["deployment_id"] is None
    assert sorted(history.run["tags"]) == ["datacube", "direction:download", "namespace:default", "store:s3"]
    assert history.run["parameters"] == {
        "datacube": "default/s3-download",
        "source": "s3://bucket/path/subpath",
        "sink": f"pvc:{CLAIM}/dev/s3",
        "attempts": 3,
        "deadline_seconds": None,
        "sync": False,
    }
    assert history.states == ["Queued", "Running", "Completed"]
    moved = "TransferComplete: 20 files, 40000 bytes moved, verified by checksum"
    assert history.state == ("Completed", moved)
    assert set(history.tasks) == {"provision", "attempt", "attempt 1", "report"}
    pod = said.status["pod"]["reference"]["name"]
    assert history.tasks["attempt 1"] == ("Completed", f"{pod}: {moved}")
    assert f"made claim {CLAIM}" in history.logs
    assert any(f"{pod}: {moved}" in line for line in history.logs)
    (attempt,) = json.loads(history.artifacts["default-s3-download-attempts"])
    assert (attempt["pod"], attempt["outcome"], attempt["exit code"]) == (pod, "TransferComplete", 0)
    result = {row["what"]: row["value"] for row in json.loads(history.artifacts["default-s3-download-result"])}
    assert (result["path"], result["files"], result["bytes"]) == ("dev/s3", 20, 40000)
    assert prefect_server.leaks() == []


@pytest.mark.usefixtures("short_pauses")
def test_attempt_that_fails_is_followed_by_prefects_retry(command: Command, prefect_server: PrefectServer) -> None:
    with start_fault_proxy(command.stage.store.url) as proxy:
        proxy.inject(Fault(f"GET /{BUCKET}", "stall", times=1))
        document = with_options(command.example("s3-download"), backoffLimit=3, activeDeadlineSeconds=3)
        said = command("run", document, with_endpoint(command.stage, proxy.url), arguments=PREFECT)
    assert said.code == 0, said.stderr
    assert [a.get("reason") for a in said.status["attempts"]] == ["DeadlineExceeded", None]
    assert said.condition("Failed")["status"] == "False"
    assert "attempt 1 failed: DeadlineExceeded" in said.stderr
    assert "attempt 2 of 4" in said.stderr
    history = newest_history(prefect_server.ask, tasks=5)
    assert history.run["parameters"]["deadline_seconds"] == 3
    assert history.tasks["attempt 1"][0] == "DeadlineExceeded"
    assert {history.tasks[name][0] for name in ("attempt 2", "attempt")} == {"Completed"}


@pytest.mark.usefixtures("short_pauses")
def test_retries_that_are_used_up_end_the_run_as_in_the_plain_loop(
    command: Command, prefect_server: PrefectServer
) -> None:
    with start_fault_proxy(command.stage.store.url) as proxy:
        proxy.inject(Fault(f"GET /{BUCKET}", "stall", times=None))
        document = with_options(command.example("s3-download"), backoffLimit=1, activeDeadlineSeconds=2)
        inline, prefect = both(command, document, with_endpoint(command.stage, proxy.url))
    assert (prefect.code, masked(prefect.status)) == (inline.code, masked(inline.status))
    assert (prefect.code, prefect.condition("Failed")["reason"]) == (5, "RetriesExhausted")
    history = newest_history(prefect_server.ask, tasks=5)
    assert history.state[0] == "Failed"
    assert [history.tasks[f"attempt {number}"][0] for number in (1, 2)] == ["DeadlineExceeded"] * 2


def test_permanent_failure_is_not_retried(command: Command, prefect_server: PrefectServer) -> None:
    inline, prefect = both(command, absent(command))
    assert (prefect.code, masked(prefect.status)) == (inline.code, masked(inline.status))
    assert (prefect.code, len(prefect.status["attempts"])) == (4, 1)
    history = newest_history(prefect_server.ask, tasks=4)
    assert history.state[0] == "Failed"
    assert history.tasks["attempt 1"][0] == "NotFound"
    assert "AwaitingRetry" not in history.states


def test_run_that_waits_for_a_secret_starts_nothing(command: Command, prefect_server: PrefectServer) -> None:
    inline, prefect = both(command, command.example("s3-download"), secrets=False)
    assert (prefect.code, masked(prefect.status)) == (inline.code, masked(inline.status))
    assert prefect.code == 6
    state, message = newest_history(prefect_server.ask, tasks=2).state
    assert (state, message.split(":")[0]) == ("Failed", "WaitingForSecret")


def test_run_that_prefect_gives_up_goes_on_and_its_end_is_told(
    command: Command, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gives_up(*_: object) -> None:
        raise ServerUnavailable("no usable answer")

    monkeypatch.setattr(FlowRuns, "execute", gives_up)
    said = command("run", command.example("s3-download"), arguments=PREFECT)
    assert (said.code, said.status["result"]["files"]) == (0, 20)
    assert "Prefect gave up; the run goes on without it" in said.stderr
    assert "incomplete" not in said.stderr
    assert newest_history(prefect_server.ask, tasks=0).state == (
        "Completed",
        "TransferComplete: The DataCube is complete",
    )
