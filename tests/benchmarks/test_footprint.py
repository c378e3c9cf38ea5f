from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.benchmarks.footprint import cpu_seconds, family_cpu_seconds, megabytes, peak_megabytes, threads

pytestmark = pytest.mark.t0

BUSY = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"
WAITING = "print(flush=True); input()"


def test_family_counts_children_that_run_and_those_that_have_ended() -> None:
    parent = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BUSY!r}], check=True)
child = subprocess.Popen([sys.executable, "-c", {BUSY + WAITING!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
{WAITING}
child.communicate(b"\\n")
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", parent], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        process.stdout.readline()
        own, family = cpu_seconds(process.pid), family_cpu_seconds(process.pid)
        process.communicate(b"\n")
    assert own + 0.35 < family
    assert family_cpu_seconds(process.pid) == 0.0


def test_memory_now_is_no_more_than_the_most_there_was() -> None:
    pid = os.getpid()
    assert 1 < megabytes(pid) <= peak_megabytes(pid)
    assert threads(pid) >= 1
