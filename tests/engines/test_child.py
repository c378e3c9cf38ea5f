"""Attempts as child processes: their deadline, their end, what is known of one that says nothing any more."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from datacube_flows.api.reasons import Reason
from datacube_flows.core.manifests import Installation
from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.core.plan import TransferPlan, make_plan
from datacube_flows.core.rules import validate
from datacube_flows.engines.child import ChildRunner, ChildSettings
from tests.canary import CANARY
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.t1


def plan_of(**options: Any) -> TransferPlan:
    document = yaml.safe_load((ROOT / "examples/s3-download.yaml").read_text())
    document["spec"]["executor"] = {"options": options}
    return make_plan(validate(document))


@pytest.fixture
def silent_endpoint() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def runner_for(endpoint: str, folder: Path, *, grace_seconds: float = 20) -> ChildRunner:
    environment = {
        "S3_ENDPOINT": endpoint,
        "S3_ACCESS_KEY_ID": CANARY,
        "S3_SECRET_ACCESS_KEY": CANARY,
        "S3_URI": "s3://bucket/x",
    }
    settings = ChildSettings(
        Installation(allow_http=True, progress_seconds=0.1), grace_seconds=grace_seconds, path=os.environ["PATH"]
    )
    return ChildRunner(settings, environment, folder)


def children() -> list[int]:
    """Process ids of this process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def run_and(runner: ChildRunner, plan: TransferPlan, act: Any) -> AttemptSeen:
    """Runs an attempt, and acts on its process once it says that it works."""
    is_working = threading.Event()
    before = set(children())

    def meddle() -> None:
        assert is_working.wait(20)
        act(next(iter(set(children()) - before)))

    thread = threading.Thread(target=meddle)
    thread.start()
    seen = runner.run_attempt(plan, 1, lambda _values: is_working.set())
    thread.join()
    return seen


def test_attempt_that_reports_is_seen_with_its_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    seen = runner_for(f"http://127.0.0.1:{port}", tmp_path).run_attempt(plan_of(), 1, lambda _values: None)
    assert seen.phase is PodPhase.FAILED
    assert seen.failure[0] is Reason.ENDPOINT_UNREACHABLE
    assert seen.exit_code == 75


def test_deadline_ends_the_attempt_and_is_told(silent_endpoint: str, tmp_path: Path) -> None:
    started = time.monotonic()
    seen = runner_for(silent_endpoint, tmp_path).run_attempt(plan_of(activeDeadlineSeconds=2), 1, lambda _values: None)
    assert time.monotonic() - started < 12
    assert seen.failure[0] is Reason.DEADLINE_EXCEEDED
    assert "activeDeadlineSeconds (2 s)" in seen.failure[1]
    assert seen.status == "DeadlineExceeded"
    assert seen.exit_code == 143


def test_killed_attempt_is_taken_for_one_without_memory(silent_endpoint: str, tmp_path: Path) -> None:
    seen = run_and(runner_for(silent_endpoint, tmp_path), plan_of(), lambda pid: os.kill(pid, signal.SIGKILL))
    assert (seen.failure[0], seen.status, seen.exit_code) == (Reason.OOM_KILLED, "OOMKilled", 137)


def test_attempt_that_ignores_the_deadline_is_killed(silent_endpoint: str, tmp_path: Path) -> None:
    runner = runner_for(silent_endpoint, tmp_path, grace_seconds=1)
    started = time.monotonic()
    seen = run_and(runner, plan_of(activeDeadlineSeconds=3), lambda pid: os.kill(pid, signal.SIGSTOP))
    assert time.monotonic() - started < 10
    assert seen.failure[0] is Reason.DEADLINE_EXCEEDED


def test_stall_timeout_ends_the_attempt_as_stalled(silent_endpoint: str, tmp_path: Path) -> None:
    seen = runner_for(silent_endpoint, tmp_path).run_attempt(plan_of(stallTimeoutSeconds=2), 1, lambda _values: None)
    assert seen.failure[0] is Reason.STALLED
    assert seen.exit_code == 75


def test_attempt_without_a_report_tells_its_last_words(tmp_path: Path) -> None:
    seen = runner_for("http://127.0.0.1:1", tmp_path).run_attempt(
        plan_of().model_copy(update={"verify": "bogus"}), 1, lambda _values: None
    )
    assert seen.failure[0] is Reason.TRANSFER_ERROR
    assert "bogus" in seen.failure[1]
    assert CANARY not in seen.failure[1]


def test_no_process_and_no_scratch_folder_is_left(
    silent_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(children())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    runner_for(silent_endpoint, tmp_path).run_attempt(plan_of(activeDeadlineSeconds=2), 1, lambda _values: None)
    assert set(children()) == before
    assert list(scratch.iterdir()) == []
