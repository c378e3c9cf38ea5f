"""Measures the operator and prints a table: `python -m tests.benchmarks`, or `make bench`.

It proves nothing by a time alone: each number stands beside a peer's of the same run. A wish that is missed is said,
and is no failure.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from tests.benchmarks.engines import measure_engines
from tests.benchmarks.footprint import machine
from tests.benchmarks.latency import measure_latency
from tests.benchmarks.load import measure_load
from tests.benchmarks.race import measure_race
from tests.benchmarks.table import render
from tests.cluster.__main__ import main as start_cluster
from tests.cluster.errors import ClusterError, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.table import Row


def main(arguments: Sequence[str]) -> int:
    """Measures what is asked for; 0 where that worked, whatever the numbers are."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", choices=("latency", "load", "prefect"), help="leave all else out")
    parser.add_argument("--rounds", type=int, default=10, help="of a Job, a Workflow and a DataCube (default: 10)")
    parser.add_argument("--cubes", type=int, default=1000, help="DataCubes made in one go (default: 1000)")
    parser.add_argument("--runs", type=int, default=100, help="in Prefect and in Argo (default: 100)")
    parser.add_argument("--pods", type=int, default=100, help="of them on the whole cluster, 0 for none (default: 100)")
    parser.add_argument("--held", type=int, default=200, help="of them at once, at their attempts (default: 200)")
    parser.add_argument("--idle-seconds", type=float, default=60.0, help="of watching an operator idle (default: 60)")
    asked = parser.parse_args(arguments)
    code = 0
    try:
        print(f"# at the start: {machine()}", flush=True)
        rows = _measure(asked)
        print(f"# at the end: {machine()}\n{render(rows)}")
    except* ClusterError as errors:
        say(f"bench: {'; '.join(map(str, errors.exceptions))}")
        code = 1
    return code


def _measure(asked: argparse.Namespace) -> list[Row]:
    rows = []
    if asked.only in (None, "latency"):
        _bring_up_cluster()
        rows += measure_latency(asked.rounds)
    if asked.only in (None, "load"):
        rows += measure_load(asked.cubes, asked.idle_seconds)
    if asked.only in (None, "prefect"):
        rows += measure_engines(asked.runs, asked.held)
        rows += _raced(asked.pods)
    return rows


def _raced(count: int) -> list[Row]:
    if not count:
        return []
    _bring_up_cluster()
    return measure_race(count)


def _bring_up_cluster() -> None:
    with redirect_stdout(sys.stderr):
        if start_cluster(["up"]):
            raise ClusterError("there is no whole cluster; `--only load` and `--only prefect --pods 0` need none")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
