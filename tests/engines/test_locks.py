"""Path locks on one machine: overlapping writers wait, readers share, a dead run's lock is no lock."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.core.path_use import PathUse
from datacube_flows.engines.locks import hold_path
from datacube_flows.errors import WaitingError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.t0

ROWS = [
    ("same path, both write", "a", True, "a", True, True),
    ("parent and child, both write", "a", True, "a/b", True, True),
    ("root and child, reader and writer", "", False, "a", True, True),
    ("same path, both read", "a", False, "a", False, False),
    ("reader above writer", "a", False, "a/b", True, True),
    ("siblings", "a/b", True, "a/c", True, False),
    ("a name that begins like another", "a", True, "ab", True, False),
]


@pytest.mark.parametrize(("what", "mine", "i_write", "theirs", "they_write", "conflicts"), ROWS)
def test_uses_conflict_when_paths_overlap_and_one_writes(
    what: str, mine: str, i_write: bool, theirs: str, they_write: bool, conflicts: bool
) -> None:
    first, second = PathUse("x", "claim", mine, i_write), PathUse("y", "claim", theirs, they_write)
    assert first.conflicts_with(second) is conflicts, what
    assert second.conflicts_with(first) is conflicts, what


def test_other_claim_never_conflicts() -> None:
    assert not PathUse("x", "one", "", writes=True).conflicts_with(PathUse("y", "two", "", writes=True))


def test_second_writer_is_told_whom_it_waits_for(tmp_path: Path) -> None:
    with hold_path(tmp_path, PathUse("first", "claim", "dev", writes=True)):
        with pytest.raises(WaitingError) as raised, hold_path(tmp_path, PathUse("second", "claim", "dev/git", True)):
            pass
        assert raised.value.reason is Reason.PATH_BUSY
        assert "first" in raised.value.message
    with hold_path(tmp_path, PathUse("second", "claim", "dev/git", writes=True)) as descriptor:
        assert descriptor > 0


def test_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from datacube_flows.core.path_use import PathUse
from datacube_flows.engines.locks import hold_path
with hold_path(Path(sys.argv[1]), PathUse("dead", "claim", "", True)):
    print("held", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(WaitingError), hold_path(tmp_path, PathUse("next", "claim", "", writes=True)):
        pass
    child.kill()
    child.communicate()
    started = time.monotonic()
    with hold_path(tmp_path, PathUse("next", "claim", "", writes=True)):
        assert time.monotonic() - started < 1
    assert list(tmp_path.glob("*.lock")) == []
