"""The README's commands and documents are run as a new user would run them, against the local servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from datacube_flows.core.rules import validate
from tests.canary import find_canary, has_canary
from tests.cli.prefect_history import make_home
from tests.demo import Demo, main
from tests.readme import BLOCKS, commands
from tests.servers.stage import Amounts
from tests.support import ROOT, tree

if TYPE_CHECKING:
    from tests.servers.prefect import PrefectServer
    from tests.servers.stage import Stage

pytestmark = pytest.mark.t1

MAKE_TARGETS = ["make demo", "make test"]
CLUSTER, MACHINE, PREFECT, SERVER = 1, 2, 3, 4
"""Which block of commands is which; those of a cluster are run in one, by tests/cluster/test_installed.py."""


def test_readme_has_only_blocks_that_are_run() -> None:
    assert [language for language, _ in BLOCKS if language != "console"] == ["yaml", "python", "ini"]
    assert commands()[0] == MAKE_TARGETS
    assert {line.split()[0] for block in (CLUSTER, SERVER) for line in commands()[block]} == {"kubectl"}
    assert len(commands()) == 5


def test_first_document_of_the_readme_is_the_example() -> None:
    document = yaml.safe_load(next(text for language, text in BLOCKS if language == "yaml"))
    assert document == yaml.safe_load((ROOT / "examples/git-download.yaml").read_text())
    assert validate(document).metadata.name == "git-download"


def run_in(folder: Path, stage: Stage, *argv: str, **environment: str) -> str:
    """Runs a program beside the examples, with the token that they need, and returns what it printed."""
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (folder / "examples").mkdir()
    for path in (ROOT / "examples").glob("*.yaml"):
        document = stage.localize(yaml.safe_load(path.read_text()))
        (folder / "examples" / path.name).write_text(yaml.safe_dump(document))
    (folder / "token.txt").write_text(stage.git.token + "\n")
    finished = subprocess.run(
        argv,
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "DATACUBE_ALLOW_HTTP": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert not has_canary(finished.stdout + finished.stderr)
    assert tree(folder / "volumes/datacube-pvc/dev/git/repo") == stage.git.repositories["user/repo"].tree("main")
    return finished.stdout


def test_commands_of_the_readme_work(stage: Stage, tmp_path: Path) -> None:
    printed = run_in(tmp_path, stage, "bash", "-euc", "\n".join(commands()[MACHINE]))
    status, pod = printed.split("apiVersion: v1\n")
    assert yaml.safe_load(status)["status"]["phase"] == "Succeeded"
    assert yaml.safe_load(pod)["kind"] == "Pod"
    assert yaml.safe_load((tmp_path / "crd.yaml").read_text())["metadata"]["name"] == "datacubes.tensorstack.dev"


def test_commands_of_the_readme_run_a_document_with_prefect(stage: Stage, tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "COLUMNS": "200"}
    closed = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    make_home(tmp_path / "prefect")
    printed = run_in(tmp_path, stage, "bash", "-euc", "\n".join(commands()[PREFECT]), **home, **closed)
    (line,) = [line for line in printed.splitlines() if "default/git-download" in line]
    assert "COMPLETED" in line
    assert find_canary(tmp_path / "prefect") == []


def test_flow_of_the_readme_moves_data(stage: Stage, tmp_path: Path, prefect_server: PrefectServer) -> None:
    program = next(text for language, text in BLOCKS if language == "python")
    local = program.replace('ThisMachine("volumes", ', 'ThisMachine("volumes", allow_http=True, ')
    assert local != program
    environment = {"PREFECT_HOME": str(tmp_path / "prefect"), **prefect_server.client_environment}
    printed = run_in(tmp_path, stage, sys.executable, "-c", local, **environment)
    head = stage.git.repositories["user/repo"].head("main")
    assert printed == f"training on datacube-pvc/dev/git/repo at {head}\n"


def test_targets_of_the_readme_exist() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} >= {"install", "demo", "test", "check", "generate"}


def test_demo_verifies_every_transfer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tests.demo.AMOUNTS", Amounts(objects=60))
    assert main() == 0
    shown = capsys.readouterr().out
    assert shown.count("equal ") == 7
    assert "DIFFERENT" not in shown
    assert not has_canary(shown)


def test_demo_notices_a_difference(stage: Stage, tmp_path: Path) -> None:
    demo = Demo(stage, tmp_path, console=None)  # type: ignore[arg-type]
    demo.check("something", {"a": "1"}, {"a": "2"})
    demo.check("nothing at all", {}, {})
    assert [is_equal for _, is_equal in demo.checks] == [False, False]
