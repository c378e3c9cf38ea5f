"""Many DataCubes made in one go, and as many bare Workflows, before an API server around which all else is played.

All of them fill folders of one claim, which is the case in which DataCubes have most to do with each other. No attempt
ends before all run, so that each run tells its status all that it ever does. The operator's requests go through the
proxy, and so do those that make the bare Workflows: both are counted in one way.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from datacube_operator.client import Client, connect
from datacube_operator.fence import Fence
from datacube_operator.metrics import Metrics
from datacube_operator.resource import CLAIMS, DATACUBES, PODS, WORKFLOW_TEMPLATES, WORKFLOWS

from datacube_flows.core.manifests import Installation
from datacube_flows.core.plan import make_plan
from datacube_flows.core.rules import validate
from datacube_flows.engines.argo import render_template, render_workflow
from tests.benchmarks.costs import MINUTE, Cost, Load, Rest
from tests.benchmarks.footprint import cpu_seconds, peak_megabytes
from tests.cluster.api import api_server
from tests.cluster.binaries import build_programs
from tests.cluster.crd_client import serve_crd
from tests.cluster.errors import ClusterError, say
from tests.cluster.places import places_from
from tests.controller.api_proxy import start_api_proxy, write_kubeconfig
from tests.controller.operator_run import IMAGE
from tests.controller.played_cluster import played_cluster, serve_argo
from tests.controller.played_kubelet import succeed
from tests.controller.scenarios_bench import NAMESPACES, WRITES, made_world
from tests.controller.scenarios_documents import CLAIM, download
from tests.controller.server import CLOCK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from datacube_operator.resource import Resource

    from datacube_flows.core.plan import TransferPlan
    from tests.benchmarks.table import Row
    from tests.cluster.cluster import Cluster
    from tests.controller.api_proxy import ApiProxy
    from tests.controller.operator_run import OperatorRun
    from tests.controller.played_cluster import PlayedCluster
    from tests.controller.scenarios_bench import World

Object = dict[str, Any]
Item = TypeVar("Item")

NAMESPACE: Final = "load"
HANDS: Final = 4
"""How many at once make bare Workflows: as many as the operator has workers."""

USERS: Final = 16
"""How many at once make DataCubes."""

ONCE: Final = ("/serviceaccounts", "/rolebindings")
"""Made once for a namespace, whose cost is not that of a DataCube."""


RUN_SECONDS: Final = 1800.0
POLL_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 0.25
"""How often is looked whether all have ended: the look itself takes the time of those that play."""

QUIET_SECONDS: Final = 2.0
FAILED: Final = {"Failed", "Error"}
COUNTED: Final = re.compile(
    r'^datacube_reconcile_seconds_(count|sum)\{controller="datacubes",.*\} (\S+)$', re.MULTILINE
)
DEPTH: Final = 'datacube_queue_depth{queue="datacubes"} 0.0\n'


def measure_load(cubes: int, idle_seconds: float) -> list[Row]:
    """Returns what so many DataCubes cost, with API servers of their own."""
    say(f"  {cubes} bare Workflows")
    with _server() as server, tempfile.TemporaryDirectory() as folder:
        bare = asyncio.run(_bare(server, Path(folder), cubes))
    say(f"  {cubes} DataCubes")
    with _server() as server, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_operated(server, Path(folder), cubes, idle_seconds, bare)).rows()


@contextmanager
def _server() -> Iterator[Cluster]:
    """Has an API server that knows DataCubes and Workflows."""
    cache = places_from(os.environ).cache
    build_programs(cache, "api", os.environ)
    with tempfile.TemporaryDirectory(prefix="datacube-bench-") as folder, api_server(Path(folder), cache) as server:
        serve_crd(server)
        serve_argo(server)
        yield server


@dataclass
class Field:
    """A namespace in which runs are counted.

    Attributes:
        proxy: counts requests.
        played: plays the children, and is the user's client.
        count: of the runs.
        gate: opened, attempts end.
        began: when the first run was asked for.
    """

    proxy: ApiProxy
    played: PlayedCluster
    count: int
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = 0.0

    @property
    def names(self) -> list[str]:
        """Of the DataCubes."""
        return [f"cube-{number:04}" for number in range(self.count)]

    async def begin(self) -> None:
        """Makes the namespace, has all attempts run until the gate is opened, and counts from now on."""
        await self.played.client.create(NAMESPACES, None, {"metadata": {"name": NAMESPACE}})
        script = (replace(succeed(), gate=self.gate),)
        self.played.kubelet.scripts.update({f"{NAMESPACE}/{name}": script for name in self.names})
        self.proxy.seen.clear()
        self.began = time.monotonic()

    async def all_are(self, phase: str, resource: Resource) -> None:
        """Returns once that is the phase of all objects of a kind.

        Raises:
            ClusterError: One has failed, or it is not so in time.
        """
        while (phases := self._phases(resource))[phase] < self.count:
            if FAILED & set(phases):
                raise ClusterError(f"not all {resource} end well: {dict(phases)}")
            if time.monotonic() - self.began > RUN_SECONDS:
                raise ClusterError(f"not all {resource} are {phase} in {RUN_SECONDS:.0f} s: {dict(phases)}")
            await asyncio.sleep(LOOK_SECONDS)

    def _phases(self, resource: Resource) -> Counter[str]:
        store = self.played.informers[resource].store
        return Counter(str(((store.get(key) or {}).get("status") or {}).get("phase", "")) for key in store)

    async def end(self, resource: Resource) -> Cost:
        """Lets all attempts end; returns what was spent until all objects of a kind had, and nothing more was asked."""
        self.gate.set()
        await self.all_are("Succeeded", resource)
        seconds, known = time.monotonic() - self.began, -1
        while known != len(lines := self._lines()):
            known = len(lines)
            await asyncio.sleep(QUIET_SECONDS)
        return Cost(self.count, seconds, len(lines), sum(1 for line in lines if re.search(WRITES, line)))

    def _lines(self) -> list[str]:
        lines = (seen.line for seen in self.proxy.seen if f"/namespaces/{NAMESPACE}/" in seen.line)
        return [line for line in lines if not any(name in line for name in ONCE)]


async def _bare(server: Cluster, folder: Path, count: int) -> Cost:
    """Has as many Workflows made as a client makes that knows nothing of DataCubes: a template and a reference each."""
    async with (
        start_api_proxy(server.kubeconfig) as proxy,
        played_cluster(server.kubeconfig) as played,
        connect(write_kubeconfig(folder / "kubeconfig", proxy.url)) as api,
    ):
        client, field = Client(api, Fence.none(CLOCK), Metrics()), Field(proxy, played, count)
        plans = [make_plan(validate(_document(n, namespace=NAMESPACE, uid=f"uid-of-{n}"))) for n in field.names]
        await field.begin()
        installation = Installation(image=IMAGE)

        async def make(plan: TransferPlan) -> None:
            await client.create(WORKFLOW_TEMPLATES, NAMESPACE, render_template(plan, installation))
            await client.create(WORKFLOWS, NAMESPACE, render_workflow(plan))

        await _each(plans, HANDS, make)
        await field.all_are("Running", PODS)
        return await field.end(WORKFLOWS)


async def _operated(server: Cluster, folder: Path, count: int, idle_seconds: float, bare: Cost) -> Load:
    async with made_world(server, folder, "bench") as world:
        empty = await _rest(world, 0, idle_seconds)
        field, pid = Field(world.proxy, world.played, count), world.operator.pid
        await field.begin()
        await world.client.create(CLAIMS, NAMESPACE, CLAIM)
        before = cpu_seconds(pid)

        async def make(name: str) -> None:
            await world.client.create(DATACUBES, NAMESPACE, _document(name))

        await _each(field.names, USERS, make)
        await field.all_are("Running", DATACUBES)
        cost = await field.end(DATACUBES)
        cpu, peak = cpu_seconds(pid) - before, peak_megabytes(pid)
        say(f"  they took {cost.seconds:.0f} s; now a restart")
        return Load(bare, cost, peak, cpu, empty, await _rest(world, count, idle_seconds))


async def _rest(world: World, count: int, idle_seconds: float) -> Rest:
    """Ends the operator as a node that fails does, starts it again, and has it idle for a while."""
    operator = world.operator
    operator.kill()
    world.proxy.seen.clear()
    began = time.monotonic()
    operator.start()
    look_seconds = await _caught_up(operator, count)
    seconds = time.monotonic() - began
    await asyncio.sleep(QUIET_SECONDS)
    writes = sum(1 for seen in world.proxy.seen if re.search(WRITES, seen.line) and "/leases" not in seen.line)
    before = cpu_seconds(operator.pid)
    await asyncio.sleep(idle_seconds)
    used = cpu_seconds(operator.pid) - before
    return Rest(seconds, writes, look_seconds, used * MINUTE / idle_seconds, peak_megabytes(operator.pid))


async def _caught_up(operator: OperatorRun, count: int) -> float:
    """Returns, once a replica leads and has looked at so many DataCubes, the seconds for which it looked at them."""
    async with asyncio.timeout(RUN_SECONDS):
        while True:
            _, text = await operator.ask("/metrics")
            told = {"count": 0.0, "sum": 0.0}
            for what, value in COUNTED.findall(text):
                told[what] += float(value)
            if told["count"] >= count and DEPTH in text and "\ndatacube_leader 1.0\n" in text:
                return told["sum"]
            await asyncio.sleep(POLL_SECONDS)


async def _each(items: Iterable[Item], hands: int, make: Callable[[Item], Awaitable[None]]) -> None:
    """Makes something of each item, so many at once, in their order."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await make(item)

    await asyncio.gather(*(work() for _ in range(hands)))


def _document(name: str, **metadata: str) -> Object:
    document = download(name, sub_path=f"sets/{name}")
    return document | {"metadata": document["metadata"] | metadata}
