"""What a process of this machine uses, as the kernel counts it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
KIB: Final = 1024
MB: Final = 1e6


def cpu_seconds(pid: int) -> float:
    """Returns the processor time that a process has used, its threads included (proc(5), utime and stime)."""
    return sum(map(int, _stat(pid)[11:13])) / TICKS


def family_cpu_seconds(pid: int) -> float:
    """Returns the processor time of a process, its children and theirs, also of those that have ended and been seen to.

    A database makes and ends processes as it likes: what one that ended has used is its parent's (proc(5), cutime),
    which is read last, so that nothing is left out.
    """
    try:
        children = sum(family_cpu_seconds(child) for child in _children(pid))
        return children + sum(map(int, _stat(pid)[11:15])) / TICKS
    except (FileNotFoundError, ProcessLookupError):  # it has ended in this moment
        return 0.0


def peak_megabytes(pid: int) -> float:
    """Returns the most memory that was resident at any time (proc(5), VmHWM)."""
    return _megabytes(pid, "VmHWM:")


def megabytes(pid: int) -> float:
    """Returns the memory that is resident now (proc(5), VmRSS)."""
    return _megabytes(pid, "VmRSS:")


def threads(pid: int) -> int:
    """Returns how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def machine() -> str:
    """Says how many processors there are, and how busy they were in the last minute."""
    return f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"


def _stat(pid: int) -> list[str]:
    """The fields of its state after its name, in which there may be spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for found in lists for child in found.read_text().split()]


def _megabytes(pid: int, line: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (found,) = (text.split()[1] for text in lines if text.startswith(line))
    return int(found) * KIB / MB
