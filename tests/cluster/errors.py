"""How the harness speaks to the person who runs it: one error, and lines about what takes long."""

from __future__ import annotations

import sys


class ClusterError(Exception):
    """What is missing or failed, and what to do; shown without a traceback."""


def say(line: str) -> None:
    """Shows a line at once, on stderr: what is printed on stdout can be given to a shell."""
    print(line, file=sys.stderr, flush=True)
