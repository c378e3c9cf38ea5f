"""What a Prefect server and its database spend."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.benchmarks.engine_costs import Server
from tests.benchmarks.footprint import family_cpu_seconds, megabytes
from tests.cluster.process import Roster

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.prefect import PrefectServer

IDLE_SECONDS: Final = 10.0
"""For which it is watched before anything is asked: it has work of its own, always."""

CALM_SECONDS: Final = 2.0
CALM_CALLS: Final = 5
CALM_PART: Final = 0.15
"""Of a processor's time: less is called calm."""

WAIT_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Moment:
    """What was spent until then: processor time, and requests answered."""

    at: float
    server: float
    database: float
    calls: int

    def since(self, before: Moment) -> Moment:
        """What was spent between the two, which lie so far apart."""
        return Moment(
            self.at - before.at,
            self.server - before.server,
            self.database - before.database,
            self.calls - before.calls,
        )


class PrefectMeter:
    """Measures a server from `begin` to `end`, less what it would have spent in that time on nothing."""

    def __init__(self, prefect: PrefectServer) -> None:
        self._prefect = prefect
        self._server, self._database = _process(prefect.folder), _process(prefect.folder / "postgres")
        self._idle = self._began = self._look()

    async def begin(self) -> None:
        """Waits until the server does what it does idle, looks how much that is, and counts from then on."""
        first = await self._calm()
        await asyncio.sleep(IDLE_SECONDS)
        self._began = self._look()
        self._idle = self._began.since(first)

    async def end(self) -> Server:
        """Returns what was spent since, once all is done that is done later: tasks are told by events."""
        spent = (await self._calm()).since(self._began)
        part = spent.at / self._idle.at
        return Server(
            spent.server - part * self._idle.server,
            spent.database - part * self._idle.database,
            spent.calls - round(part * self._idle.calls),
            megabytes(self._server),
        )

    async def _calm(self) -> Moment:
        """Returns when the server hardly does anything."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                before = self._look()
                await asyncio.sleep(CALM_SECONDS)
                spent = (now := self._look()).since(before)
                if spent.calls <= CALM_CALLS and spent.server < CALM_PART * spent.at:
                    return now

    def _look(self) -> Moment:
        cpu = family_cpu_seconds(self._server), family_cpu_seconds(self._database)
        return Moment(time.monotonic(), *cpu, len(self._prefect.requests))


def _process(folder: Path) -> int:
    """The process of the one server that keeps its files there."""
    (process,) = Roster(folder / "processes", folder / "logs", {}).recorded()
    return process.pid
