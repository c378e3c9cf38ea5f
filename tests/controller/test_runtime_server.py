"""Whole replicas before a real API server: warm standbys, handing over, events, and many objects."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from datacube_operator.backoff import Backoff
from datacube_operator.client import Client, connect
from datacube_operator.controller import Controller, Result
from datacube_operator.election import Election
from datacube_operator.errors import LeadershipLost, NotLeader
from datacube_operator.events import Recorder, Words
from datacube_operator.fence import Fence
from datacube_operator.informer import Informer, WatchTiming
from datacube_operator.lease import LeaseTiming
from datacube_operator.metrics import Metrics
from datacube_operator.queue import Queue
from datacube_operator.resource import DATACUBES, EVENTS, LEASES, Resource
from datacube_operator.runtime import Runtime
from datacube_operator.store import split_key

from tests.controller.api_proxy import start_api_proxy, write_kubeconfig
from tests.controller.server import CLOCK, direct, make_cube, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kubernetes.aio.client import ApiClient

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

ROOT = Path(__file__).parents[2]
TIMING = LeaseTiming(duration_seconds=3, write_seconds=2, retry_seconds=0.3)
QUICK = WatchTiming(backoff=Backoff(first=0.1, cap=0.5))
MANY = 2000

CUPS = Resource("tea.test", "v1", "cups")
CUPS_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "cups.tea.test"},
    "spec": {
        "group": "tea.test",
        "names": {"kind": "Cup", "plural": "cups"},
        "scope": "Namespaced",
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}},
        ],
    },
}


class Replica:
    """An operator that marks each DataCube with its own name, once."""

    def __init__(self, name: str, connection: ApiClient, namespace: str) -> None:
        metrics, fence, queue = Metrics(), Fence(CLOCK), Queue(CLOCK)
        self.name, self.namespace = name, namespace
        self.client = Client(connection, fence, metrics)
        unfenced = Client(connection, Fence.none(CLOCK), metrics)
        self.informer = Informer(self.client, DATACUBES, CLOCK, metrics, namespace=namespace)
        self.informer.subscribe(queue.add)
        self.recorder = Recorder(self.client, name, CLOCK)
        self.controller = Controller(
            "datacubes", queue, self.mark, keys=lambda: self.informer.store, clock=CLOCK, metrics=metrics
        )
        self.election = Election(
            unfenced,
            fence,
            namespace=namespace,
            name="leader",
            identity=name,
            clock=CLOCK,
            metrics=metrics,
            timing=TIMING,
        )
        self.cups = Informer(self.client, CUPS, CLOCK, metrics, namespace=namespace, timing=QUICK)
        self.runtime = Runtime([self.informer], [self.cups], [self.controller], self.election, self.recorder)
        self.stop, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.at_gate: list[str] = []
        self.task = asyncio.create_task(self.runtime.run(self.stop))

    async def mark(self, key: str) -> Result:
        namespace, name = split_key(key)
        self.at_gate.append(key)
        await self.gate.wait()
        cube = self.informer.store.get(key)
        if cube is not None and "mark" not in (cube["metadata"].get("labels") or {}):
            await self.client.patch(DATACUBES, namespace, name, {"metadata": {"labels": {"mark": self.name}}})
            self.recorder.record(cube, Words("Normal", "Marked", "it was marked", "Mark"))
        return Result()


@asynccontextmanager
async def replica(name: str, api: Cluster, namespace: str, kubeconfig: Path | None = None) -> AsyncIterator[Replica]:
    async with connect(kubeconfig or api.kubeconfig) as connection:
        made = Replica(name, connection, namespace)
        yield made
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)


async def marks(client: Client, namespace: str) -> list[str]:
    page = await client.list(DATACUBES, namespace)
    return [(cube["metadata"].get("labels") or {}).get("mark", "") for cube in page.items]


async def wait_for_marks(client: Client, namespace: str, expected: list[str]) -> None:
    async with asyncio.timeout(10):
        while await marks(client, namespace) != expected:
            await asyncio.sleep(0.05)


async def test_standby_is_warm_and_goes_on_when_the_leader_stops(api: Cluster, namespace: str) -> None:
    async with direct(api) as client, replica("one", api, namespace) as one:
        await client.create(DATACUBES, namespace, make_cube("a"))
        await wait_for_marks(client, namespace, ["one"])
        async with replica("two", api, namespace) as two:
            await until(lambda: list(two.informer.store) == [f"{namespace}/a"])
            assert all(check() for check in two.runtime.checks.values())
            one.stop.set()
            await one.task
            await client.create(DATACUBES, namespace, make_cube("b"))
            await wait_for_marks(client, namespace, ["one", "two"])
            two.stop.set()
            await two.task


async def test_standby_whose_watches_are_dead_sees_all_that_was_written_before_it_leads(
    api: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with direct(api) as client, start_api_proxy(api.kubeconfig) as proxy, replica("one", api, namespace) as one:
        await client.create(DATACUBES, namespace, make_cube("a"))
        await wait_for_marks(client, namespace, ["one"])
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", proxy.url)
        async with replica("two", api, namespace, kubeconfig) as two:
            await until(lambda: list(two.informer.store) == [f"{namespace}/a"])
            await proxy.streaming()
            proxy.silence()
            await client.create(DATACUBES, namespace, make_cube("b"))
            await wait_for_marks(client, namespace, ["one", "one"])
            assert list(two.informer.store) == [f"{namespace}/a"]
            one.stop.set()
            await one.task
            await until(lambda: len(two.informer.store) == 2)
            await asyncio.sleep(0.3)
            assert await marks(client, namespace) == ["one", "one"]
            assert two.at_gate
            two.stop.set()
            await two.task


async def test_replica_works_without_a_kind_that_is_installed_later(api: Cluster, namespace: str) -> None:
    async with direct(api) as client, replica("one", api, namespace) as one:
        await client.create(DATACUBES, namespace, make_cube("a"))
        await wait_for_marks(client, namespace, ["one"])
        assert not one.cups.is_served
        assert all(check() for check in one.runtime.checks.values())
        api.apply(CUPS_CRD)
        await until(lambda: one.cups.is_served)
        api.apply({"apiVersion": "tea.test/v1", "kind": "Cup", "metadata": {"name": "c", "namespace": namespace}})
        await until(lambda: list(one.cups.store) == [f"{namespace}/c"])
        api.kubectl("delete", "crd", "cups.tea.test", "--wait=false")
        await until(lambda: list(one.cups.store) == [] and not one.cups.is_served)


async def test_replica_that_is_stopped_ends_what_it_began_and_gives_the_lease_back(
    api: Cluster, namespace: str
) -> None:
    async with direct(api) as client, replica("one", api, namespace) as one:
        one.gate.clear()
        await client.create(DATACUBES, namespace, make_cube("a"))
        await until(lambda: one.at_gate == [f"{namespace}/a"])
        one.stop.set()
        await client.create(DATACUBES, namespace, make_cube("b"))
        await asyncio.sleep(0.3)
        assert not one.task.done()
        one.gate.set()
        await asyncio.wait_for(one.task, 5)
        assert await marks(client, namespace) == ["one", ""]
        assert len((await client.list(EVENTS, namespace)).items) == 1
        assert (await client.get(LEASES, namespace, "leader"))["spec"]["holderIdentity"] == ""


async def test_replica_whose_lease_is_stolen_ends_and_writes_nothing_more(api: Cluster, namespace: str) -> None:
    async with direct(api) as client, replica("one", api, namespace) as one:
        await client.create(DATACUBES, namespace, make_cube("a"))
        await wait_for_marks(client, namespace, ["one"])
        await client.patch(LEASES, namespace, "leader", {"spec": {"holderIdentity": "thief"}})
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(one.task, 5)
        assert caught.group_contains(LeadershipLost)
        await client.create(DATACUBES, namespace, make_cube("b"))
        with pytest.raises(NotLeader):
            await one.client.patch(DATACUBES, namespace, "b", {"metadata": {"labels": {"mark": "one"}}})
        assert await marks(client, namespace) == ["one", ""]
        assert (await client.get(LEASES, namespace, "leader"))["spec"]["holderIdentity"] == "thief"


async def test_events_are_stored_and_counted_by_the_server(api: Cluster, namespace: str) -> None:
    async with direct(api) as client:
        cube = await client.create(DATACUBES, namespace, make_cube("a"))
        words = Words("Warning", "WaitingForVolume", "claim data does not exist", "Wait")
        for process in ("first", "second", "third"):
            recorder = Recorder(client, process, CLOCK)
            recorder.record(cube, words)
            task = asyncio.create_task(recorder.run())
            await recorder.written()
            task.cancel()
        (event,) = (await client.list(EVENTS, namespace)).items
    assert event["series"]["count"] == 3
    assert (event["reason"], event["note"]) == ("WaitingForVolume", "claim data does not exist")
    described = api.kubectl("describe", "datacube", "a", f"--namespace={namespace}")
    assert "claim data does not exist" in described


WATCH_ALL = """
import asyncio, json, pathlib, re, sys, time
from datacube_operator.backoff import Backoff
from datacube_operator.client import Client, connect
from datacube_operator.clock import SystemClock
from datacube_operator.fence import Fence
from datacube_operator.informer import Informer, WatchTiming
from datacube_operator.metrics import Metrics
from datacube_operator.resource import DATACUBES

def peak():  # getrusage tells the peak of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1024

async def main():
    clock = SystemClock()
    async with connect(pathlib.Path(sys.argv[1])) as api:
        began, cpu, before = time.monotonic(), time.process_time(), peak()
        client = Client(api, Fence.none(clock), Metrics())
        informer = Informer(client, DATACUBES, clock, Metrics(), namespace=sys.argv[2])
        task = asyncio.create_task(informer.run())
        await informer.synced.wait()
        task.cancel()
    print(json.dumps({
        "objects": len(informer.store), "seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - cpu,
        "megabytes_before": before, "megabytes": peak(),
    }))

asyncio.run(main())
"""


async def test_informer_holds_thousands_of_objects_in_little_memory(
    api: Cluster, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with direct(api) as client:
        began = time.monotonic()
        for start in range(0, MANY, 50):
            names = range(start, start + 50)
            await asyncio.gather(*(client.create(DATACUBES, namespace, make_cube(f"c{n}")) for n in names))
        made = time.monotonic() - began
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"}
    command = [sys.executable, "-c", WATCH_ALL, str(api.kubeconfig), namespace]
    told = json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)
    with capsys.disabled():
        rounded = {name: round(value, 2) for name, value in told.items()}
        print(f"\n{MANY} DataCubes made in {made:.1f} s; an informer, in a process of its own: {rounded}")
    assert told["objects"] == MANY
    assert told["megabytes"] < 200
