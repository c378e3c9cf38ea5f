"""The operator's process where it cannot start: one line that says why, its own code, and no credential."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datacube_operator.__main__ import EXIT_BROKEN, run
from datacube_operator.errors import NoConnection
from datacube_operator.settings import Settings

from tests.canary import CANARY
from tests.support import ROOT

pytestmark = pytest.mark.t1

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:9"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""
BROKEN = f"apiVersion: v1\nusers:\n- user: {{token: {CANARY}: [}}\n"


def start(kubeconfig: Path, port: int = 0) -> tuple[int, list[dict[str, Any]]]:
    """Runs the operator, and returns its code and what it logged."""
    flags = [f"--kubeconfig={kubeconfig}", f"--listen=127.0.0.1:{port}"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"}
    command = [sys.executable, "-m", "datacube_operator", *flags]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    return ended.returncode, [json.loads(line) for line in ended.stderr.splitlines()]


def test_operator_says_that_its_kubeconfig_cannot_be_used_and_shows_nothing_of_it(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(BROKEN)
    code, lines = start(kubeconfig)
    assert (code, [line["message"] for line in lines]) == (EXIT_BROKEN, ["cannot start"])
    assert str(kubeconfig) in lines[0]["error"]
    assert CANARY not in str(lines)


def test_operator_says_that_its_port_is_taken(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(KUBECONFIG)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, lines = start(kubeconfig, taken.getsockname()[1])
    assert (code, lines[-1]["message"], lines[-1]["error"]) == (EXIT_BROKEN, "cannot start", "Address already in use")


def test_operator_that_is_in_no_pod_asks_for_a_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoConnection, match="name a kubeconfig"):
        asyncio.run(run(Settings(identity="x", host="127.0.0.1", port=0)))
