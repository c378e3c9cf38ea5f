"""Starts a server that outlives this process, remembers it in a file, and ends it and no other.

A process id alone may be somebody else's by now; with the moment of its start it names one process for good.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOG_LINES = 15


@dataclass(frozen=True)
class Process:
    """A process of this machine, named for good."""

    name: str
    pid: int
    started: int
    """Ticks between the machine's start and its own."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return start_of(self.pid) == self.started

    def kill(self) -> None:
        """Ends it at once; its state is thrown away, so that nothing is lost by it."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals) -> None:
        """Sends it the signal unless it has ended, and returns when it has."""
        if not self.alive:
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, how)
        self.wait()
        with suppress(ChildProcessError):  # a child of this very process leaves an entry until it is asked for
            os.waitpid(self.pid, 0)

    def wait(self) -> None:
        """Returns when it has ended."""
        wait_for(lambda: not self.alive, 10, f"{self.name} (process {self.pid}) does not end")


@dataclass(frozen=True)
class Roster:
    """The processes of one cluster, one file each."""

    folder: Path
    logs: Path
    environ: Mapping[str, str]
    prefix: tuple[str, ...] = ()
    """What every command is started through."""

    def ensure(self, name: str, command: Sequence[str]) -> Process:
        """Starts the process unless it runs."""
        return self.find(name) or self._start(name, command)

    def find(self, name: str) -> Process | None:
        """Returns the process if it runs."""
        return next((p for p in self.recorded() if p.name == name and p.alive), None)

    def started_at(self, name: str) -> datetime:
        """When the process was started; it must have been."""
        return datetime.fromtimestamp((self.folder / f"{name}.json").stat().st_mtime, UTC)

    def recorded(self) -> list[Process]:
        """All processes that were started, alive or not, in the order of their start."""
        found = [Process(**json.loads(f.read_text())) for f in self.folder.glob("*.json")]
        return sorted(found, key=lambda p: (p.started, p.pid))

    def kill_all(self) -> None:
        """Ends all, the last one first."""
        for process in reversed(self.recorded()):
            process.kill()
        self.forget_ended()

    def forget_ended(self) -> None:
        """Forgets those that have ended, so that only what is started from now on is expected to run."""
        for process in self.recorded():
            if not process.alive:
                (self.folder / f"{process.name}.json").unlink()

    def must_run(self, process: Process) -> None:
        """Raises `ClusterError` with the end of its log where the process has ended."""
        if not process.alive:
            raise ClusterError(f"{process.name} has ended; its log ends so:\n{self.log_end(process.name)}")

    def log_end(self, name: str) -> str:
        """The last lines of its log."""
        file = self.logs / f"{name}.log"
        return "\n".join(file.read_text(errors="replace").splitlines()[-LOG_LINES:]) if file.exists() else ""

    def _start(self, name: str, command: Sequence[str]) -> Process:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(parents=True, exist_ok=True)
        log = os.open(self.logs / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            pid = _spawn([*self.prefix, *command], self.environ, log)
        finally:
            os.close(log)
        process = Process(name, pid, start_of(pid))
        self._record(process)
        return process

    def _record(self, process: Process) -> None:
        part = self.folder / f"{process.name}.part"
        part.write_text(json.dumps(asdict(process)))
        part.rename(self.folder / f"{process.name}.json")


def start_of(pid: int) -> int:
    """Returns the moment of its start in ticks of the machine's clock, 0 where no such process runs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def wait_for(condition: Callable[[], bool], seconds: float, failure: str) -> None:
    """Returns when the condition holds; raises `ClusterError` with the text where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ClusterError(failure)
        time.sleep(0.05)


def _spawn(command: list[str], environ: Mapping[str, str], log: int) -> int:
    """Starts it in a session of its own, so that no terminal's interrupt reaches it; hands its log and nothing else."""
    inherited = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    to_log = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
    return os.posix_spawnp(command[0], command, environ, file_actions=[*inherited, *to_log], setsid=True)
