"""What a load cost, and the lines of the table that say so. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from datacube_operator.controller import Pace

from tests.benchmarks.table import Peer, Row, at_most

CALLS: Final = 8
WRITES: Final = 6
MEGABYTES: Final = 200
RESTART_SECONDS: Final = 5
MINUTE: Final = 60.0


@dataclass(frozen=True)
class Cost:
    """What a number of runs cost.

    Attributes:
        count: how many.
        seconds: from the first request to the last end.
        calls: to the API server; watches, lists of all, the lease and the accounts of a namespace left out.
        writes: of them.
    """

    count: int
    seconds: float
    calls: int
    writes: int

    @property
    def per_second(self) -> float:
        """Runs that ended in a second."""
        return self.count / self.seconds


@dataclass(frozen=True)
class Rest:
    """What an operator needs that has nothing to do.

    Attributes:
        start_seconds: from the start of its process until it has looked at all there is.
        start_writes: meanwhile.
        look_seconds: spent on looking at all of them once.
        cpu_a_minute: processor time that it uses.
        peak: megabytes, the most it had at any time.
    """

    start_seconds: float
    start_writes: int
    look_seconds: float
    cpu_a_minute: float
    peak: float

    @property
    def cpu_with_resync(self) -> float:
        """The processor time of a minute, and its part of looking at all of them every few minutes."""
        return self.cpu_a_minute + self.look_seconds * MINUTE / Pace().resync_seconds


@dataclass(frozen=True)
class Load:
    """All that was measured.

    Attributes:
        bare: Workflows that a client makes.
        cubes: DataCubes.
        peak: megabytes, the most that the operator had while they ran.
        cpu: processor time of the operator meanwhile.
        empty: an operator that knows no DataCube.
        full: one that knows them all, each at its end.
    """

    bare: Cost
    cubes: Cost
    peak: float
    cpu: float
    empty: Rest
    full: Rest

    def rows(self) -> list[Row]:
        """The table's lines."""
        bare, cubes, empty, full = self.bare, self.cubes, self.empty, self.full
        peak = max(self.peak, full.peak)
        return [
            _each("API calls of a DataCube", cubes.calls / cubes.count, bare.calls / bare.count, CALLS),
            _each("writes of a DataCube", cubes.writes / cubes.count, bare.writes / bare.count, WRITES),
            Row(f"ends a second, of {cubes.count}", cubes.per_second, "1/s", Peer("bare Workflows", bare.per_second)),
            Row("operator's CPU for a DataCube", self.cpu / cubes.count * 1000, "ms"),
            Row("operator's peak memory", peak, "MB", Peer("without a DataCube", empty.peak), at_most(MEGABYTES)),
            Row("restart to caught-up", full.start_seconds, "s", _empty(empty.start_seconds), at_most(RESTART_SECONDS)),
            Row("writes after a restart", full.start_writes, wish=at_most(0)),
            Row("idle CPU in a minute", full.cpu_a_minute, "s", _empty(empty.cpu_a_minute)),
            Row("idle CPU with its part of resyncs", full.cpu_with_resync, "s", _empty(empty.cpu_with_resync)),
        ]


def _each(name: str, value: float, peer: float, limit: float) -> Row:
    return Row(name, value, peer=Peer("bare Workflow", peer), wish=at_most(limit))


def _empty(value: float) -> Peer:
    return Peer("without a DataCube", value)
