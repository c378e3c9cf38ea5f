"""The search for leaked credentials finds one that is planted: in a file, in a name, in an encoded form, in an argv."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.canary import CANARY, ArgvWatch, find_canary, has_canary
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.t0
def test_planted_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    leak = tmp_path / "deep/er/config"
    leak.write_bytes(b"x" * ((1 << 20) - 5) + CANARY.encode())
    assert find_canary(tmp_path) == [leak]


@pytest.mark.t0
def test_planted_name_is_found(tmp_path: Path) -> None:
    (tmp_path / f"a-{CANARY}").write_text("nothing")
    assert len(find_canary(tmp_path)) == 1


@pytest.mark.t0
def test_clean_folder_has_none(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(CANARY[:-1])
    assert find_canary(tmp_path) == []


@pytest.mark.t0
@pytest.mark.parametrize(
    "text",
    [
        f"token {CANARY}!",
        quote(quote(f"{CANARY}/+", safe=""), safe=""),
        base64.b64encode(f"user:{CANARY}".encode()).decode(),
        base64.b64encode(f"a:{CANARY}".encode()).decode(),
    ],
)
def test_planted_text_is_found_in_any_encoding(text: str) -> None:
    assert has_canary(text)


@pytest.mark.t0
@pytest.mark.parametrize("text", ["", "token ***", "dcSECRET", CANARY[1:]])
def test_clean_text_has_none(text: str) -> None:
    assert not has_canary(text)


@pytest.mark.t0
def test_planted_argv_is_found() -> None:
    with ArgvWatch("planted-needle") as watch:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)", "a-planted-needle"], check=True)
    assert len(watch.leaks) == 1


@pytest.mark.t1
def test_session_fails_for_a_leak_on_a_volume_and_one_in_an_argv(tmp_path: Path) -> None:
    (tmp_path / "test_leaks.py").write_text(
        "import subprocess, sys\n"
        "from tests.canary import CANARY\n"
        "def test_leaks(volumes):\n"
        "    (volumes / 'config').write_text(CANARY)\n"
        "    subprocess.run([sys.executable, '-c', 'import time; time.sleep(0.3)', 'planted'], check=True)\n"
    )
    (tmp_path / "conftest.py").write_text(
        "import tests.conftest\n"
        "from tests.conftest import _clean_environment, argv_watch, volumes\n"
        "whole = tests.conftest.ArgvWatch\n"
        "tests.conftest.ArgvWatch = lambda: whole('planted')\n"  # this test's own session must not see the other's leak
    )
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert "secrets on the volume" in finished.stdout
    assert "secrets in argv" in finished.stdout
