"""Elections before a real API server: who writes is seen in what the server stored, in its order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.client import Client
from datacube_operator.election import Election
from datacube_operator.errors import LeadershipLost, NotFound, NotLeader
from datacube_operator.fence import Fence
from datacube_operator.resource import LEASES

from datacube_flows.errors import DataCubeError
from tests.controller.api_proxy import Fault
from tests.controller.server import CLOCK, Line, direct, line_to, until
from tests.controller.writer import CONFIG_MAPS, LOST, TIMING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

ROOT = Path(__file__).parents[2]


@dataclass
class Replica:
    """One that writes a config map, named after itself, as often as its fence lets it."""

    name: str
    line: Line
    fence: Fence
    election: Election
    task: asyncio.Task[None]
    writer: asyncio.Task[None]

    @property
    def leads(self) -> bool:
        return self.fence.is_open


@asynccontextmanager
async def replica(name: str, api: Cluster, namespace: str, folder: Path) -> AsyncIterator[Replica]:
    fence = Fence(CLOCK)
    async with line_to(api, folder, fence) as line:
        unfenced = Client(line.connection, Fence.none(CLOCK), line.metrics)
        election = Election(
            unfenced,
            fence,
            namespace=namespace,
            name="leader",
            identity=name,
            clock=CLOCK,
            metrics=line.metrics,
            timing=TIMING,
        )
        task = asyncio.create_task(election.run())
        writer = asyncio.create_task(write_on(line.client, namespace, name))
        yield Replica(name, line, fence, election, task, writer)
        for one in (task, writer):
            one.cancel()
        await asyncio.gather(task, writer, return_exceptions=True)


async def write_on(client: Client, namespace: str, name: str) -> None:
    number = 0
    while True:
        with suppress(DataCubeError):
            await client.create(CONFIG_MAPS, namespace, {"metadata": {"name": f"{name}-{number}"}})
            number += 1
        await asyncio.sleep(0.01)


async def writers(client: Client, namespace: str) -> list[str]:
    """Who wrote, in the server's order, each run of writes once."""
    page = await client.list(CONFIG_MAPS, namespace, limit=5000)
    written = sorted(page.items, key=lambda item: int(item["metadata"]["resourceVersion"]))
    names = [item["metadata"]["name"].partition("-")[0] for item in written]
    return [name for name, before in zip(names, [None, *names], strict=False) if name != before]


async def lease_of(client: Client, namespace: str) -> dict[str, Any]:
    found = await client.get(LEASES, namespace, "leader")
    spec: dict[str, Any] = found["spec"]
    return spec


async def test_leader_that_is_parted_stops_writing_before_the_other_starts(
    api: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with direct(api) as client, replica("one", api, namespace, tmp_path) as one:
        await until(lambda: one.leads)
        async with replica("two", api, namespace, tmp_path) as two:
            await asyncio.sleep(1)
            assert not two.leads
            one.line.proxy.part()
            await until(lambda: not one.leads, 5)
            assert not two.leads
            with pytest.raises(NotLeader):
                await one.line.client.create(CONFIG_MAPS, namespace, {"metadata": {"name": "late"}})
            await until(lambda: two.leads, 10)
            one.line.proxy.cut = False
            await asyncio.sleep(0.3)
        assert await writers(client, namespace) == ["one", "two"]
        assert (await lease_of(client, namespace))["leaseTransitions"] == 1
        with pytest.raises(LeadershipLost):
            await one.task


async def test_leader_that_was_frozen_writes_nothing_when_it_wakes(api: Cluster, namespace: str) -> None:
    async with direct(api) as client:
        with writing("one", api, namespace) as one, writing("two", api, namespace) as two:
            first, second = (one, two) if await first_leader(client, namespace) == "one" else (two, one)
            told(first, "wrote")
            first.send_signal(signal.SIGSTOP)
            told(second, "wrote")
            first.send_signal(signal.SIGCONT)
            assert first.wait(10) == LOST
            told(second, "wrote")
        assert len(await writers(client, namespace)) == 2
        assert (await lease_of(client, namespace))["leaseTransitions"] == 1


async def first_leader(client: Client, namespace: str) -> str:
    async with asyncio.timeout(10):
        while True:
            with suppress(NotFound):
                return str((await lease_of(client, namespace))["holderIdentity"])
            await asyncio.sleep(0.05)


@contextmanager
def writing(name: str, api: Cluster, namespace: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a replica in a process of its own."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"}
    command = [sys.executable, "-m", "tests.controller.writer", str(api.kubeconfig), namespace, name]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str], word: str) -> None:
    """Returns when the process says something with the word from now on."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(f"the process ended without saying {word}")


async def test_leader_whose_lease_is_stolen_stops_at_its_next_renewal(
    api: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with direct(api) as client, replica("one", api, namespace, tmp_path) as one:
        await until(lambda: one.leads)
        await client.patch(LEASES, namespace, "leader", {"spec": {"holderIdentity": "thief"}})
        await until(lambda: not one.leads, 2)
        with pytest.raises(LeadershipLost, match="thief holds it"):
            await one.task
        assert (await lease_of(client, namespace))["holderIdentity"] == "thief"


async def test_leader_goes_on_when_an_answer_or_a_few_requests_are_lost(
    api: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with replica("one", api, namespace, tmp_path) as one:
        await until(lambda: one.leads)
        one.line.proxy.faults += [Fault("^PUT .*leases"), Fault("^PUT .*leases", status=503, times=2)]
        await asyncio.sleep(2)
        assert one.leads
        assert [fault.times for fault in one.line.proxy.faults] == [0, 0]


async def test_lease_that_is_given_back_is_taken_at_once(api: Cluster, namespace: str, tmp_path: Path) -> None:
    async with direct(api) as client, replica("one", api, namespace, tmp_path) as one:
        await until(lambda: one.leads)
        async with replica("two", api, namespace, tmp_path) as two:
            await asyncio.sleep(0.5)
            one.writer.cancel()
            one.task.cancel()
            await one.election.release()
            assert not one.leads
            assert await until(lambda: two.leads) < TIMING.duration_seconds / 2
            await asyncio.sleep(0.2)
        assert await writers(client, namespace) == ["one", "two"]


async def test_lease_is_written_as_the_api_has_it(api: Cluster, namespace: str, tmp_path: Path) -> None:
    async with direct(api) as client, replica("one", api, namespace, tmp_path) as one:
        await until(lambda: one.leads)
        first = await lease_of(client, namespace)
        await asyncio.sleep(0.7)
        later = await lease_of(client, namespace)
    assert first["holderIdentity"] == later["holderIdentity"] == "one"
    assert first["acquireTime"] == later["acquireTime"]
    assert first["renewTime"] < later["renewTime"]
    assert later["leaseTransitions"] == 0
