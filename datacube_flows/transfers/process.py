"""Runs a tool (git, hf, rclone) as a child: its lines redacted and bounded, its end guaranteed. Knows no tool by name."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from datacube_flows.transfers.redact import Redactor

MAX_LINE = 1024
TAIL_LINES = 40
MAX_OUTPUT = 64 * 1024 * 1024
GRACE_SECONDS = 5.0
_BREAK = re.compile(rb"[\r\n]")


@dataclass(frozen=True, slots=True)
class Finished:
    """A tool that ended.

    Attributes:
        code: its exit code, negative for a signal.
        stdout: what it printed there, not redacted: to be parsed, never to be shown.
        tail: its last lines on stderr, redacted.
    """

    code: int
    stdout: bytes
    tail: tuple[str, ...]

    @property
    def text(self) -> str:
        """The last lines as one text, to look for causes in."""
        return "\n".join(self.tail)


def run_tool(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    redact: Redactor,
    stop: threading.Event,
    cwd: Path | None = None,
    stdin: bytes = b"",
    on_line: Callable[[str], None] = lambda _line: None,
) -> Finished:
    """Runs `argv` to its end and returns what it said; the child is gone when this returns or raises.

    The child stays in the caller's process group, so that whoever ends an attempt ends its tools with it.

    Args:
        env: the whole environment of the child.
        stop: when set, the child is ended.
        stdin: what it may read; nothing by default.
        on_line: called with each redacted line of stderr (`\\r` also ends a line), in a thread of its own.

    Raises:
        FileNotFoundError: there is no such tool.
    """
    child = subprocess.Popen(
        list(argv),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None  # noqa: S101 - for the type checker: both were asked for
    assert child.stderr is not None  # noqa: S101
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    output = bytearray()

    def keep(line: str) -> None:
        tail.append(line)
        on_line(line)

    readers = [
        threading.Thread(target=_read_lines, args=(child.stderr, redact, keep), daemon=True),
        threading.Thread(target=_read_output, args=(child.stdout, output), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        _feed(child, stdin)
        code = _wait(child, stop)
    finally:
        _end(child)
        for reader in readers:
            reader.join(GRACE_SECONDS)
        child.stdout.close()
        child.stderr.close()
    return Finished(code, bytes(output), tuple(tail))


def _feed(child: subprocess.Popen[bytes], stdin: bytes) -> None:
    if child.stdin is None:
        return
    try:
        child.stdin.write(stdin)
        child.stdin.close()
    except BrokenPipeError:
        pass  # it ended without reading: its exit code says why


def _wait(child: subprocess.Popen[bytes], stop: threading.Event) -> int:
    while not stop.is_set():
        try:
            return child.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    _end(child)
    return child.wait()


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _read_lines(stream: IO[bytes], redact: Redactor, keep: Callable[[str], None]) -> None:
    """Cuts the stream into lines of at most MAX_LINE bytes, dropping the rest of a longer one (S26: 1 MB lines).

    A line is redacted whole before it is cut, so that a secret across the cut is still seen.
    """
    pending = b""
    for chunk in iter(lambda: stream.read1(65536), b""):  # type: ignore[attr-defined]
        *lines, pending = _BREAK.split(pending + chunk)
        for line in lines:
            _keep_line(line, redact, keep)
        pending = pending[: 64 * MAX_LINE]
    _keep_line(pending, redact, keep)


def _keep_line(line: bytes, redact: Redactor, keep: Callable[[str], None]) -> None:
    text = redact(line.decode("utf-8", "replace")).strip()[:MAX_LINE]
    if text:
        keep(text)


def _read_output(stream: IO[bytes], output: bytearray) -> None:
    for chunk in iter(lambda: stream.read(65536), b""):
        if len(output) < MAX_OUTPUT:
            output += chunk
