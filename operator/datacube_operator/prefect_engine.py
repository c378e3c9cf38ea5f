"""Runs in Prefect: a flow run for each run, executed by this process, its attempts pods of the DataCube.

What Prefect says decides nothing but what people ask for there: a cancellation, a retry. All else is read from pods and
status, so that a server that is away, or has lost its database, holds up no transfer that runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import Phase
from datacube_flows.core import labels
from datacube_flows.core.observation import ENDED, AttemptSeen, Observation, PodPhase
from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.engines.prefect_observe import attempt_lost, attempt_told, observe_flow
from datacube_flows.engines.prefect_server import Ending, ServerUnavailable
from datacube_flows.engines.prefect_view import DEPLOYMENT, FLOW
from datacube_operator.backoff import Backoff, Failures
from datacube_operator.clock import sleep
from datacube_operator.engine import Found
from datacube_operator.errors import TemporaryError
from datacube_operator.logs import log
from datacube_operator.prefect_decisions import CANCELLED as CANCELLED_STATES
from datacube_operator.prefect_decisions import asks_for, place_told
from datacube_operator.prefect_run import FlowWork, PrefectRun

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.core.plan import TransferPlan
    from datacube_flows.engines.prefect_server import FlowRuns, RunSeen
    from datacube_flows.engines.prefect_thread import FlowThread
    from datacube_operator.attempt_pods import AttemptPods
    from datacube_operator.clock import Clock
    from datacube_operator.informer import Informer
    from datacube_operator.prefect_history import History
    from datacube_operator.progress import ProgressReader

    Object = dict[str, Any]

CANCELLED: Final = "the run was cancelled in Prefect: retry it there, or set a new re-run annotation"
DELETED: Final = "the flow run was deleted in Prefect: set a new re-run annotation to run it again"
GONE: Final = "the DataCube was deleted"
RETRY_SECONDS: Final = 5.0
PAUSES: Final = Backoff(first=1.0, cap=60.0, jitter=0.5)


@dataclass(frozen=True)
class PrefectParts:
    """What the engine works with.

    Attributes:
        thread: where flows are executed.
        runs: the server's side.
        history: completes what the server does not know.
        pods: makes attempts.
        cubes: informer of DataCubes.
        reader: what running attempts print; None where nobody may read it.
        clock: for pauses, and for what becomes old.
        wake: has a DataCube looked at.
        limit: how many runs are executed at once.
        keep_seconds: how long pods are kept after the end of their run.
        ui_url: address of Prefect's pages; empty where it is not known.
    """

    thread: FlowThread
    runs: FlowRuns
    history: History
    pods: AttemptPods
    cubes: Informer
    reader: ProgressReader | None
    clock: Clock
    wake: Callable[[str], None]
    limit: int
    keep_seconds: int
    ui_url: str = ""


class PrefectEngine:
    """See `Engine`."""

    name = "prefect"

    def __init__(self, parts: PrefectParts) -> None:
        self._parts, self._pods = parts, parts.pods
        self._runs: dict[str, PrefectRun] = {}
        self._queue: deque[PrefectRun] = deque()

    def unavailable(self) -> str:
        """Whether the server answered of late."""
        return self._parts.history.trouble

    def run_name(self, plan: TransferPlan) -> str:
        """The run's name, which its pods bear too."""
        return plan.run_name

    def is_own_run(self, plan: TransferPlan, run: str) -> bool:
        """Whether it is the name of this DataCube and a run's id."""
        return run == plan.model_copy(update={"run_id": run[-8:]}).run_name

    def workflow_status(self, plan: TransferPlan, run: str, uid: str) -> dict[str, str]:
        """The deployment, the run, its flow run and the page of that."""
        del plan
        url = f"{self._parts.ui_url}/runs/flow-run/{uid}" if self._parts.ui_url and uid else ""
        fields = {"engine": self.name, "template": f"{FLOW}/{DEPLOYMENT}", "name": run, "uid": uid, "url": url}
        return {name: value for name, value in fields.items() if value}

    def find(self, plan: TransferPlan, run: str) -> Found:
        """The run as this process knows it, and its pods."""
        known = self._runs.get(f"{plan.namespace}/{run}")
        pods = self._pods.of_run(plan.model_copy(update={"run_id": run[-8:]}))
        if known is None:
            is_going = any(pod["metadata"].get("deletionTimestamp") for pod in pods)
            return Found(pods=pods, is_going=is_going)
        known.see(pods)
        return Found(known.to_object(), pods, is_open=not known.is_over)

    def observe(self, plan: TransferPlan, found: Found, now: datetime) -> Observation:
        """How the run and its pods stand."""
        del now
        if found.workflow is None:
            return observe_flow(plan, found.pods)
        run: PrefectRun = found.workflow["run"]
        return observe_flow(plan, found.pods, run.attempts, waiting=self._place_of(run) or run.waiting, ended=run.ended)

    def is_stale(self, plan: TransferPlan, found: Found) -> bool:
        """Never: pods are made from the plan itself."""
        del plan, found
        return False

    async def look(self, plan: TransferPlan, run: str, told: DataCubeStatus) -> Object | None:
        """The flow run as the server has it; one that was begun before this process goes on here."""
        uid = (told.workflow and told.workflow.uid) or ""
        seen = await self._ask(self._parts.runs.find(uid))
        if seen is None:
            return None
        as_run = plan.model_copy(update={"run_id": run[-8:]})
        return self._take_up(as_run, seen, told).to_object()

    async def prepare(self, plan: TransferPlan) -> None:
        """Nothing has to be there."""

    async def submit(self, plan: TransferPlan, told: DataCubeStatus, *, claim_exists: bool) -> Found:
        """Makes the flow run, or finds it made; somebody's retry goes on in the one that is retried."""
        del claim_exists  # the flow looks
        if f"{plan.namespace}/{plan.run_name}" not in self._runs:
            seen = await self._retried(plan)
            if seen is None:
                key = f"{plan.uid}-{plan.run_id}"
                seen = await self._ask(self._parts.runs.begin(plan, plan.run_name, key))
            self._take_up(plan, seen, told)
        return self.find(plan, plan.run_name)

    async def stop(self, plan: TransferPlan, found: Found, why: tuple[Reason, str]) -> None:
        """Ends the flow, and removes the run's pods."""
        run = self._runs.pop(f"{plan.namespace}/{plan.run_name}", None)
        if run is not None:
            self._let_go(run)
            is_held = why[0] is Reason.SUSPENDED
            self._parts.history.owe(run.id, Ending.HELD if is_held else Ending.FAILED, f"{why[0]}: {why[1]}")
        await self._pods.remove(plan)

    def forget(self, namespace: str) -> None:
        """Nothing is remembered of a namespace."""

    def release(self, uid: str) -> None:
        """Ends the runs of a DataCube that is gone; its pods go with it."""
        for key, run in list(self._runs.items()):
            if run.plan.uid == uid:
                del self._runs[key]
                self._let_go(run)
                self._parts.history.owe(run.id, Ending.CANCELLED, GONE)

    async def watch_over(self, plan: TransferPlan, found: Found, now: datetime) -> None:
        """Nothing hangs: whoever executes a flow looks after it."""

    async def clear_up(self, plan: TransferPlan, found: Found, now: datetime) -> float | None:
        """Forgets the run, and removes its pods when their time is over; says when that is."""
        if found.workflow is not None:
            run: PrefectRun = found.workflow["run"]
            if not run.is_over:
                return None
            if not run.is_executed:
                self._runs.pop(f"{plan.namespace}/{run.plan.run_name}", None)
        if any(observe_pod(pod).phase not in ENDED for pod in found.pods):  # made while the run was being ended
            await self._pods.remove(plan)
            return None
        ends = [end for pod in found.pods if (end := observe_pod(pod).finished)]
        if not ends:
            return None
        left = (max(ends) + timedelta(seconds=self._parts.keep_seconds) - now).total_seconds()
        if left > 0:
            return left
        await self._pods.remove(plan)
        return None

    async def cancel(self, seen: RunSeen) -> None:
        """Ends a run since somebody cancelled its flow run."""
        run = self.of_flow_run(seen.id)
        if run is None or run.is_over:
            return
        run.end((Reason.CANCELLED, CANCELLED), self._parts.clock.utc())
        self._let_go(run)
        self._parts.history.owe(run.id, Ending.CANCELLED, CANCELLED)
        self._parts.wake(run.key)
        await self._pods.remove(run.plan)

    def of_flow_run(self, run_id: str) -> PrefectRun | None:
        """The run that a flow run is of, as far as this process knows it."""
        return next((run for run in self._runs.values() if run.id == run_id), None)

    def _take_up(self, plan: TransferPlan, seen: RunSeen, told: DataCubeStatus) -> PrefectRun:
        """Has a run executed when its turn comes, with the attempts that are known; not one that was cancelled."""
        key = f"{plan.namespace}/{plan.run_name}"
        if (known := self._runs.get(key)) is not None:
            return known
        run = PrefectRun(plan, seen.id, seen.created, self._attempts_told(plan, told))
        run.see(self._pods.of_run(plan))
        run.counters = lambda: self._counters(run)
        self._runs[key] = run
        if seen.state in CANCELLED_STATES and seen.count:
            run.end((Reason.CANCELLED, CANCELLED), self._parts.clock.utc())
            self._parts.history.owe(run.id, Ending.CANCELLED, CANCELLED)
        else:
            self._queue.append(run)
            self._pump()
        return run

    def _attempts_told(self, plan: TransferPlan, told: DataCubeStatus) -> tuple[AttemptSeen, ...]:
        """The attempts that the status tells of; one that ran then, and has no pod, was lost since."""
        pods = {observe_pod(pod).number for pod in self._pods.of_run(plan)}
        found = []
        for seen in map(attempt_told, told.attempts or ()):
            is_lost = seen.phase is PodPhase.RUNNING and seen.number not in pods
            found.append(attempt_lost(plan, seen.number, None, self._parts.clock.utc()) if is_lost else seen)
        return tuple(sorted(found, key=lambda seen: seen.number))

    async def _retried(self, plan: TransferPlan) -> RunSeen | None:
        """The flow run that the run is to go on in, since somebody retried it; None where it is one of its own."""
        cube = self._parts.cubes.store.get(f"{plan.namespace}/{plan.name}")
        notes = (cube or {}).get("metadata", {}).get("annotations") or {}
        wanted = asks_for(notes.get(labels.RERUN, ""))
        seen = await self._ask(self._parts.runs.find(wanted)) if wanted else None
        return seen if seen is not None and seen.uid == plan.uid else None

    async def _ask(self, question: Coroutine[Any, Any, Any]) -> Any:
        """Asks the server.

        Raises:
            TemporaryError: there is no answer; the reconcile comes again.
        """
        try:
            return await self._parts.thread.call(question)
        except ServerUnavailable as error:
            self._parts.history.lost(str(error))
            raise TemporaryError(str(error), RETRY_SECONDS) from error

    def _pump(self) -> None:
        """Begins as many runs as there is room for, in their order."""
        running = sum(run.is_executed for run in self._runs.values())
        while self._queue and running < self._parts.limit:
            run = self._queue.popleft()
            run.place = ""
            if not run.is_over or run.attempts:
                run.driver = asyncio.create_task(self._drive(run))
                running += 1
        self._tell_places()

    def _tell_places(self) -> None:
        """Notes which place a run has that waits; only those are looked at for whom that is another one now."""
        for number, run in enumerate(self._queue, 1):
            place = place_told(number)
            if place != run.place:
                run.place = place
                self._parts.wake(run.key)

    async def _drive(self, run: PrefectRun) -> None:
        """Has a run executed until it is over, whatever becomes of a flow meanwhile."""
        work = FlowWork(run, self._pods, asyncio.get_running_loop(), lambda: self._parts.wake(run.key))
        failures, is_told = Failures(PAUSES), False
        self._parts.wake(run.key)
        try:
            while not is_told:
                try:
                    await self._parts.thread.call(self._parts.runs.execute(run.id, work))
                    is_told = run.is_over
                except Exception as error:  # noqa: BLE001 - whatever Prefect raises, the transfer goes on
                    log.warning("flow run interrupted", flow_run=run.id, error=type(error).__name__)
                if run.is_over:
                    break
                await sleep(self._parts.clock, failures.pause())
                await self._see_ended(run)
        finally:
            if not is_told and run.is_over:
                self._owe_end(run)
            run.driver = None
            self._parts.wake(run.key)
            self._pump()

    async def _see_ended(self, run: PrefectRun) -> None:
        """A flow that did not begin may have been cancelled before it could, or its flow run deleted."""
        with suppress(TemporaryError):
            seen = await self._ask(self._parts.runs.find(run.id))
            if seen is None:
                run.end((Reason.RUN_DELETED, DELETED), self._parts.clock.utc())
            elif seen.state in CANCELLED_STATES:
                run.end((Reason.CANCELLED, CANCELLED), self._parts.clock.utc())

    def _owe_end(self, run: PrefectRun) -> None:
        self._parts.history.owe(run.id, *ending_of(observe_flow(run.plan, (), run.attempts, ended=run.ended)))

    def _let_go(self, run: PrefectRun) -> None:
        if run.place:
            self._queue.remove(run)
            run.place = ""
            self._tell_places()
        if run.driver is not None:
            run.driver.cancel()

    def _place_of(self, run: PrefectRun) -> tuple[Reason, str] | None:
        """Why a run waits that is not executed yet."""
        if not run.place:
            return None
        return Reason.QUEUED, f"{run.place} in the queue: {self._parts.limit} transfers run at once"

    def _counters(self, run: PrefectRun) -> dict[str, Any]:
        last = run.attempts[-1] if run.attempts else None
        told = self._parts.reader.latest(last.uid) if self._parts.reader and last else None
        return dict(told.counters) if told else {}


def ending_of(seen: Observation) -> tuple[Ending, str]:
    """Returns how a flow run is to end whose run stands so."""
    last = seen.attempts[-1] if seen.attempts else None
    if last is not None and last.phase is PodPhase.SUCCEEDED:
        return Ending.COMPLETED, "the transfer is complete"
    reason, message = seen.ended or (last.failure if last else (Reason.RUN_DELETED, GONE))
    return Ending.CANCELLED if reason is Reason.CANCELLED else Ending.FAILED, f"{reason}: {message}"


def ending_told(status: DataCubeStatus) -> tuple[Ending, str]:
    """Returns how a flow run is to end whose DataCube has a final status."""
    said = next((c for c in status.conditions or () if c.status == "True" and c.type in ("Complete", "Failed")), None)
    text = ": ".join(part for part in ((said and said.reason) or "", (said and said.message) or "") if part)
    if status.phase is Phase.SUCCEEDED:
        return Ending.COMPLETED, text
    return Ending.CANCELLED if said and said.reason == Reason.CANCELLED else Ending.FAILED, text
