"""The flow `transfer`: provision, attempts with Prefect's retries, report. The same in the operator and on one machine.

Prefect decides when an attempt is made and keeps the history; what an attempt is stands in `Work`, which a run gets by
a context variable and not as a parameter: parameters are stored. The deadline is the attempt's own, not Prefect's.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from prefect import Task, flow, get_run_logger, task
from prefect.artifacts import (
    acreate_link_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from prefect.transactions import get_transaction

from datacube_flows.api.reasons import Reason
from datacube_flows.core.observation import PodPhase
from datacube_flows.core.retry import BACKOFF_JITTER, backoff_seconds
from datacube_flows.engines.prefect_gate import EDGE, asking
from datacube_flows.engines.prefect_view import (
    FLOW,
    artifact_key,
    attempt_words,
    attempts_table,
    progress_text,
    result_rows,
    store_page,
    store_place,
)
from datacube_flows.errors import TransferError, WaitingError
from datacube_flows.steps import is_followed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from prefect.client.schemas.objects import State

    from datacube_flows.core.observation import AttemptSeen
    from datacube_flows.core.plan import TransferPlan

PROGRESS_SECONDS: Final = 10.0
"""How often the progress artifact moves at most."""

HISTORY_SECONDS: Final = 5.0
"""How long a run waits for the server to take an artifact: history never holds a transfer up."""

MAX_DELAYS: Final = 50
"""As many delays as Prefect takes; the last one is used for all further retries."""


class Known(Protocol):
    """What is known of a run."""

    @property
    def plan(self) -> TransferPlan:
        """What is to be done."""

    @property
    def attempts(self) -> Sequence[AttemptSeen]:
        """All that are known, oldest first, also those of before a restart."""


class Work(Known, Protocol):
    """What a run does its work with; one for each run."""

    async def provision(self) -> str:
        """Has the claim there, and returns what was done.

        Raises:
            TransferError: it cannot be had.
            WaitingError: it is not there, and nobody makes it.
        """

    async def run_attempt(self, number: int) -> AttemptSeen:
        """Makes an attempt, or finds the one of that number that was made, and returns it after its end.

        Raises:
            TransferError: it cannot be made; none is made after it.
        """

    def progress(self) -> Mapping[str, Any]:
        """The counters of the attempt that runs, as `status.progress` has them."""

    async def lines(self, seen: AttemptSeen) -> Sequence[str]:
        """What an attempt that ended said that is of use to a person."""


NOWHERE: Final = Path(tempfile.gettempdir())
"""Where results would be stored, were there any: Prefect would ask its server for the place at each run."""

WORK: ContextVar[Work] = ContextVar("work")


@flow(name=FLOW, validate_parameters=False, persist_result=False, result_storage=NOWHERE)
async def transfer(
    datacube: str, source: str, sink: str, attempts: int, *, deadline_seconds: int | None = None, sync: bool = False
) -> State[Any]:
    """Moves data once, between a claim and a store. Runs are begun for DataCubes: apply one to have it run."""
    del datacube, source, sink, attempts, deadline_seconds, sync  # shown; what is done stands in the plan
    work, edge = WORK.get(), EDGE.get()
    if edge is not None:
        edge.leave()
    try:
        await provision()
        if is_due(work):
            await asyncio.sleep(_pause(work))
            made = _attempts_of(work)(return_state=True)
            state = await made  # type: ignore[misc]  # as below
            if is_due(work):
                await state.aresult()  # raises what kept an attempt from being made
    except (TransferError, WaitingError) as error:
        await _tell()
        return Failed(message=f"{error.reason}: {error.message}")
    await _tell()
    return final_state(work.attempts[-1])


async def _tell() -> None:
    """Reports, once there is room for this flow to end."""
    if (edge := EDGE.get()) is not None:
        await edge.end()
    await report()


@task(name="provision", task_run_name="provision", cache_policy=NO_CACHE, persist_result=False)
async def provision() -> None:
    """Has the claim there."""
    if done := await WORK.get().provision():
        get_run_logger().info(done)


@task(name="attempt", task_run_name="attempt", cache_policy=NO_CACHE, persist_result=False)
async def attempt() -> State[Any]:
    """Makes one attempt, each time that Prefect asks. It returns its failure: raised, it would take back its pod's."""
    work = WORK.get()
    number = next_number(work)
    made = pod.with_options(task_run_name=f"attempt {number}")(number, return_state=True)
    state = await made  # type: ignore[misc]  # Prefect's types take it for a task that is no coroutine
    last = work.attempts[-1] if work.attempts else None
    if last is None or last.number != number:
        await state.aresult()  # raises what kept the attempt from being made
    return _state_of(last or work.attempts[-1])


@task(name="pod", cache_policy=NO_CACHE, persist_result=False)
async def pod(number: int) -> State[Any]:
    """Runs an attempt to its end, shows how far it is, and what it said."""
    _keep_state()
    work, logger = WORK.get(), get_run_logger()
    showing = asyncio.create_task(_show_progress(work))
    try:
        seen = await work.run_attempt(number)
    finally:
        showing.cancel()
    for line in await work.lines(seen):
        logger.info(line)
    return _state_of(seen)


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)
async def report() -> None:
    """Writes the result, its place and all attempts down where people look; without the server, it is left out."""
    with suppress(Exception):
        async with asyncio.timeout(HISTORY_SECONDS):
            await _write_artifacts(WORK.get())


def next_number(work: Known) -> int:
    """Returns the number of the attempt that is to be made, or to be waited for."""
    last = work.attempts[-1] if work.attempts else None
    if last is None:
        return 1
    return last.number if last.phase in (PodPhase.PENDING, PodPhase.RUNNING) else last.number + 1


def is_due(work: Known) -> bool:
    """Whether an attempt is to be made or waited for, after all that are known."""
    last = work.attempts[-1] if work.attempts else None
    return last is None or last.phase in (PodPhase.PENDING, PodPhase.RUNNING) or is_followed(work.plan, last)


def final_state(last: AttemptSeen) -> State[Any]:
    """Returns the state that a run ends in after its last attempt."""
    reason, _ = attempt_words(last)
    if last.phase is PodPhase.FAILED:
        return Failed(message=sentence(last))
    return Completed(name=reason if reason == Reason.UP_TO_DATE else None, message=sentence(last))


def _state_of(seen: AttemptSeen) -> State[Any]:
    """The state of the task that an attempt is, called by its reason where it failed."""
    text = f"{seen.pod}: {sentence(seen)}" if seen.pod else sentence(seen)
    if seen.phase is PodPhase.FAILED:
        return Failed(name=attempt_words(seen)[0], message=text)
    return Completed(message=text)


def sentence(seen: AttemptSeen) -> str:
    """Returns how an attempt ended, as one text."""
    return ": ".join(part for part in attempt_words(seen) if part)


def _keep_state() -> None:
    """Has Prefect leave the state of this task as it is: a failure around it would make `RolledBack` of its reason."""
    if (transaction := get_transaction()) is not None:
        transaction.on_rollback_hooks.clear()


def _attempts_of(work: Work) -> Task[[], Any]:
    """The task with as many retries as are left, and their delays; those that failed before a restart are spent."""
    done = sum(seen.phase is PodPhase.FAILED for seen in work.attempts)
    left = max(work.plan.retries - done, 0)
    delays = [backoff_seconds(done + n, jitter=0.5) for n in range(1, min(left, MAX_DELAYS) + 1)]
    return attempt.with_options(
        retries=left,
        retry_delay_seconds=delays or 0,
        retry_jitter_factor=BACKOFF_JITTER,
        retry_condition_fn=lambda _task, _run, state: not isinstance(state.data, Exception) and is_due(work),
    )


def _pause(work: Work) -> float:
    """What is left of the back-off after an attempt that failed before a restart."""
    last = work.attempts[-1] if work.attempts else None
    if last is None or last.phase is not PodPhase.FAILED or last.finished is None:
        return 0.0
    passed = (datetime.now(UTC) - last.finished).total_seconds()
    return max(backoff_seconds(last.number, jitter=0.5) - passed, 0.0)


async def _show_progress(work: Work) -> None:
    """Moves the progress artifact while an attempt runs; that the server is down holds nothing up."""
    shown: Mapping[str, Any] = {}
    artifact = None
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        counters = dict(work.progress())
        if not counters or counters == shown:
            continue
        with suppress(Exception):
            async with asking(HISTORY_SECONDS):
                artifact = await _put_progress(work, artifact, counters)
                shown = counters


async def _put_progress(work: Work, artifact: UUID | None, counters: Mapping[str, Any]) -> UUID:
    percent, text = float(counters.get("percent", 0)), progress_text(counters)
    if artifact is None:
        key = artifact_key(work.plan, "progress")
        return await acreate_progress_artifact(percent, key=key, description=text)
    await aupdate_progress_artifact(artifact, progress=percent, description=text)
    return artifact


async def _write_artifacts(work: Work) -> None:
    plan, attempts = work.plan, work.attempts
    last = attempts[-1] if attempts else None
    if attempts:
        await acreate_table_artifact(
            attempts_table(attempts), key=artifact_key(plan, "attempts"), description="Attempts"
        )
    done = last.report if last and last.phase is PodPhase.SUCCEEDED else None
    if done is not None:
        await acreate_table_artifact(result_rows(done), key=artifact_key(plan, "result"), description="Result")
    if page := store_page(plan, done.revision if done else ""):
        await acreate_link_artifact(page, key=artifact_key(plan, "store"), link_text=store_place(plan))
