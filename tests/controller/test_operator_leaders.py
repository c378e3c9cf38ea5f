"""Two replicas, and a lease that is given back, lost, stolen, or held by one that sleeps: one of them writes."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
from datacube_operator.resource import LEASES

from tests.controller.api_proxy import start_api_proxy, write_kubeconfig
from tests.controller.operator_run import OperatorRun
from tests.controller.played_kubelet import hang, succeed
from tests.controller.scenarios_bench import FLAGS, WRITES
from tests.controller.scenarios_documents import download
from tests.controller.scenarios_rights import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.controller.api_proxy import ApiProxy
    from tests.controller.scenarios_bench import Stage, World

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

LEASE: Final = "datacube-operator"
LOST: Final = 1
TAKE_OVER_SECONDS: Final = 30.0


class Second:
    """The other replica, behind a proxy of its own."""

    def __init__(self, run: OperatorRun, proxy: ApiProxy) -> None:
        self.run, self.proxy = run, proxy

    def writes(self) -> list[str]:
        return writes_of(self.proxy)


def writes_of(proxy: ApiProxy) -> list[str]:
    """All writes but those of the lease."""
    import re

    return [seen.line for seen in proxy.seen if re.search(WRITES, seen.line) and "/leases" not in seen.line]


@asynccontextmanager
async def second_replica(world: World, folder: Path) -> AsyncIterator[Second]:
    async with start_api_proxy(world.server.kubeconfig, rights="client") as proxy:
        kubeconfig = write_kubeconfig(folder / "second.kubeconfig", proxy.url, world.operator.token)
        run = OperatorRun(kubeconfig, folder, FLAGS, "second", world.operator.token)
        run.start()
        try:
            await run.until_ready()
            yield Second(run, proxy)
            if run.is_running:
                assert await run.stop() == 0
            assert run.faults() == []
        finally:
            run.kill()


async def until_leads(run: OperatorRun) -> None:
    async with asyncio.timeout(TAKE_OVER_SECONDS):
        while not await run.leads():
            await asyncio.sleep(0.1)


async def restart(world: World) -> None:
    """Has the first replica lead again, for the next test."""
    if not world.operator.is_running:
        world.operator.start()
    await world.operator.until_ready()
    await until_leads(world.operator)


async def running(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), hang())
    await stage.phase("cube", "Running")


async def test_standby_writes_nothing_and_takes_over_when_the_leader_stops(
    world: World, stage: Stage, tmp_path: Path
) -> None:
    await running(stage)
    async with second_replica(world, tmp_path) as second:
        assert second.writes() == []
        assert await world.operator.stop() == 0
        await until_leads(second.run)
        await stage.create(download("next", sub_path="next"), succeed())
        assert (await stage.ends("next")).phase == "Succeeded"
    await restart(world)
    assert len(stage.workflows()) == 2


async def test_leader_that_slept_too_long_ends_and_writes_nothing_more(
    world: World, stage: Stage, tmp_path: Path
) -> None:
    await running(stage)
    async with second_replica(world, tmp_path) as second:
        world.operator.signal(signal.SIGSTOP)
        await stage.create(download("next", sub_path="next"), succeed())
        await until_leads(second.run)
        before = writes_of(world.proxy)
        world.operator.signal(signal.SIGCONT)
        assert await world.operator.ended() == LOST
        assert writes_of(world.proxy) == before
        assert (await stage.ends("next")).phase == "Succeeded"
    await restart(world)
    assert len(stage.workflows()) == 2


async def test_leader_whose_lease_is_stolen_ends_and_leaves_the_run_to_the_thief(world: World, stage: Stage) -> None:
    await running(stage)
    stolen = {"spec": {"holderIdentity": "thief"}}
    await stage.client.patch(LEASES, NAMESPACE, LEASE, stolen)
    assert await world.operator.ended() == LOST
    before = writes_of(world.proxy)
    await stage.patch("cube", {"spec": {"suspend": True}})
    await asyncio.sleep(0.5)
    assert writes_of(world.proxy) == before
    await stage.client.patch(LEASES, NAMESPACE, LEASE, {"spec": {"holderIdentity": ""}})
    await restart(world)
    assert (await stage.phase("cube", "Suspended")).attempts == ()


async def test_leader_that_cannot_reach_the_server_for_long_ends_and_one_that_comes_back_goes_on(
    world: World, stage: Stage
) -> None:
    await stage.claim()
    attempt = hang()
    await stage.create(download("cube"), attempt)
    await stage.phase("cube", "Running")
    world.proxy.part()
    await asyncio.sleep(3)
    assert (await world.operator.ask("/healthz"))[0] == 200
    attempt.release()
    assert await world.operator.ended(20) == LOST
    world.operator.start()
    async with asyncio.timeout(20):
        while (answer := (await world.operator.ask("/readyz"))[0]) == 0:
            await asyncio.sleep(0.1)
    assert answer == 503
    world.proxy.cut = False
    await restart(world)
    assert (await stage.ends("cube")).phase == "Succeeded"
    assert len(stage.workflows()) == 1
