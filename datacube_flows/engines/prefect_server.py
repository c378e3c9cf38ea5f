"""What is asked of a Prefect server: one deployment, its flow runs and their states, and what people do to them.

The server keeps a history. It may be away at any time: every method then raises `ServerUnavailable`, soon.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.flow_engine import run_flow_async
from prefect.states import AwaitingRetry, Scheduled

from datacube_flows.core import labels
from datacube_flows.engines.prefect_flow import WORK, transfer
from datacube_flows.engines.prefect_gate import EDGE, Edge, Gate
from datacube_flows.engines.prefect_view import DEPLOYMENT, FLOW, run_parameters, run_tags, run_title
from datacube_flows.errors import DataCubeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from datacube_flows.core.plan import TransferPlan
    from datacube_flows.engines.prefect_flow import Work

ANSWER_SECONDS: Final = 15.0
"""How long one question to the server may take, with all that the client tries by itself."""

TELL_SECONDS: Final = 20.0
"""So long may a flow take for its report and last state, once there is room for it."""

REFUSALS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

PAGE: Final = 200
QUEUED: Final = "Queued"

OPEN: Final = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED)

PEOPLE_DO: Final = ("prefect.flow-run.Cancelling", "prefect.flow-run.Cancelled", "prefect.flow-run.AwaitingRetry")
"""Events that tell of a cancellation or a retry that somebody asked for."""


class ServerUnavailable(DataCubeError):
    """The Prefect server gives no answer, or one that cannot be used."""


class Ending(StrEnum):
    """How a flow run ends, or is held."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    HELD = "PAUSED"


@dataclass(frozen=True)
class RunSeen:
    """A flow run as the server has it.

    Attributes:
        id: its id.
        cube: the DataCube that it was made for, as `namespace/name`.
        uid: that one's uid; empty where somebody else made it.
        run: the name of the DataCube's run that it was made for.
        state: type of its state, such as `RUNNING`.
        state_name: what people see, such as `AwaitingRetry`.
        message: what its state says.
        created: when it was made.
        count: how often it was begun.
    """

    id: str
    cube: str
    uid: str
    run: str
    state: str
    state_name: str
    message: str
    created: datetime
    count: int

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in {str(state.value) for state in OPEN}

    @property
    def is_retry(self) -> bool:
        """Whether it is to be begun once more."""
        return self.state_name == "AwaitingRetry"


class FlowRuns:
    """The flow runs of one deployment. Used on one event loop alone, on which there is a client (see `FlowThread`)."""

    def __init__(self) -> None:
        self._deployment: UUID | None = None
        self._first, self._gate = asyncio.Lock(), Gate()
        self._executed: dict[str, asyncio.Task[Any]] = {}

    async def check(self) -> None:
        """Has the deployment there; it has no schedule and no work pool: who runs it is whoever calls `execute`."""
        if self._deployment is None:
            await self._id()
            return
        async with self._client() as client:
            await client.request("GET", "/health")

    async def begin(self, plan: TransferPlan, run: str, key: str) -> RunSeen:
        """Makes the flow run of a run, or finds the one that was made with that key."""
        deployment = await self._id()
        async with self._client() as client:
            try:
                made = await client.create_flow_run_from_deployment(
                    deployment,
                    parameters=run_parameters(plan),
                    state=Scheduled(name=QUEUED),
                    name=run_title(plan),
                    tags=run_tags(plan),
                    idempotency_key=key,
                    labels={labels.UID: plan.uid, labels.RUN: run},
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code == HTTPStatus.NOT_FOUND:
                    self._deployment = None  # somebody deleted it, or the database: the next question makes it anew
                raise
            return _seen(made)

    async def begin_alone(self, plan: TransferPlan) -> str:
        """Makes a flow run that no deployment has, so that no operator takes it for its own, and returns its id."""
        async with self._client() as client:
            made = await client.create_flow_run(
                transfer,
                parameters=run_parameters(plan),
                state=Scheduled(name=QUEUED),
                name=run_title(plan),
                tags=run_tags(plan),
            )
            return str(made.id)

    async def find(self, run_id: str) -> RunSeen | None:
        """Returns a flow run; None where there is none of that id."""
        async with self._client() as client:
            try:
                return _seen(await client.read_flow_run(UUID(run_id)))
            except (ObjectNotFound, ValueError):
                return None

    async def open_runs(self) -> list[RunSeen]:
        """Returns all flow runs of the deployment that have not ended, the oldest first."""
        found: list[RunSeen] = []
        state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(OPEN)))
        deployment = DeploymentFilter(id=DeploymentFilterId(any_=[await self._id()]))
        while True:
            async with self._client() as client:
                page = await client.read_flow_runs(
                    flow_run_filter=FlowRunFilter(state=state),
                    deployment_filter=deployment,
                    sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                    limit=PAGE,
                    offset=len(found),
                )
            found += map(_seen, page)
            if len(page) < PAGE:
                return found

    async def execute(self, run_id: str, work: Work) -> None:
        """Runs a flow run to its end; one that was begun before goes on, with the attempts that are known.

        Raises:
            ServerUnavailable: it could not begin, or its end was not taken in time.
        """
        edge = Edge(self._gate)
        flow = asyncio.create_task(self._run(run_id, work, edge))
        telling = asyncio.create_task(edge.telling.wait())
        self._executed[run_id] = flow
        flow.add_done_callback(lambda done: self._forget(run_id, done))
        try:
            await asyncio.wait({flow, telling}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({flow}, timeout=TELL_SECONDS)
            if not flow.done():
                raise ServerUnavailable("the Prefect server does not take the end of a flow run")
            await flow
        finally:
            flow.cancel()
            telling.cancel()
            edge.leave()

    async def _run(self, run_id: str, work: Work, edge: Edge) -> None:
        await edge.enter()
        flow_run = await self._ready(run_id)
        WORK.set(work)
        EDGE.set(edge)
        parameters = run_parameters(work.plan)
        await run_flow_async(transfer, flow_run=flow_run, parameters=parameters, return_type="state")

    def _forget(self, run_id: str, done: asyncio.Task[Any]) -> None:
        """A flow has ended; how, is looked at where it was waited for, if anybody still waits."""
        if self._executed.get(run_id) is done:
            del self._executed[run_id]
        if not done.cancelled():
            done.exception()

    async def _ready(self, run_id: str) -> FlowRun:
        """A flow run that may begin: for the first time, or once more.

        Prefect would give a deployment's run a thread, a loop and a connection of its own, to hear that it is
        suspended, and hold all others up until these are there and gone again.
        """
        await self._id()
        async with self._client() as client:
            flow_run = await client.read_flow_run(UUID(run_id))
            if flow_run.state is None or flow_run.state.name != QUEUED:
                await client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
                flow_run = await client.read_flow_run(flow_run.id)
        return flow_run.model_copy(update={"deployment_id": None})

    async def conclude(self, run_id: str, ending: Ending, message: str) -> None:
        """Ends a flow run, and what is open of its tasks, whatever their states were; one that is executed, first."""
        if (task := self._executed.get(run_id)) is not None:
            task.cancel()
            await asyncio.wait([task], timeout=ANSWER_SECONDS)
        state: State[Any] = State(type=StateType(ending.value), name=_NAMES[ending], message=message[:2000])
        await self._id()
        async with self._client() as client:
            tasks = await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run_id)])), limit=PAGE
            )
            for run in tasks:
                if run.state is None or not run.state.is_final() or run.state.is_crashed():
                    await client.set_task_run_state(run.id, _ended_task(state), force=True)
            with suppress(ObjectNotFound):  # somebody has deleted it
                await client.set_flow_run_state(UUID(run_id), state, force=True)

    async def what_people_do(self) -> AsyncIterator[str]:
        """Yields the id of each flow run that somebody cancels or retries; empty texts once it listens.

        Raises:
            ServerUnavailable: the connection is lost; something may have been missed.
        """
        wanted = EventFilter(event=EventNameFilter(name=list(PEOPLE_DO)))
        async with _translated(), get_events_subscriber(wanted, reconnection_attempts=0) as subscriber:
            yield ""
            async for event in subscriber:
                yield event.resource.id.removeprefix("prefect.flow-run.")
        raise ServerUnavailable("the Prefect server ended the subscription")

    async def answers_others(self) -> bool:
        """Whether the server answers a client that nobody has used before."""
        with suppress(ServerUnavailable):
            async with (
                _translated(),
                asyncio.timeout(ANSWER_SECONDS),
                get_client(httpx_settings={"timeout": ANSWER_SECONDS}, sync_client=False) as client,
            ):
                await client.request("GET", "/health")
                return True
        return False

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[PrefectClient]:
        """The client that all share, for one question; those wait for their turn before their time runs."""
        async with _translated(), self._gate.questions, asyncio.timeout(ANSWER_SECONDS), get_client() as client:
            yield client

    async def _id(self) -> UUID:
        """The deployment's id, made by the first who asks, alone: two first writes at once spoil each other's token."""
        async with self._first:
            if self._deployment is None:
                async with self._client() as client:
                    self._deployment = await client.create_deployment(
                        await client.create_flow_from_name(FLOW),
                        DEPLOYMENT,
                        description="Runs of DataCubes. Apply a DataCube to begin one.",
                        tags=[labels.MANAGER],
                        enforce_parameter_schema=False,
                        parameter_openapi_schema={"type": "object", "properties": {}},
                    )
            return self._deployment


_NAMES: Final = {
    Ending.COMPLETED: "Completed",
    Ending.FAILED: "Failed",
    Ending.CANCELLED: "Cancelled",
    Ending.HELD: "Suspended",
}


def _ended_task(state: State[Any]) -> State[Any]:
    """The state of a task whose run ends: one that is only held is ended all the same, and begun anew."""
    if state.type is StateType.PAUSED:
        return State(type=StateType.CANCELLED, name="Cancelled", message=state.message)
    return State(type=state.type, name=state.name, message=state.message)


def _seen(run: FlowRun) -> RunSeen:
    state = run.state
    assert run.created is not None  # noqa: S101 - the server sets it
    return RunSeen(
        id=str(run.id),
        cube=run.name,
        uid=str(run.labels.get(labels.UID, "")),
        run=str(run.labels.get(labels.RUN, "")),
        state=str(state.type.value) if state else "",
        state_name=(state and state.name) or "",
        message=(state and state.message) or "",
        created=run.created,
        count=run.run_count,
    )


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Has one error for all ways in which a server can be away; its text names no address and no credential."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        remedy = ": set PREFECT_API_AUTH_STRING to the server's" if code in REFUSALS else ""
        raise ServerUnavailable(f"the Prefect server answers {code}{remedy}") from error
    except (httpx.HTTPError, PrefectException, OSError, TimeoutError, RuntimeError) as error:
        raise ServerUnavailable(f"the Prefect server gives no usable answer ({type(error).__name__})") from error
