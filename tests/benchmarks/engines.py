"""What a run costs in Prefect, and what it costs in Argo: the operator's own part, all around it played.

Each engine has an API server of its own, and Prefect a server with PostgreSQL. First some runs are held at their
attempts, which is what memory is measured by; then others go through, which is what time is measured by. What Argo's
controller spends is not counted: it is played.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datacube_operator.resource import DATACUBES

from tests.benchmarks.engine_costs import EngineCost, Engines, Held
from tests.benchmarks.field import Field, own_server
from tests.benchmarks.footprint import cpu_seconds, megabytes, threads
from tests.benchmarks.prefect_meter import PrefectMeter
from tests.cluster.errors import say
from tests.controller.scenarios_bench import made_world
from tests.servers.prefect import start_prefect

if TYPE_CHECKING:
    from tests.benchmarks.table import Row
    from tests.controller.scenarios_bench import World

FIRST: Final = 10
"""Runs before anything is measured: what is made once is there then."""


def measure_engines(runs: int, held: int) -> list[Row]:
    """Returns what so many runs cost in either engine, and so many that are held at once."""
    say(f"  {runs} DataCubes in Argo, and {held} at once")
    argo = _measure(runs, held, with_prefect=False)
    say("  the same in Prefect")
    return Engines(argo, _measure(runs, held, with_prefect=True)).rows()


def _measure(runs: int, held: int, *, with_prefect: bool) -> EngineCost:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datacube-bench-")))
        server = stack.enter_context(own_server())
        prefect = stack.enter_context(start_prefect(folder / "server")) if with_prefect else None

        async def measure() -> EngineCost:
            async with made_world(server, folder, "bench", prefect=prefect) as world:
                return await _Race(world, PrefectMeter(prefect) if prefect else None).run(runs, held)

        return asyncio.run(measure())


@dataclass
class _Race:
    """Has DataCubes run in a world, with one engine."""

    world: World
    meter: PrefectMeter | None

    @property
    def _pid(self) -> int:
        return self.world.operator.pid

    async def run(self, runs: int, held: int) -> EngineCost:
        first = self._field(FIRST, "first")
        await first.begin()
        await first.fill()
        await first.end(DATACUBES)
        return await self._through(runs, await self._held(held))

    async def _held(self, count: int) -> Held:
        """Has so many at their attempts at once, and looks what the operator needs for them."""
        before, threads_before = megabytes(self._pid), threads(self._pid)
        field = self._field(count, "held")
        await field.begin()
        await field.fill()
        await field.all_are("Running", DATACUBES)
        await field.quiet()
        made = Held(count, before, megabytes(self._pid), threads(self._pid) - threads_before)
        await field.end(DATACUBES)
        return made

    async def _through(self, count: int, held: Held) -> EngineCost:
        """Has so many go through as fast as they do, and looks what was spent on them."""
        if self.meter is not None:
            await self.meter.begin()
        field, before = self._field(count, "through"), cpu_seconds(self._pid)
        await field.begin()
        field.gate.set()
        await field.fill()
        cost = await field.end(DATACUBES)
        server = await self.meter.end() if self.meter is not None else None
        return EngineCost(cost, cpu_seconds(self._pid) - before, held, server)

    def _field(self, count: int, name: str) -> Field:
        return Field(self.world.proxy, self.world.played, count, name)
