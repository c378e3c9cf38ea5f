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
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_megabytes(pid: int) -> float:
    """Returns the most memory that was resident at any time (proc(5), VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) * KIB / MB


def machine() -> str:
    """Says how many processors there are, and how busy they were in the last minute."""
    return f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
