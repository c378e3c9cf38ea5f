"""`datacube run` and `plan` on real servers: every example, retries, deadlines, several documents, interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from datacube_flows.core.path_use import PathUse
from datacube_flows.core.retry import backoff_seconds
from datacube_flows.engines import inline
from datacube_flows.engines.locks import hold_path
from datacube_flows.engines.volumes import LocalVolumes
from tests.cli.conftest import Command
from tests.servers.faults import Fault, start_fault_proxy
from tests.servers.stage import BUCKET, GIT_REPOSITORY, MODEL, PREFIX
from tests.support import tree

if TYPE_CHECKING:
    from tests.servers.stage import Stage

pytestmark = pytest.mark.t1
CLAIM = "datacube-pvc"
COMMAND = str(Path(sys.executable).parent / "datacube")


def with_options(document: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The document with `executor.options` set."""
    document["spec"].setdefault("executor", {})["options"] = options
    return document


def without_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes back-off take no time; returns the pauses that were asked for."""
    pauses: list[float] = []

    def short(failures: int, jitter: float) -> float:
        pauses.append(backoff_seconds(failures, jitter=jitter))
        return 0.01

    monkeypatch.setattr(inline, "backoff_seconds", short)
    return pauses


def test_git_example_downloads_with_lfs_and_uploads_a_commit(command: Command) -> None:
    assert command("run", command.example("git-download")).code == 0
    repository = command.volumes / CLAIM / "dev/git/repo"
    served = command.stage.git.repositories[GIT_REPOSITORY]
    assert tree(repository) == served.tree("main")
    (repository / "new.txt").write_text("new")
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "new"], check=True)
    said = command("run", command.example("git-upload"))
    assert said.code == 0
    assert served.head("main") == said.status["result"]["revision"]


def test_hub_examples_download_and_upload(command: Command) -> None:
    said = command("run", command.example("huggingface-download"))
    assert said.code == 0
    assert set(tree(command.volumes / CLAIM / "dev/hf/whisper-large-v3")) == set(command.stage.hub.files(MODEL))
    said = command("run", command.example("huggingface-upload"))
    assert said.code == 0
    assert said.condition("Complete")["status"] == "True"


def test_s3_examples_download_upload_and_sync(command: Command) -> None:
    assert command("run", command.example("s3-download")).status["result"]["files"] == 20
    folder = command.volumes / CLAIM / "dev/s3"
    (folder / "surplus").write_text("not at the source")
    said = command("run", command.example("s3-sync"))
    assert said.code == 0
    assert not (folder / "surplus").exists()
    assert len(tree(folder)) == 20
    source = command.volumes / CLAIM / "dev/hf/whisper-large-v3"
    source.mkdir(parents=True)
    (source / "config.json").write_text("{}")
    assert command("run", command.example("s3-upload")).code == 0
    assert command.stage.store.get(BUCKET, "models/whisper-large-v3/config.json") == b"{}"


def test_status_is_what_a_cluster_would_show(command: Command) -> None:
    status = command("run", command.example("s3-download")).status
    assert list(status) == [
        "phase",
        "startTime",
        "completionTime",
        "pod",
        "conditions",
        "progress",
        "attempts",
        "result",
    ]
    assert [c["type"] for c in status["conditions"]] == ["Initialized", "Complete", "Failed"]
    assert status["pod"]["status"] == "Completed"
    assert status["progress"]["percent"] == 100


def test_second_run_moves_nothing_and_says_so(command: Command) -> None:
    command("run", command.example("s3-download"))
    said = command("run", command.example("s3-download"))
    assert said.condition("Complete")["reason"] == "UpToDate"
    assert said.status["result"] | {"path": ""} == {
        "files": 0, "bytes": 0, "skipped": 20, "verified": "checksum", "path": ""
    }  # fmt: skip


def test_plan_says_what_run_then_does(command: Command) -> None:
    document = command.example("s3-download")
    planned = command("plan", document).status["plan"]
    assert not (command.volumes / CLAIM).exists()
    result = command("run", document).status["result"]
    assert planned == {"add": result["files"], "update": 0, "delete": 0, "bytes": result["bytes"]}


def test_documents_run_in_order_and_stop_at_the_first_failure(command: Command) -> None:
    first, second, third = (command.example("s3-download") for _ in range(3))
    for number, document in enumerate((first, second, third)):
        document["metadata"]["name"] = f"cube-{number}"
    second["spec"]["source"]["options"][-1]["value"] = "s3://absent-bucket/x"
    said = command("run", first, second, third)
    assert said.code == 4
    assert "not started: cube-2" in said.stderr


def test_keep_going_runs_the_others(command: Command) -> None:
    first, second = command.example("s3-download"), command.example("s3-download")
    first["metadata"]["name"], second["metadata"]["name"] = "broken", "fine"
    first["spec"]["source"]["options"][-1]["value"] = "s3://absent-bucket/x"
    said = command("run", first, second, arguments=["--keep-going"])
    assert said.code == 4
    assert (command.volumes / CLAIM / "dev/s3").is_dir()


def test_template_makes_the_claim_and_says_so(command: Command) -> None:
    assert f"made claim {CLAIM}" in command("run", command.example("s3-download")).stderr
    assert f"made claim {CLAIM}" not in command("run", command.example("s3-download")).stderr


def with_endpoint(stage: Stage, url: str) -> dict[str, Any]:
    """A Secret that overrides the S3 endpoint."""
    keys = {"endpoint": url, "accessKeyID": stage.store.access_key, "secretAccessKey": stage.store.secret_key}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3-config"}, "stringData": keys}


def test_deadline_is_per_attempt_and_attempts_are_limit_plus_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pauses(monkeypatch)
    with start_fault_proxy(command.stage.store.url) as proxy:
        proxy.inject(Fault(f"GET /{BUCKET}", "stall", times=None))
        document = with_options(command.example("s3-download"), backoffLimit=1, activeDeadlineSeconds=3)
        said = command("run", document, with_endpoint(command.stage, proxy.url))
    assert said.code == 5
    assert [a["reason"] for a in said.status["attempts"]] == ["DeadlineExceeded", "DeadlineExceeded"]
    assert said.condition("Failed")["reason"] == "RetriesExhausted"
    assert "DeadlineExceeded" in said.condition("Failed")["message"]
    assert not list(command.volumes.rglob(".datacube"))


def test_next_attempt_succeeds_after_a_failed_one(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = without_pauses(monkeypatch)
    with start_fault_proxy(command.stage.store.url) as proxy:
        proxy.inject(Fault(f"GET /{BUCKET}", "stall", times=1))
        document = with_options(command.example("s3-download"), backoffLimit=3, activeDeadlineSeconds=3)
        said = command("run", document, with_endpoint(command.stage, proxy.url))
    assert said.code == 0
    assert [a.get("reason") for a in said.status["attempts"]] == ["DeadlineExceeded", None]
    assert said.condition("Failed")["status"] == "False"
    assert len(pauses) == 1
    assert 8 <= pauses[0] <= 12


def test_permanent_failure_is_not_retried(command: Command) -> None:
    document = with_options(command.example("s3-download"), backoffLimit=5)
    document["spec"]["source"]["options"][-1]["value"] = "s3://absent-bucket/x"
    assert len(command("run", document).status["attempts"]) == 1


def test_path_in_use_is_told_with_the_name_of_the_user(command: Command) -> None:
    use = PathUse("training-data", CLAIM, "dev", writes=True)
    with hold_path(LocalVolumes(command.volumes).locks, use):
        said = command("run", command.example("s3-download"))
    assert said.code == 6
    assert said.condition("Initialized")["reason"] == "PathBusy"
    assert "training-data" in said.stderr


def start(command: Command, *documents: dict[str, Any]) -> subprocess.Popen[str]:
    """Starts the real command in a process group of its own."""
    path = command.folder / "cube.yaml"
    path.write_text(yaml.safe_dump_all([*command.stage.secret_documents(), *documents]))
    return subprocess.Popen(
        [COMMAND, "run", "-f", str(path), "--volumes", str(command.volumes), "--allow-http", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={"PATH": os.environ["PATH"]},
    )


def wait_for(condition: Any, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_ends_cleanly_and_leaves_nothing_half_written(command: Command, number: int, code: int) -> None:
    with start_fault_proxy(command.stage.store.url) as proxy:
        proxy.inject(Fault(f"GET /{BUCKET}/{PREFIX}/3", "stall", after=10, times=None))
        running = start(command, command.example("s3-download"), with_endpoint(command.stage, proxy.url))
        wait_for(lambda: list(command.volumes.rglob(".datacube/*")))
        os.kill(running.pid, number)
        stdout, stderr = running.communicate(timeout=30)
    assert running.returncode == code, stderr
    status = json.loads(stdout)["status"]
    assert (status["phase"], status["attempts"][0]["reason"]) == ("Failed", "Cancelled")
    assert status["conditions"][0]["status"] == "True"
    assert not list(command.volumes.rglob(".datacube"))
    complete = {p.stat().st_size for p in (command.volumes / CLAIM).rglob("*.bin")}
    assert complete <= {2000}


def test_killed_command_takes_its_attempt_with_it_and_the_next_run_heals(command: Command) -> None:
    with start_fault_proxy(command.stage.store.url) as proxy:
        proxy.inject(Fault(f"GET /{BUCKET}/{PREFIX}/3", "stall", after=10, times=None))
        running = start(command, command.example("s3-download"), with_endpoint(command.stage, proxy.url))
        wait_for(lambda: list(command.volumes.rglob(".datacube/*")))
        running.kill()
        running.communicate(timeout=30)
        wait_for(lambda: command("run", command.example("s3-download")).code == 0)
    assert len(tree(command.volumes / CLAIM / "dev/s3")) == 20
    assert not list(command.volumes.rglob(".datacube"))
