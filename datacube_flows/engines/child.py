"""Runs one attempt as a child process in a process group of its own: what a pod is on one machine.

The child gets the container's argv and a clean environment; its deadline, its end and its report are a pod's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import TransferReport, parse_report
from datacube_flows.core.manifests import MODULE, Installation, Places, make_arguments
from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.core.retry import EXIT_OK
from datacube_flows.errors import DataCubeError
from datacube_flows.transfers.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from datacube_flows.core.plan import TransferPlan

TAIL_LINES = 20
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """How children are run.

    Attributes:
        installation: what a cluster's installation decides there.
        ca_bundle: PEM file with the authorities to trust; "" is the system's.
        grace_seconds: between SIGTERM and SIGKILL.
        path: PATH of the child, where the tools are found.
    """

    installation: Installation
    ca_bundle: str = ""
    grace_seconds: float = 30.0
    path: str = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended: its code, whether the deadline ended it, what it reported, its last words."""

    code: int
    is_late: bool
    report: TransferReport | None
    tail: str


class AttemptStopped(DataCubeError):
    """Another thread ended the attempt; what had not been finished is gone."""


class Stop:
    """Ends an attempt from another thread."""

    def __init__(self) -> None:
        self._asked, self._insisted = threading.Event(), threading.Event()

    def ask(self) -> None:
        """Ends the attempt that runs, politely, and any that is begun later."""
        self._asked.set()

    def insist(self) -> None:
        """Ends the attempt that runs without any grace."""
        self._insisted.set()

    @property
    def is_asked(self) -> bool:
        """Whether it is to end."""
        return self._asked.is_set()

    @property
    def is_insisted(self) -> bool:
        """Whether it is to end without any grace."""
        return self._insisted.is_set()


class ChildRunner:
    """Runs attempts of one run.

    Args:
        environment: options and variables of the plan, resolved.
        folder: what the attempt sees as its volume.
        inherited: descriptors that stay open in the child (the path's lock).
        on_notice: called with each remark of the attempt.
        stop: ends the attempt from another thread.
    """

    def __init__(
        self,
        settings: ChildSettings,
        environment: Mapping[str, str],
        folder: Path,
        *,
        inherited: tuple[int, ...] = (),
        on_notice: Callable[[str], None] = lambda _text: None,
        stop: Stop | None = None,
    ) -> None:
        self._settings, self._environment, self._folder = settings, environment, folder
        self._inherited, self._on_notice, self._stop = inherited, on_notice, stop or Stop()

    def run_attempt(
        self, plan: TransferPlan, number: int, on_progress: Callable[[dict[str, Any]], None]
    ) -> AttemptSeen:
        """Runs one attempt to its end; an interrupt ends the child before it goes on.

        Raises:
            AttemptStopped: another thread ended it; the child is gone.
        """
        started = datetime.now(UTC)
        with tempfile.TemporaryDirectory(prefix="datacube-attempt-", ignore_cleanup_errors=True) as scratch:
            end = self._run(plan, Path(scratch), on_progress)
        return _seen(plan, number, end, started=started, finished=datetime.now(UTC))

    def _run(self, plan: TransferPlan, scratch: Path, on_progress: Callable[[dict[str, Any]], None]) -> ChildEnd:
        report = scratch / "report.json"
        child = self._start(plan, scratch, report)
        secrets = Redactor(self._environment[name] for name in plan.secret_env if self._environment.get(name))
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        readers = [
            threading.Thread(target=_read_messages, args=(child.stdout, on_progress, self._on_notice, tail)),
            threading.Thread(target=_read_tail, args=(child.stderr, tail)),
        ]
        for reader in readers:
            reader.start()
        try:
            is_late = not _wait(child, plan.deadline_seconds, self._stop)
        finally:
            code = _end(child, self._settings.grace_seconds, self._stop)
            for reader in readers:
                reader.join()
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        text = report.read_text() if report.exists() else ""
        return ChildEnd(code, is_late, parse_report(text), secrets("\n".join(tail)))

    def _start(self, plan: TransferPlan, scratch: Path, report: Path) -> subprocess.Popen[str]:
        places = Places(str(self._folder), str(report), "", self._settings.ca_bundle)
        arguments = make_arguments(plan, self._settings.installation, places)
        own = {"PATH": self._settings.path, "TMPDIR": str(scratch), "HOME": str(scratch)}
        return subprocess.Popen(
            [sys.executable, *MODULE, f"--end-with={os.getpid()}", *arguments],
            env={**self._environment, **own},
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=self._inherited,
            start_new_session=True,
        )


def _wait(child: subprocess.Popen[str], deadline_seconds: int | None, stop: Stop) -> bool:
    """Waits for the child or its deadline; True when the child ended by itself."""
    until = None if deadline_seconds is None else time.monotonic() + deadline_seconds
    while child.poll() is None:
        if stop.is_asked:
            raise AttemptStopped
        if until is not None and time.monotonic() >= until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _end(child: subprocess.Popen[str], grace_seconds: float, stop: Stop) -> int:
    """Ends whatever of the child's group still lives, politely first, and returns the child's code."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            is_gone = _is_gone_within(child, grace_seconds, stop)
        except KeyboardInterrupt:  # a second Ctrl-C does not wait
            is_gone = False
        if not is_gone:
            os.killpg(child.pid, signal.SIGKILL)
    code = child.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # tools that outlived the attempt
    return code


def _is_gone_within(child: subprocess.Popen[str], seconds: float, stop: Stop) -> bool:
    until = time.monotonic() + seconds
    while child.poll() is None:
        if stop.is_insisted or time.monotonic() >= until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _read_messages(
    stream: IO[str],
    on_progress: Callable[[dict[str, Any]], None],
    on_notice: Callable[[str], None],
    tail: deque[str],
) -> None:
    for line in stream:
        try:
            message = json.loads(line)
        except ValueError:
            tail.append(line.rstrip())
            continue
        if "progress" in message:
            on_progress(message["progress"])
        elif "notice" in message:
            on_notice(str(message["notice"]))
        else:
            tail.append(str(message.get("log", "")))


def _read_tail(stream: IO[str], tail: deque[str]) -> None:
    for line in stream:
        tail.append(line.rstrip())


def _seen(plan: TransferPlan, number: int, end: ChildEnd, *, started: datetime, finished: datetime) -> AttemptSeen:
    succeeded = end.code == EXIT_OK and not end.is_late
    reason, message, status = _cause(plan, end)
    return AttemptSeen(
        number=number,
        pod=plan.attempt_name(number),
        phase=PodPhase.SUCCEEDED if succeeded else PodPhase.FAILED,
        status="Completed" if succeeded else status,
        started=started,
        finished=finished,
        exit_code=end.code if end.code >= 0 else 128 - end.code,
        reason=None if succeeded else reason,
        report=end.report,
        message="" if succeeded else message,
    )


def _cause(plan: TransferPlan, end: ChildEnd) -> tuple[Reason | None, str, str]:
    """Why a failed child failed, where its own report does not know or does not exist; and the STATUS word."""
    if end.is_late:
        message = f"the attempt took longer than activeDeadlineSeconds ({plan.deadline_seconds} s)"
        return Reason.DEADLINE_EXCEEDED, f"{message}: raise it, or look at why the transfer is slow", "DeadlineExceeded"
    if end.code == -signal.SIGKILL:
        return Reason.OOM_KILLED, "the attempt was killed (SIGKILL), probably for want of memory", "OOMKilled"
    if end.report is None:
        return Reason.TRANSFER_ERROR, f"the attempt ended with code {end.code} and no report: {end.tail}", "Error"
    return None, "", "Error"
