"""Runs a plan on this machine as a flow run: attempts are child processes, retries and history are Prefect's.

The transfer does not hang on the server: where Prefect gives up in the middle, the run goes on without it, and where
the server takes no final state, that is said once. How a run ends is told by its attempts alone.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.utilities.urls import url_for

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import Phase
from datacube_flows.engines.inline import finish
from datacube_flows.engines.machine import INTERRUPTED, Machine, MachineRun, RunInterrupted
from datacube_flows.engines.prefect_server import Ending, FlowRuns, ServerUnavailable
from datacube_flows.engines.prefect_view import without_credentials
from datacube_flows.engines.process_work import ProcessWork
from datacube_flows.errors import WaitingError
from datacube_flows.words import outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.core.plan import TransferPlan
    from datacube_flows.engines.prefect_thread import FlowThread

SOON: Final = 3.0
HISTORY_SECONDS: Final = 10.0
"""How long the end of a run waits for a server to take it: one that may be away, and one that answers but is slow."""

NO_SERVER: Final = (
    "{error}: start the one that PREFECT_API_URL names, name another, or leave PREFECT_API_URL out for a server that "
    "lives as long as this command"
)
INCOMPLETE: Final = "the history of this run is incomplete: the Prefect server gave no usable answer"
WITHOUT: Final = "Prefect gave up; the run goes on without it"


class Execution:
    """One flow run. Its coroutines are for the flows' thread."""

    def __init__(self, runs: FlowRuns, run_id: str, work: ProcessWork) -> None:
        self._runs, self._run_id, self._work = runs, run_id, work
        self._flow: asyncio.Task[None] | None = None

    async def run(self) -> bool:
        """Runs it until all is done and the server has taken it; False where the server did not."""
        flow = self._flow = asyncio.create_task(self._runs.execute(self._run_id, self._work))
        over = asyncio.create_task(self._work.over.wait())
        await asyncio.wait({flow, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        await asyncio.wait({flow}, timeout=SOON)
        if not flow.done() and await self._answers():
            await asyncio.wait({flow}, timeout=HISTORY_SECONDS)
        if not flow.done():
            flow.cancel()
            return False
        return not flow.cancelled() and flow.exception() is None

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(SOON):
                return await self._runs.find(self._run_id) is not None
        except (ServerUnavailable, TimeoutError):
            return False

    async def cancel(self) -> None:
        """Ends the flow; the attempt that runs was told to stop by whoever calls."""
        if self._flow is not None:
            self._flow.cancel()
            await self._work.end()


@dataclass(slots=True)
class PrefectEngine:
    """Executes plans one at a time, each as a flow run.

    Attributes:
        has_pages: whether the server shows runs in a browser.
        sleep: waits between attempts once Prefect has given up.
        holds_exit: whether Prefect still tries to reach its server, and would do so before the process may end.
    """

    machine: Machine
    thread: FlowThread
    has_pages: bool
    runs: FlowRuns = field(default_factory=FlowRuns)
    sleep: Callable[[float], None] = field(default=time.sleep)
    holds_exit: bool = False

    def run(self, plan: TransferPlan) -> DataCubeStatus:
        """Runs a plan to its end and returns the status that a cluster would show.

        Raises:
            RunInterrupted: a person ended the run; the attempt was ended first.
        """
        with MachineRun(plan, self.machine) as run:
            try:
                run_id = self._begin(plan)
            except ServerUnavailable as error:
                run.keep(WaitingError(Reason.ENGINE_UNAVAILABLE, NO_SERVER.format(error=error)))
                return run.status
            except KeyboardInterrupt as interrupt:
                raise RunInterrupted(run.interrupt()) from interrupt
            self._execute(run, run_id)
            return run.status

    def _begin(self, plan: TransferPlan) -> str:
        run_id = self.thread.submit(self.runs.begin_alone(plan)).result()
        if self.has_pages and (page := url_for("flow-run", obj_id=run_id)):
            self.machine.listener.line(f"Prefect: {without_credentials(page)}")
        return run_id

    def _execute(self, run: MachineRun, run_id: str) -> None:
        execution = Execution(self.runs, run_id, ProcessWork(run))
        try:
            is_told = self.thread.submit(execution.run()).result()
            if run.is_due:
                self.machine.listener.line(WITHOUT)
                finish(run, self.sleep)
                is_told = self._conclude(run_id, *_ending(run.status))
        except KeyboardInterrupt as interrupt:
            self._cancel(run, run_id, execution)
            raise RunInterrupted(run.interrupt()) from interrupt
        if not is_told:
            self.holds_exit = True
            self.machine.listener.line(INCOMPLETE)

    def _cancel(self, run: MachineRun, run_id: str, execution: Execution) -> None:
        """Ends what runs, then has the server say so; a second Ctrl-C waits for nothing."""
        run.stop.ask()
        ended = self.thread.submit(execution.cancel())
        while not _is_done(ended):
            run.stop.insist()
        with suppress(KeyboardInterrupt):
            self.holds_exit = not self._conclude(run_id, Ending.CANCELLED, INTERRUPTED)

    def _conclude(self, run_id: str, ending: Ending, message: str) -> bool:
        """Has the server say how a run ended that Prefect itself did not bring to its end; False where it does not."""
        try:
            self.thread.submit(self.runs.conclude(run_id, ending, message)).result(HISTORY_SECONDS)
        except (ServerUnavailable, TimeoutError):
            return False
        return True


def write_down(seconds: float) -> None:
    """Has all logs and events at the server, or gives them up after so long each."""
    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=seconds)


def _ending(status: DataCubeStatus) -> tuple[Ending, str]:
    ending = Ending.COMPLETED if status.phase is Phase.SUCCEEDED else Ending.FAILED
    return ending, ": ".join(outcome(status))


def _is_done(future: Future[Any]) -> bool:
    """Waits for a future; False where Ctrl-C was pressed before."""
    try:
        wait([future])
    except KeyboardInterrupt:
        return False
    return True
