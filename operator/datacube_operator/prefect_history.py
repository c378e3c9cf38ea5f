"""Keeps Prefect's history true: what people do there is heard, and what the server missed is told to it later.

On the replica that leads. Nothing here is needed for a transfer: a server that is away is asked again and again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from datacube_flows.core import labels
from datacube_flows.engines.prefect_server import Ending, ServerUnavailable
from datacube_operator.backoff import Backoff, Failures
from datacube_operator.clock import sleep
from datacube_operator.errors import OperatorError
from datacube_operator.logs import log
from datacube_operator.prefect_decisions import Deed, decide, rerun_for
from datacube_operator.resource import DATACUBES

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_flows.engines.prefect_server import FlowRuns, RunSeen
    from datacube_flows.engines.prefect_thread import FlowThread
    from datacube_operator.client import Client
    from datacube_operator.clock import Clock
    from datacube_operator.cube import Cube
    from datacube_operator.prefect_engine import PrefectEngine

LOOK_SECONDS: Final = 10.0
"""How often the server is asked whether it is there."""

LOST_SECONDS: Final = 2.0
"""The same while it is not."""

SWEEP_SECONDS: Final = 600.0
PAUSES: Final = Backoff(first=1.0, cap=30.0, jitter=0.5)

NOT_OURS: Final = "runs of this deployment come from DataCubes: apply a DataCube to begin one"
GONE: Final = "its DataCube is gone, or has begun another run"


class Cubes(Protocol):
    """Who knows DataCubes: by `namespace/name`, as they stand now."""

    def __call__(self, key: str) -> Cube | None:
        """The DataCube; None where there is none."""


class History:
    """What is owed to the server, and what it tells.

    Args:
        thread: where the server is asked.
        runs: asks.
        client: sets re-run annotations.
        cube_of: finds a DataCube.
        clock: paces.
        wake: has a DataCube looked at.
    """

    def __init__(
        self,
        thread: FlowThread,
        runs: FlowRuns,
        client: Client,
        *,
        cube_of: Cubes,
        clock: Clock,
        wake: Callable[[str], None],
    ) -> None:
        self._thread, self._runs, self._client = thread, runs, client
        self._cube_of, self._clock, self._wake = cube_of, clock, wake
        self._owed: dict[str, tuple[Ending, str]] = {}
        self._news = asyncio.Event()
        self._engine: PrefectEngine | None = None
        self._stopped = asyncio.Event()
        self.trouble = ""

    def serve(self, engine: PrefectEngine) -> None:
        """Names the engine whose runs are told of."""
        self._engine = engine

    def owe(self, run_id: str, ending: Ending, message: str) -> None:
        """Has a flow run ended at the server, as soon as that takes it."""
        self._owed[run_id] = ending, message
        self._news.set()

    def lost(self, why: str) -> None:
        """The server gave no answer."""
        if not self.trouble:
            log.warning("Prefect server lost", error=why)
        self.trouble = f"{why}: transfers start by themselves when it is back"
        self._news.set()

    async def run(self) -> None:
        """Runs until `stop`."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in (self._keep(), self._listen())]
            await self._stopped.wait()
            for task in tasks:
                task.cancel()

    def stop(self) -> None:
        """Has `run` return."""
        self._stopped.set()

    async def _keep(self) -> None:
        """Pays what is owed, looks whether the server is there, and goes over all open runs from time to time."""
        swept = -SWEEP_SECONDS
        while True:
            self._news.clear()
            try:
                await self._thread.call(self._runs.check())
                if self.trouble or self._clock.now() - swept >= SWEEP_SECONDS:
                    await self._sweep()
                    swept = self._clock.now()
                self._found()
                await self._pay()
            except ServerUnavailable as error:
                self.lost(str(error))
                await self._mend()
            except Exception as error:  # noqa: BLE001 - a history that is not complete stops no transfer
                log.bug("Prefect's history not kept", error)
            await self._pause()

    async def _mend(self) -> None:
        """Has another client where the server answers others: one whose connections are all lost does not recover."""
        if await self._thread.call(self._runs.answers_others()):
            log.warning("Prefect's client renewed")
            self._thread.renew()

    def _found(self) -> None:
        if self.trouble:
            log.info("Prefect server is there")
        self.trouble = ""

    async def _pause(self) -> None:
        seconds = LOST_SECONDS if self.trouble else LOOK_SECONDS
        if self.trouble:
            await sleep(self._clock, seconds)
            return
        timer = self._clock.call_later(seconds, self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    async def _pay(self) -> None:
        for run_id, (ending, message) in list(self._owed.items()):
            await self._thread.call(self._runs.conclude(run_id, ending, message))
            if self._owed.get(run_id) == (ending, message):
                del self._owed[run_id]

    async def _sweep(self) -> None:
        """Looks at every open run: after a restart of either side, something may have been missed."""
        for seen in await self._thread.call(self._runs.open_runs()):
            await self._attend(seen)

    async def _listen(self) -> None:
        """Hears what people do; after each break all open runs are looked at."""
        failures, loop = Failures(PAUSES), asyncio.get_running_loop()
        heard: asyncio.Queue[str] = asyncio.Queue()

        async def pass_on() -> None:
            async for run_id in self._runs.what_people_do():
                loop.call_soon_threadsafe(heard.put_nowait, run_id)

        while True:
            listening: asyncio.Task[None] = asyncio.create_task(self._thread.call(pass_on()))
            try:
                await self._take(heard, listening, failures)
            finally:
                listening.cancel()
            await sleep(self._clock, failures.pause())

    async def _take(self, heard: asyncio.Queue[str], listening: asyncio.Task[None], failures: Failures) -> None:
        """Acts on what is heard until the subscription breaks."""
        while not listening.done():
            getting = asyncio.create_task(heard.get())
            waited: list[asyncio.Task[Any]] = [getting, listening]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                break
            failures.reset()
            try:
                await self._hear(getting.result())
            except ServerUnavailable as error:
                log.info("flow run not looked at", error=str(error))
            except Exception as error:  # noqa: BLE001 - as in `_keep`
                log.bug("flow run not looked at", error)
        with suppress(asyncio.CancelledError):
            if broken := listening.exception():
                log.info("Prefect's events interrupted", error=type(broken).__name__)

    async def _hear(self, run_id: str) -> None:
        if not run_id:
            await self._sweep()
            return
        seen = await self._thread.call(self._runs.find(run_id))
        if seen is not None:
            await self._attend(seen)

    async def _attend(self, seen: RunSeen) -> None:
        """Does what is due about a flow run."""
        assert self._engine is not None  # noqa: S101 - `serve` is called when the replica is made
        cube = self._cube_of(seen.cube)
        if cube is not None and cube.uid != seen.uid:
            cube = None
        deed = decide(seen, cube, self._clock.utc(), is_ours=self._engine.of_flow_run(seen.id) is not None)
        if deed is not Deed.NOTHING:
            log.info("flow run attended to", flow_run=seen.id, datacube=seen.cube, deed=deed.value)
        try:
            await self._do(deed, seen, cube)
        except OperatorError as error:
            log.warning("flow run not attended to", flow_run=seen.id, error=str(error))

    async def _do(self, deed: Deed, seen: RunSeen, cube: Cube | None) -> None:
        from datacube_operator.prefect_engine import ending_told

        assert self._engine is not None  # noqa: S101 - see above
        match deed:
            case Deed.CANCEL:
                await self._engine.cancel(seen)
                self._wake(seen.cube)
            case Deed.RUN_AGAIN:
                await self._run_again(seen)
            case Deed.WAKE:
                self._wake(seen.cube)
            case Deed.COMPLETE if cube is not None:
                self.owe(seen.id, *ending_told(cube.status))
            case Deed.DROP:
                self.owe(seen.id, Ending.CANCELLED, GONE)
            case Deed.REFUSE:
                self.owe(seen.id, Ending.CANCELLED, NOT_OURS)
            case Deed.HOLD:
                self.owe(seen.id, Ending.HELD, "spec.suspend holds the transfer")

    async def _run_again(self, seen: RunSeen) -> None:
        namespace, _, name = seen.cube.partition("/")
        body: dict[str, Any] = {"metadata": {"uid": seen.uid, "annotations": {labels.RERUN: rerun_for(seen)}}}
        await self._client.patch(DATACUBES, namespace, name, body)
