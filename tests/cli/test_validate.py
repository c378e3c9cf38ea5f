"""`datacube validate`, `render` and `crd`: what they print and how they exit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from datacube_flows.cli.main import app
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.t0

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_is_valid(path: Path) -> None:
    result = call("validate", "-f", path)
    assert (result.exit_code, result.stderr.strip()) == (0, f"{path.stem}: valid")


def test_literal_secret_earns_a_warning_that_does_not_show_it(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "examples/git-download.yaml").read_text())
    document["spec"]["source"]["options"][0] = {"name": "token", "value": "very-secret"}
    path = tmp_path / "cube.yaml"
    path.write_text(yaml.safe_dump(document))
    result = call("validate", "-f", path)
    assert result.exit_code == 0
    assert "token" in result.stderr
    assert "very-secret" not in result.stderr


def test_paths_name_their_document_when_there_are_several(tmp_path: Path) -> None:
    documents: list[Any] = [{"kind": "DataCube", "metadata": {"name": n}} for n in ("a", "b")]
    path = tmp_path / "cube.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    result = call("validate", "-f", path)
    assert result.exit_code == 3
    assert "a: spec" in result.stderr
    assert "b: spec" in result.stderr


def test_render_prints_claim_and_pod(tmp_path: Path) -> None:
    path = ROOT / "examples/git-download.yaml"
    assert [d["kind"] for d in yaml.safe_load_all(call("render", "-f", path).stdout)] == [
        "PersistentVolumeClaim",
        "Pod",
    ]
    pod = yaml.safe_load(call("render", "-f", path, "--as", "pod", "--image", "mine:1").stdout)
    assert pod["spec"]["containers"][0]["image"] == "mine:1"
    assert yaml.safe_load(call("render", "-f", path, "--as", "claim").stdout)["kind"] == "PersistentVolumeClaim"
    assert call("render", "-f", ROOT / "examples/git-upload.yaml", "--as", "claim").stdout == ""


def test_render_of_a_broken_document_prints_no_object(tmp_path: Path) -> None:
    path = tmp_path / "cube.yaml"
    path.write_text("kind: DataCube\n")
    result = call("render", "-f", path)
    assert (result.exit_code, result.stdout) == (3, "")


def test_crd_is_printed_as_it_is_installed() -> None:
    installed = yaml.safe_load((ROOT / "operator/deploy/crd.yaml").read_text())
    assert yaml.safe_load(call("crd").stdout) == installed


def test_unreadable_file_is_a_usage_error() -> None:
    assert call("validate", "-f", "/nonexistent").exit_code == 2
    assert call("render", "-f", "/nonexistent").exit_code == 2
