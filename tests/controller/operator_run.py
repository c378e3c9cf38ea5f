"""Runs the operator as a process of its own, as a pod would, and looks at what it logs.

A test fails by `faults`: an entry of level `error`, which is a bug, a line that is no entry, or a credential.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.canary import has_canary
from tests.cluster.api import DIES_WITH_TEST
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

READY_SECONDS = 30.0
STOP_SECONDS = 20.0
IMAGE = "datacube.test/transfer:1"


@dataclass
class OperatorRun:
    """One replica: it is started, stopped, killed and started again, with one log.

    Attributes:
        kubeconfig: where its API server is, and who it is there.
        folder: for its log, and what it is in while it runs.
        flags: besides those that every test needs.
        identity: in the election; a replica that comes back under its own need not wait for its lease to run out.
        token: its credential, which may stand in no log.
        module: what is run.
        environment: variables that it gets besides.
    """

    kubeconfig: Path
    folder: Path
    flags: Sequence[str] = ()
    identity: str = "one"
    token: str = ""
    port: int = 0
    module: str = "datacube_operator"
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log_file(self) -> Path:
        """What it wrote to standard error since its first start."""
        return self.folder / f"operator-{self.identity}.log"

    @property
    def pid(self) -> int:
        """The process that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Has the process started; it is not ready yet."""
        assert not self.is_running
        self.port = free_port()
        command = [*DIES_WITH_TEST, sys.executable, "-W", "default::ResourceWarning", "-m", self.module]
        command += [f"--kubeconfig={self.kubeconfig}", f"--listen=127.0.0.1:{self.port}"]
        command += [f"--identity={self.identity}", f"--transfer-image={IMAGE}", *self.flags]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}", "HOME": str(self.folder)}
        env |= self.environment
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def until_ready(self, seconds: float = READY_SECONDS) -> float:
        """Returns, when /readyz says yes, how long that took."""
        began = time.monotonic()
        while (await self.ask("/readyz"))[0] != 200:
            assert self.is_running, f"the operator ended with code {self.exit_code}: {self.log_end()}"
            assert time.monotonic() - began < seconds, f"the operator is not ready: {self.log_end()}"
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def ask(self, path: str) -> tuple[int, str]:
        """Returns code and text of its own server's answer; 0 where there was none."""
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def leads(self) -> bool:
        """Whether it says that it is the one that writes."""
        return "\ndatacube_leader 1.0\n" in (await self.ask("/metrics"))[1]

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it at once, as a node that fails does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    async def stop(self) -> int:
        """Asks it to end, and returns with which code it did."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Returns its exit code, once it has ended."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, seconds)

    @property
    def exit_code(self) -> int | None:
        """How it ended, if it has."""
        return None if self._process is None else self._process.poll()

    def entries(self) -> list[dict[str, Any]]:
        """All entries of its log."""
        return [entry for entry in map(_entry, self._lines()) if entry is not None]

    def faults(self) -> list[str]:
        """Lines of its log that may not be there."""
        return [line for line in self._lines() if self._is_fault(line)]

    def log_end(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return "\n".join(self._lines()[-lines:])

    def _lines(self) -> list[str]:
        return self.log_file.read_text(errors="replace").splitlines() if self.log_file.exists() else []

    def _is_fault(self, line: str) -> bool:
        entry = _entry(line)
        is_secret = has_canary(line) or (self.token != "" and self.token in line)
        return entry is None or entry.get("level") == "error" or is_secret


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
