"""One run of the cluster's tests at a time on this machine: some kill the very servers that another run would use."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.cluster.errors import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def held_turn(file: Path) -> Iterator[None]:
    """Waits for its turn, saying for whom, and has it until the block ends, or this process does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read() or "another process"
            say(f"waiting for the tests of {holder}: two runs at once would disturb each other")
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(f"process {os.getpid()}, which began at {datetime.now(UTC):%H:%M} UTC ({' '.join(sys.argv[1:])})")
        stream.flush()
        yield
