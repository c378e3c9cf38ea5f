"""Tools as children: what they say is bounded and redacted, and they are gone when the call returns."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers import process
from datacube_flows.transfers.process import MAX_LINE, TAIL_LINES, Finished, run_tool
from datacube_flows.transfers.redact import MASK, Redactor
from tests.canary import CANARY

pytestmark = pytest.mark.t1

SECRET = f"{CANARY}/s3 cr@t+%41"


def run_python(
    code: str, *, stop: threading.Event | None = None, redact: Redactor | None = None, **more: object
) -> Finished:
    argv = [sys.executable, "-S", "-E", "-c", "import os,sys,time,signal\n" + code]
    stop = stop or threading.Event()
    return run_tool(argv, env={}, redact=redact or Redactor(), stop=stop, **more)  # type: ignore[arg-type]


def stop_after(seconds: float) -> threading.Event:
    stop = threading.Event()
    threading.Timer(seconds, stop.set).start()
    return stop


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_gone_soon(pid: int) -> bool:
    until = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_alive(pid)


def test_tool_returns_code_output_and_last_lines() -> None:
    found = run_python("print('out'); print('a\\rb\\n\\n c ', file=sys.stderr); sys.exit(3)")
    assert found == Finished(3, b"out\n", ("a", "b", "c"))
    assert found.text == "a\nb\nc"


def test_tool_gets_only_the_environment_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING", CANARY)
    found = run_python("print(sorted(set(os.environ) - {'LC_CTYPE'}))")
    assert found.stdout == b"[]\n"


def test_tool_reads_what_it_is_fed_and_nothing_otherwise() -> None:
    data = b"x" * 1_000_000
    assert run_python("print(len(sys.stdin.buffer.read()))", stdin=data).stdout == b"1000000\n"
    assert run_python("print(len(sys.stdin.buffer.read()))").stdout == b"0\n"


def test_tool_that_does_not_read_its_input_still_ends() -> None:
    assert run_python("sys.exit(4)", stdin=b"x" * 1_000_000).code == 4


def test_tool_that_does_not_read_its_input_is_ended_when_told_to_stop() -> None:
    start = time.monotonic()
    found = run_python("time.sleep(60)", stdin=b"x" * 1_000_000, stop=stop_after(0.3))
    assert found.code < 0
    assert time.monotonic() - start < 5


def test_missing_tool_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        run_tool(["no-such-tool"], env={"PATH": "/nowhere"}, redact=Redactor(), stop=threading.Event())


def test_every_line_is_handed_on_and_the_last_ones_are_kept() -> None:
    lines: list[str] = []
    found = run_python("[print(i, file=sys.stderr) for i in range(500)]", on_line=lines.append)
    assert lines == [str(i) for i in range(500)]
    assert found.tail == tuple(lines[-TAIL_LINES:])


def test_line_of_a_megabyte_is_cut_and_the_next_is_whole() -> None:
    lines: list[str] = []
    run_python("sys.stderr.write('x' * 1_000_000 + '\\nnext\\n')", on_line=lines.append)
    assert lines == ["x" * MAX_LINE, "next"]


def test_secret_across_the_cut_of_a_long_line_is_not_shown() -> None:
    """The kept part of a long line may end within a secret, and masks shorten what comes before it."""
    secret = CANARY + "k" * 5000
    lines: list[str] = []
    redact = Redactor([secret])
    run_python("sys.stderr.write(('dcSECRET' 'canary' + 'k' * 5000) * 40)", on_line=lines.append, redact=redact)
    assert lines == [MASK * 13]


def test_control_characters_are_removed_from_lines() -> None:
    found = run_python("sys.stderr.buffer.write(b'\\x1b[31mred\\x1b[0m \\x07bell \\x00nul \\xff\\n')")
    assert found.tail == ("red bell nul \N{REPLACEMENT CHARACTER}",)


def test_output_is_not_redacted_and_not_shown() -> None:
    assert run_python("print('token')", redact=Redactor(["token"])).stdout == b"token\n"


def test_output_that_is_too_long_to_be_kept_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_OUTPUT", 100_000)
    with pytest.raises(TransferError, match="printed more than") as caught:
        run_python("print('x' * 1_000_000)")
    assert caught.value.reason is Reason.TRANSFER_ERROR


@given(cuts=st.lists(st.integers(1, 40), max_size=12), before=st.text("ab :/\n", max_size=20))
def test_secret_split_at_any_edge_of_reads_never_passes(cuts: list[int], before: str) -> None:
    text = f"{before}{SECRET} and {SECRET}\nnext {SECRET}"
    seen = [Redactor([SECRET])(line.decode()) for line, _ in process._lines(iter(split(text.encode(), cuts)))]
    assert seen == Redactor([SECRET])(text).split("\n")
    assert not any(CANARY in line for line in seen)


def test_secret_that_a_tool_writes_in_pieces_never_passes() -> None:
    lines: list[str] = []
    code = f"for c in {SECRET[:6]!r} {SECRET[6:]!r}: os.write(2, c.encode()); time.sleep(0.005)"
    found = run_python(code, redact=Redactor([SECRET]), on_line=lines.append)
    assert found.tail == tuple(lines) == (MASK,)


def split(data: bytes, sizes: list[int]) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data]


def test_tool_is_ended_when_told_to_stop() -> None:
    found = run_python("print(os.getpid(), flush=True); time.sleep(60)", stop=stop_after(0.5))
    assert found.code == -15
    assert not is_alive(int(found.stdout))


def test_tool_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.3)
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
    found = run_python(code, stop=stop_after(0.5))
    assert found.code == -9
    assert not is_alive(int(found.stdout))


FORK = """
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = os.fork()
    if grandchild == 0:
        time.sleep(60)
    os.write(1, b'%d %d' % (os.getpid(), grandchild))
    time.sleep(60)
"""


def test_programs_that_the_tool_started_are_ended_with_it() -> None:
    start = time.monotonic()
    found = run_python(FORK + "time.sleep(60)", stop=stop_after(0.5))
    pids = [int(p) for p in found.stdout.split()]
    assert len(pids) == 2
    assert all(is_gone_soon(pid) for pid in pids)
    assert time.monotonic() - start < 5


def test_tool_that_leaves_a_program_behind_is_not_waited_for() -> None:
    code = "if os.fork() == 0: time.sleep(8); os._exit(0)\nprint('done'); print('said', file=sys.stderr)"
    start = time.monotonic()
    found = run_python(code)
    assert (found.stdout, found.tail) == (b"done\n", ("said",))
    assert time.monotonic() - start < 4


def test_left_program_that_keeps_talking_is_not_listened_to_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.5)
    chatter = "end = time.time() + 4\n    while time.time() < end: os.write(2, b'more\\n')\n    os._exit(0)"
    start = time.monotonic()
    run_python(f"if os.fork() == 0:\n    {chatter}\nprint('done')")
    assert time.monotonic() - start < 3.5


def test_tool_is_ended_when_the_caller_is_interrupted() -> None:
    """A signal's handler raises in the middle of the wait; the child must not be left."""

    class Stopper(threading.Event):
        def is_set(self) -> bool:
            if lines:
                raise KeyboardInterrupt
            return False

    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_python(
            "print(os.getpid(), file=sys.stderr, flush=True); time.sleep(60)", stop=Stopper(), on_line=lines.append
        )
    assert not is_alive(int(lines[0]))
