"""An attempt that dies leaves nothing that harms the next one; one that is told to end does so at once."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.core.retry import EXIT_OK, EXIT_RETRYABLE, EXIT_TERMINATED
from tests.servers.faults import Fault, start_fault_proxy
from tests.support import start_child, tree

if TYPE_CHECKING:
    from tests.support import Child
    from tests.transfers.s3_case import S3Case

pytestmark = pytest.mark.t1
MIB = 1024 * 1024
KILLS = 50


@pytest.fixture
def case(s3_case: S3Case) -> S3Case:
    return s3_case


def kill_at_random(child: Child, longest: float) -> None:
    """Kills the attempt's whole process group after a random part of the time that a whole one takes."""
    time.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
    os.killpg(child.process.pid, signal.SIGKILL)
    child.process.communicate()


def start(case: S3Case, kind: str, key: str, report: Path, *arguments: str) -> Child:
    return start_child(kind, case.folder, case.options(key), report=report, arguments=arguments)


@pytest.mark.timeout(300)
def test_download_killed_at_50_moments_then_run_again_gives_the_right_tree(case: S3Case, tmp_path: Path) -> None:
    contents = {f"p/{i % 3}/{i}": os.urandom(2000) for i in range(60)} | {"p/large": os.urandom(17 * MIB)}
    case.put(**contents)
    began = time.monotonic()
    assert start(case, "s3-download", "p", tmp_path / "report").finish()[0] == EXIT_OK
    whole, wanted = time.monotonic() - began, tree(case.folder)
    names = sorted(wanted)
    for _ in range(KILLS):
        for name in [*random.sample(names, 20), "large"]:
            (case.folder / name).unlink(missing_ok=True)
        kill_at_random(start(case, "s3-download", "p", tmp_path / "report"), whole)
        found = tree(case.folder, without=(".datacube",))
        assert found.items() <= wanted.items(), "a file in its place is whole"
    report = case.download("p")
    assert report.reason in (Reason.TRANSFER_COMPLETE, Reason.UP_TO_DATE)
    assert tree(case.folder) == wanted
    assert not (case.folder / ".datacube").exists()


@pytest.mark.timeout(300)
def test_upload_killed_at_50_moments_then_run_again_gives_the_right_objects(case: S3Case, tmp_path: Path) -> None:
    for number in range(40):
        case.write(f"{number % 3}/{number}", os.urandom(2000))
    case.write("large", os.urandom(17 * MIB))
    wanted = {f"up/{name}": (case.folder / name).stat().st_size for name in tree(case.folder)}
    began = time.monotonic()
    assert start(case, "s3-upload", "up", tmp_path / "report").finish()[0] == EXIT_OK
    whole = time.monotonic() - began
    for _ in range(KILLS):
        for key in [*random.sample(sorted(wanted), 15), "up/large"]:
            case.store.delete(case.bucket, key)
        kill_at_random(start(case, "s3-upload", "up", tmp_path / "report"), whole)
        assert case.store.list(case.bucket).items() <= wanted.items()
    assert case.upload("up").reason in (Reason.TRANSFER_COMPLETE, Reason.UP_TO_DATE)
    assert case.store.list(case.bucket) == wanted
    assert case.store.get(case.bucket, "up/large") == (case.folder / "large").read_bytes()
    assert case.store.uploads(case.bucket) == 0


@pytest.mark.parametrize("kind", ["s3-download", "s3-upload"])
def test_attempt_ends_at_once_and_leaves_nothing_when_it_is_told_to(case: S3Case, tmp_path: Path, kind: str) -> None:
    case.put(**{"p/large": os.urandom(9 * MIB)})
    if kind == "s3-upload":
        case.write("large", os.urandom(9 * MIB))
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        proxy.inject(Fault("^PUT", "stall", on="request", after=10), Fault("GET /[^?]*/p/large", "stall", after=10))
        child = start(case, kind, "p", tmp_path / "report")
        while not any(s.fault for s in proxy.requests):
            time.sleep(0.02)
        began = time.monotonic()
        child.process.send_signal(signal.SIGTERM)
        code, report, _messages = child.finish()
    assert time.monotonic() - began < 5
    assert code == EXIT_TERMINATED
    assert report is not None
    assert {p.name for p in case.folder.iterdir()} <= {"large"}
    assert case.store.uploads(case.bucket) == 0


def test_attempt_that_moves_no_byte_is_stalled(case: S3Case, tmp_path: Path) -> None:
    case.put(**{"p/x": b"x" * 100_000})
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        proxy.inject(Fault("GET /[^?]*/p/x", "stall", after=10, times=None))
        code, report, _messages = start(case, "s3-download", "p", tmp_path / "report", "--stall-timeout", "1").finish()
    assert code == EXIT_RETRYABLE
    assert report is not None
    assert report.reason is Reason.STALLED
    assert not list(case.folder.iterdir())


def test_memory_stays_bounded_when_a_large_object_is_downloaded(case: S3Case, tmp_path: Path) -> None:
    block = os.urandom(10 * MIB)
    case.store.put_parts(case.bucket, "p/huge", block * 30, 30 * MIB)
    del block
    child = start(case, "s3-download", "p", tmp_path / "report")
    peak = 0
    while child.process.poll() is None:
        peak = max(peak, _peak_rss(child.process.pid))
        time.sleep(0.02)
    code, report, messages = child.finish()
    assert (code, report is not None and report.verified) == (EXIT_OK, "checksum")
    assert messages[-1]["progress"]["bytesDone"] == 300 * MIB
    assert 0 < peak < 200 * MIB, f"peak RSS was {peak // MIB} MiB"
    (case.folder / "huge").unlink()  # nothing to search for a credential in


def _peak_rss(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
