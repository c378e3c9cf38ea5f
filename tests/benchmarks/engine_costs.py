"""What runs cost in an engine, and the lines of the table that say so. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.benchmarks.costs import CALLS, WRITES
from tests.benchmarks.table import Peer, Row, at_most

if TYPE_CHECKING:
    from tests.benchmarks.costs import Cost

ADDED_CPU: Final = 0.3
"""Seconds of all that Prefect adds, its server included, for a DataCube."""

ADDED_MEGABYTES: Final = 1.2
"""What a run that is executed may take of the operator's memory, more than one in Argo does."""


@dataclass(frozen=True)
class Server:
    """What a Prefect server spent on some runs, above what it spends on none.

    Attributes:
        cpu: processor time.
        database_cpu: that of its PostgreSQL.
        calls: requests that it answered.
        megabytes: resident at the end.
    """

    cpu: float
    database_cpu: float
    calls: int
    megabytes: float


@dataclass(frozen=True)
class Held:
    """An operator before so many runs are at their attempts, and while they are.

    Attributes:
        count: of the runs.
        before: megabytes.
        during: megabytes.
        threads: that came with them.
    """

    count: int
    before: float
    during: float
    threads: int

    @property
    def each(self) -> float:
        """Megabytes of a run."""
        return (self.during - self.before) / self.count


@dataclass(frozen=True)
class EngineCost:
    """What an engine needs.

    Attributes:
        runs: what went through.
        cpu: processor time of the operator meanwhile.
        held: what was held before.
        server: a Prefect server's part.
    """

    runs: Cost
    cpu: float
    held: Held
    server: Server | None = None

    @property
    def each(self) -> float:
        """Processor time of operator and server for a run."""
        return (self.cpu + (self.server.cpu if self.server else 0.0)) / self.runs.count


@dataclass(frozen=True)
class Engines:
    """Both of them, measured one after the other."""

    argo: EngineCost
    prefect: EngineCost

    def rows(self) -> list[Row]:
        """The table's lines."""
        argo, prefect = self.argo, self.prefect
        return [*self._time_rows(), *_server_rows(prefect), *_memory_rows(argo.held, prefect.held)]

    def _time_rows(self) -> list[Row]:
        argo, prefect = self.argo, self.prefect
        count = prefect.runs.count
        operators = prefect.cpu / count, argo.cpu / count
        return [
            Row(f"{count} DataCubes in Prefect", prefect.runs.seconds, "s", Peer("in Argo", argo.runs.seconds)),
            _each("API calls of a DataCube in Prefect", prefect.runs.calls, argo.runs.calls, count, CALLS),
            _each("writes of a DataCube in Prefect", prefect.runs.writes, argo.runs.writes, count, WRITES),
            Row("operator's CPU for a DataCube in Prefect", operators[0], "s", Peer("in Argo", operators[1])),
            Row("CPU that Prefect adds to a DataCube", prefect.each - argo.each, "s", wish=at_most(ADDED_CPU)),
        ]


def _each(name: str, value: float, peer: float, count: int, limit: float) -> Row:
    return Row(name, value / count, peer=Peer("in Argo", peer / count), wish=at_most(limit))


def _server_rows(cost: EngineCost) -> list[Row]:
    server, count = cost.server, cost.runs.count
    if server is None:
        return []
    return [
        Row("Prefect server's CPU for a DataCube", server.cpu / count, "s"),
        Row("its PostgreSQL's CPU for a DataCube", server.database_cpu / count, "s"),
        Row("its requests for a DataCube", server.calls / count),
        Row("Prefect server's memory", server.megabytes, "MB"),
    ]


def _memory_rows(argo: Held, prefect: Held) -> list[Row]:
    count = prefect.count
    threads = Peer("in Argo", argo.threads)
    return [
        Row(f"operator's memory, {count} at once in Prefect", prefect.during, "MB", Peer("in Argo", argo.during)),
        Row("the same before them", prefect.before, "MB", Peer("in Argo", argo.before)),
        Row("memory that Prefect adds to a run", prefect.each - argo.each, "MB", wish=at_most(ADDED_MEGABYTES)),
        Row(f"threads that {count} at once bring in Prefect", prefect.threads, peer=threads),
    ]


@dataclass(frozen=True)
class Lap:
    """Transfers of an engine on a whole cluster.

    Attributes:
        runs: what they cost the API server.
        cpu: processor time of the operator meanwhile.
        peak: megabytes, the most that it had.
    """

    runs: Cost
    cpu: float
    peak: float


@dataclass(frozen=True)
class Laps:
    """All that was measured on a whole cluster.

    Attributes:
        jobs: seconds of bare Jobs.
        argo: in Argo.
        prefect: in Prefect.
        server: what Prefect's server spent.
    """

    jobs: float
    argo: Lap
    prefect: Lap
    server: Server

    def rows(self) -> list[Row]:
        """The table's lines."""
        argo, prefect, count = self.argo, self.prefect, self.prefect.runs.count
        bare = Peer("bare Jobs", self.jobs)
        cpus = prefect.cpu / count, Peer("in Argo", argo.cpu / count)
        return [
            Row(f"{count} transfers in Argo, whole cluster", argo.runs.seconds, "s", bare),
            Row(f"{count} transfers in Prefect, whole cluster", prefect.runs.seconds, "s", bare),
            _each("API calls of a DataCube in Prefect there", prefect.runs.calls, argo.runs.calls, count, CALLS),
            Row("operator's CPU for a DataCube in Prefect there", cpus[0], "s", cpus[1]),
            Row("Prefect server's CPU for a DataCube there", self.server.cpu / count, "s"),
            Row("operator's peak memory with Prefect there", prefect.peak, "MB", Peer("in Argo", argo.peak)),
            Row("Prefect server's memory there", self.server.megabytes, "MB"),
        ]
