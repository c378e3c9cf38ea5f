"""Runs a tool (git, hf, rclone) as a child: its lines redacted and bounded, its end guaranteed. Names no tool."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.redact import MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from datacube_flows.transfers.redact import Redactor

MAX_LINE = 1024
TAIL_LINES = 40
MAX_OUTPUT = 64 * 1024 * 1024
GRACE_SECONDS = 5.0
_CHUNK = 65536
_CUT = 64 * MAX_LINE
"""So much of a line is kept to be redacted before it is shown; the rest of a longer one is dropped (S26)."""
_POLL_SECONDS = 0.1
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
    r"""Runs `argv` to its end and returns what it said; the child is gone when this returns or raises.

    The child stays in the caller's process group, so that whoever ends an attempt ends its tools with it.

    Args:
        argv: the tool and its arguments; never a secret.
        env: the whole environment of the child.
        redact: masks what must not be shown.
        cwd: its working directory.
        stop: when set, the child is ended.
        stdin: what it may read; nothing by default.
        on_line: called with each redacted line of stderr (`\r` also ends a line), in a thread of its own.

    Raises:
        FileNotFoundError: there is no such tool.
        TransferError: it printed more than can be kept, so that what it said would be read wrongly.
    """
    child = subprocess.Popen(
        list(argv),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    output = bytearray()

    def keep(line: str) -> None:
        tail.append(line)
        on_line(line)

    with _pumped(child, stdin=stdin, output=output, redact=redact, keep=keep):
        code = _wait(child, stop)
    if len(output) > MAX_OUTPUT:
        raise TransferError(Reason.TRANSFER_ERROR, f"{argv[0]} printed more than {MAX_OUTPUT} bytes, too many to read")
    return Finished(code, bytes(output), tuple(tail))


@contextmanager
def _pumped(
    child: subprocess.Popen[bytes], *, stdin: bytes, output: bytearray, redact: Redactor, keep: Callable[[str], None]
) -> Iterator[None]:
    """Feeds and reads the child in threads, and leaves none of them behind; ends the child if it is left early."""
    assert child.stdout is not None  # noqa: S101 - for the type checker: both were asked for
    assert child.stderr is not None  # noqa: S101
    gone = threading.Event()
    threads = [
        threading.Thread(target=_read_lines, args=(child.stderr, gone, redact, keep), daemon=True),
        threading.Thread(target=_read_output, args=(child.stdout, gone, output), daemon=True),
        threading.Thread(target=_feed, args=(child.stdin, stdin), daemon=True),
    ]
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        _end(child)
        gone.set()
        for thread in threads:
            thread.join(2 * GRACE_SECONDS)
        child.stdout.close()
        child.stderr.close()


def _feed(stdin: IO[bytes] | None, data: bytes) -> None:
    """Writes in a thread of its own: a tool that does not read must not hold up whoever waits for it."""
    if stdin is None:
        return
    with suppress(BrokenPipeError), stdin:  # it ended without reading: its exit code says why
        stdin.write(data)


def _wait(child: subprocess.Popen[bytes], stop: threading.Event) -> int:
    while not stop.is_set():
        try:
            return child.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    _end(child)
    return child.wait()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the tool, then the programs that it had started: they may not listen, and would go on without it."""
    if child.poll() is not None:
        return
    family = _descendants(child.pid)
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for pid, started in family.items():
        if (now := _parent_and_start(pid)) and now[1] == started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _descendants(root: int) -> dict[int, int]:
    """Returns the processes below `root`, each with its start time, by which it is known again."""
    pids = [int(p.name) for p in Path("/proc").glob("[0-9]*")]
    known = {pid: found for pid in pids if (found := _parent_and_start(pid))}
    family = [root]
    for parent in family:
        family += [pid for pid, (above, _) in known.items() if above == parent]
    return {pid: known[pid][1] for pid in family[1:]}


def _parent_and_start(pid: int) -> tuple[int, int] | None:
    """Fields 4 and 22 of `/proc/<pid>/stat` (proc(5)); None where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[19])


def _chunks(stream: IO[bytes], gone: threading.Event) -> Iterator[bytes]:
    """Yields what arrives, to the stream's end or, once the tool is gone, until nothing more is there.

    A program that the tool left behind may hold the stream open for good.
    """
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    until = None
    while until is None or time.monotonic() < until:
        if gone.is_set() and until is None:
            until = time.monotonic() + GRACE_SECONDS
        ready = poll.poll(0 if until else _POLL_SECONDS * 1000)
        if ready and not (chunk := os.read(stream.fileno(), _CHUNK)):
            return
        if ready:
            yield chunk
        elif until:
            return


def _read_lines(stream: IO[bytes], gone: threading.Event, redact: Redactor, keep: Callable[[str], None]) -> None:
    """Hands on each line, redacted before it is cut to MAX_LINE, so that a secret across the cut is still seen."""
    for line, is_cut in _lines(_chunks(stream, gone)):
        text = redact(line.decode("utf-8", "replace"))
        if is_cut and MASK in text:  # half a secret may stand at the cut, and masks bring it near
            text = text[: text.rindex(MASK) + len(MASK)]
        if text := text.strip()[:MAX_LINE]:
            keep(text)


def _lines(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yields each line, and whether its end is missing."""
    line, is_cut = bytearray(), False
    for chunk in chunks:
        for number, piece in enumerate(_BREAK.split(chunk)):
            if number:
                yield bytes(line), is_cut
                line, is_cut = bytearray(), False
            room = _CUT - len(line)
            is_cut = is_cut or len(piece) > room
            line += piece[:room]
    yield bytes(line), is_cut


def _read_output(stream: IO[bytes], gone: threading.Event, output: bytearray) -> None:
    for chunk in _chunks(stream, gone):
        if len(output) <= MAX_OUTPUT:
            output += chunk
