"""The operator is killed before and after each of its writes, and comes back: one run, and the same end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.resource import PODS, WORKFLOWS

from datacube_flows.core import labels
from tests.controller.api_proxy import Fault
from tests.controller.played_kubelet import ENDED, crash, hang, succeed
from tests.controller.scenarios_documents import download

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.controller.scenarios_bench import Outcome, Stage, World

pytestmark = [pytest.mark.t2, pytest.mark.anyio, pytest.mark.timeout(180)]

ALL_WRITES = "^(POST|PUT|PATCH|DELETE) .*/namespaces/{namespace}/"
RUN_WRITES = f"{ALL_WRITES}(datacubes|workflows|workflowtemplates)"
SECONDS = 30.0
MOST = 40
QUIET_SECONDS = 0.15
STEP_SECONDS = 0.05


@asynccontextmanager
async def kept_running(world: World) -> AsyncIterator[None]:
    """Starts the operator again whenever it has ended, as the kubelet does, while the block runs."""
    task = asyncio.create_task(_keep_running(world))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_running(world: World) -> None:
    while True:
        if not world.operator.is_running:
            world.operator.start()
        await asyncio.sleep(STEP_SECONDS)


@asynccontextmanager
async def one_at_a_time(stage: Stage) -> AsyncIterator[None]:
    """Looks all the while that no two attempts live at once."""
    seen: list[list[str]] = []
    task = asyncio.create_task(_look(stage, seen))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert seen == []


async def _look(stage: Stage, seen: list[list[str]]) -> None:
    pods = stage.world.played.informers[PODS].store
    while True:
        alive = [pods.get(key) or {} for key in pods if key.startswith(f"{stage.namespace}/")]
        names = [p["metadata"]["name"] for p in alive if is_alive(p)]
        seen += [names] if len(names) > 1 else []
        await asyncio.sleep(STEP_SECONDS)


def is_alive(pod: dict[str, Any]) -> bool:
    step = pod["metadata"]["labels"].get(labels.STEP)
    return step == labels.TRANSFER and pod["status"].get("phase") not in ENDED


@dataclass(frozen=True)
class Story:
    """What happens before the first kill, what happens then, and what must have come of it.

    `writes` are those at which the operator is killed: in one story all of them, else those that a run stands on.
    """

    before: Callable[[Stage], Awaitable[object]]
    then: Callable[[Stage], Awaitable[Outcome]]
    runs: int = 1
    attempts: tuple[tuple[int, str], ...] = ((1, ""),)
    writes: str = RUN_WRITES


async def begin_nothing(stage: Stage) -> None:
    """From the very beginning."""


async def run_with_a_retry(stage: Stage) -> Outcome:
    await stage.create(download("cube", backoffLimit=1), crash(75), succeed())
    return await stage.ends("cube", SECONDS)


async def begin_and_run(stage: Stage) -> None:
    await stage.create(download("cube"), hang())
    await stage.phase("cube", "Running")
    await stage.quiet(QUIET_SECONDS)


async def suspend_and_resume(stage: Stage) -> Outcome:
    await stage.suspend("cube", on=True)
    await stage.phase("cube", "Suspended", SECONDS)
    await stage.gone(WORKFLOWS, SECONDS)
    await stage.gone(PODS, SECONDS)
    stage.play("cube", succeed())
    await stage.suspend("cube", on=False)
    return await stage.ends("cube", SECONDS)


async def begin_and_end(stage: Stage) -> None:
    await stage.create(download("cube"), succeed())
    await stage.ends("cube")
    await stage.quiet(QUIET_SECONDS)


async def run_again(stage: Stage) -> Outcome:
    before = await stage.ends("cube")
    await stage.rerun("cube", "again")
    return await stage.until("cube", lambda now: now.phase == "Succeeded" and now.workflow != before.workflow, SECONDS)


STORIES = {
    "plain": Story(begin_nothing, run_with_a_retry, attempts=((1, "TransferError"), (2, "")), writes=ALL_WRITES),
    "suspended": Story(begin_and_run, suspend_and_resume, runs=2),
    "run-again": Story(begin_and_end, run_again, runs=2),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_operator_killed_at_each_write_ends_the_same_way(world: World, story: Story, when: str) -> None:
    async with kept_running(world):
        for number in range(MOST):
            stage = await world.stage("killed")
            await stage.claim()
            await story.before(stage)
            match = story.writes.format(namespace=stage.namespace)
            kill = Fault(match, skip=number, hold=when == "before", act=world.operator.kill)
            world.proxy.faults.append(kill)
            async with one_at_a_time(stage):
                seen = await story.then(stage)
                await stage.quiet(QUIET_SECONDS)
            assert (seen.phase, seen.conditions, seen.attempts) == ("Succeeded", "TTF", story.attempts), number
            assert len(stage.workflows()) == story.runs, number
            assert await stage.leaks() == []
            world.calm()
            if kill.times:
                break
        print(f"\nkilled {when} each of {number} writes")
        assert 3 <= number < MOST
        await world.operator.until_ready()
    assert world.operator.faults() == []


async def test_operator_that_was_away_for_a_whole_run_tells_its_end(world: World) -> None:
    stage = await world.stage("away")
    await stage.claim()
    attempt = hang()
    await stage.create(download("cube"), attempt)
    await stage.phase("cube", "Running")
    world.operator.kill()
    attempt.release()
    await asyncio.sleep(1)
    world.operator.start()
    await world.operator.until_ready()
    seen = await stage.ends("cube")
    assert (seen.phase, len(stage.workflows())) == ("Succeeded", 1)


async def test_operator_that_is_told_to_stop_gives_the_lease_back_and_leaves_the_run_alone(world: World) -> None:
    stage = await world.stage("stop")
    await stage.claim()
    attempt = hang()
    await stage.create(download("cube"), attempt)
    await stage.phase("cube", "Running")
    (before,) = await stage.pods("cube")
    assert await world.operator.stop() == 0
    assert [entry["message"] for entry in world.operator.entries()].count("lease released") >= 1
    world.operator.start()
    await world.operator.until_ready()
    attempt.release()
    seen = await stage.ends("cube")
    assert seen.status["pod"]["reference"]["uid"] == before["metadata"]["uid"]
