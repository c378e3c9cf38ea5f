"""The `datacube` command in this process, with all three servers behind the examples' documents."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from datacube_flows.cli.main import app
from tests.canary import has_canary
from tests.servers.stage import Stage, start_stage
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The servers, with data in them."""
    with start_stage(tmp_path_factory.mktemp("stage")) as running:
        yield running


@dataclass(frozen=True)
class Said:
    """What a call of the command said."""

    code: int
    stdout: str
    stderr: str

    @property
    def status(self) -> dict[str, Any]:
        """The status in the JSON on standard output."""
        found: dict[str, Any] = json.loads(self.stdout)["status"]
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        """One of the three conditions."""
        return next(c for c in self.status["conditions"] if c["type"] == kind)


@dataclass(frozen=True)
class Command:
    """Calls the command; a credential in what it says fails the test."""

    stage: Stage
    folder: Path
    volumes: Path

    def example(self, name: str) -> dict[str, Any]:
        """An example's document, pointed at the servers."""
        return self.stage.localize(yaml.safe_load((ROOT / f"examples/{name}.yaml").read_text()))

    def __call__(
        self, verb: str, *documents: dict[str, Any], secrets: bool = True, arguments: Sequence[str] = ()
    ) -> Said:
        """Writes the documents to a file and runs a verb on it; `secrets=False` leaves out the Secrets."""
        path = self.folder / "cube.yaml"
        others = self.stage.secret_documents() if secrets else []
        path.write_text(yaml.safe_dump_all([*others, *documents], sort_keys=False))
        argv = [verb, "-f", str(path), "--allow-http", *arguments]
        if verb in ("run", "plan"):
            argv += ["--volumes", str(self.volumes), "-o", "json"]
        result = CliRunner().invoke(app, argv)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        said = Said(result.exit_code, result.stdout, _COLOURS.sub("", result.stderr))
        assert not has_canary(said.stdout + said.stderr), "a credential was printed"
        return said


@pytest.fixture
def command(stage: Stage, tmp_path: Path, volumes: Path) -> Command:
    """The command, with a fresh folder of volumes."""
    return Command(stage, tmp_path, volumes)
