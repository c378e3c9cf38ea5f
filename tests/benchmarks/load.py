"""Many DataCubes made in one go, and as many bare Workflows, before an API server around which all else is played.

All of them fill folders of one claim, which is the case in which DataCubes have most to do with each other. The
operator's requests go through the proxy, and so do those that make the bare Workflows: both are counted in one way.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.client import Client, connect
from datacube_operator.fence import Fence
from datacube_operator.metrics import Metrics
from datacube_operator.resource import CLAIMS, DATACUBES, WORKFLOW_TEMPLATES, WORKFLOWS

from datacube_flows.core.manifests import Installation
from datacube_flows.core.plan import make_plan
from datacube_flows.core.rules import validate
from datacube_flows.engines.argo import render_template, render_workflow, workflow_name
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
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from datacube_operator.resource import Resource

    from tests.benchmarks.table import Row
    from tests.cluster.cluster import Cluster
    from tests.controller.api_proxy import ApiProxy
    from tests.controller.operator_run import OperatorRun
    from tests.controller.played_cluster import PlayedCluster
    from tests.controller.scenarios_bench import World

Object = dict[str, Any]

NAMESPACE: Final = "load"
HANDS: Final = 4
"""How many at once make bare Workflows: as many as the operator has workers."""

USERS: Final = 16
"""How many at once make DataCubes."""

TRANSFER_SECONDS: Final = 2.0
"""So long each attempt runs: its start and its end are two pieces of news, as in life."""

RUN_SECONDS: Final = 1800.0
POLL_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 0.25
"""How often is looked whether all have ended: the look itself takes the time of those that play."""

QUIET_SECONDS: Final = 2.0
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
    """A namespace in which runs are counted, from now on.

    Attributes:
        proxy: counts requests.
        played: plays the children, and is the user's client.
    """

    proxy: ApiProxy
    played: PlayedCluster
    began: float = field(default_factory=time.monotonic)

    async def prepare(self, names: Sequence[str]) -> None:
        """Makes the namespace, and says how long attempts run."""
        await self.played.client.create(NAMESPACES, None, {"metadata": {"name": NAMESPACE}})
        self.played.kubelet.scripts.update({f"{NAMESPACE}/{n}": (succeed(seconds=TRANSFER_SECONDS),) for n in names})
        self.proxy.seen.clear()
        self.began = time.monotonic()

    async def ends(self, resource: Resource, keys: Sequence[str]) -> float:
        """Returns after how many seconds all of these have succeeded.

        Raises:
            ClusterError: One did not, or not in time.
        """
        left = set(keys)
        while left:
            left -= {key for key in left if self._phase(resource, key) == "Succeeded"}
            if failed := [key for key in left if self._phase(resource, key) in {"Failed", "Error"}]:
                raise ClusterError(f"{failed[0]} has failed: {self.played.informers[resource].store.get(failed[0])}")
            if time.monotonic() - self.began > RUN_SECONDS:
                raise ClusterError(f"{len(left)} have not ended in {RUN_SECONDS:.0f} s, such as {min(left)}")
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - self.began

    def _phase(self, resource: Resource, key: str) -> str:
        found = self.played.informers[resource].store.get(key) or {}
        return str((found.get("status") or {}).get("phase", ""))

    async def cost(self, count: int, seconds: float) -> Cost:
        """Returns what was asked since, once nothing more is."""
        known = -1
        while known != len(lines := self._lines()):
            known = len(lines)
            await asyncio.sleep(QUIET_SECONDS)
        return Cost(count, seconds, len(lines), sum(1 for line in lines if re.search(WRITES, line)))

    def _lines(self) -> list[str]:
        return [seen.line for seen in self.proxy.seen if f"/namespaces/{NAMESPACE}/" in seen.line]


async def _bare(server: Cluster, folder: Path, count: int) -> Cost:
    """Has as many Workflows made as a client makes that knows nothing of DataCubes: a template and a reference each."""
    async with (
        start_api_proxy(server.kubeconfig) as proxy,
        played_cluster(server.kubeconfig) as played,
        connect(write_kubeconfig(folder / "kubeconfig", proxy.url)) as api,
    ):
        client, field = Client(api, Fence.none(CLOCK), Metrics()), Field(proxy, played)
        plans = [make_plan(validate(_document(n, namespace=NAMESPACE, uid=f"uid-of-{n}"))) for n in _names(count)]
        await field.prepare(_names(count))
        installation = Installation(image=IMAGE)

        async def make(plan: Any) -> None:
            await client.create(WORKFLOW_TEMPLATES, NAMESPACE, render_template(plan, installation))
            await client.create(WORKFLOWS, NAMESPACE, render_workflow(plan))

        await _each(plans, HANDS, make)
        seconds = await field.ends(WORKFLOWS, [f"{NAMESPACE}/{workflow_name(plan)}" for plan in plans])
        return await field.cost(count, seconds)


async def _operated(server: Cluster, folder: Path, count: int, idle_seconds: float, bare: Cost) -> Load:
    async with made_world(server, folder, "bench") as world:
        empty = await _rest(world, 0, idle_seconds)
        field, pid = Field(world.proxy, world.played), world.operator.pid
        await field.prepare(_names(count))
        await world.client.create(CLAIMS, NAMESPACE, CLAIM)
        before = cpu_seconds(pid)

        async def make(name: str) -> None:
            await world.client.create(DATACUBES, NAMESPACE, _document(name))

        await _each(_names(count), USERS, make)
        seconds = await field.ends(DATACUBES, [f"{NAMESPACE}/{name}" for name in _names(count)])
        cost = await field.cost(count, seconds)
        cpu, peak = cpu_seconds(pid) - before, peak_megabytes(pid)
        say(f"  they took {seconds:.0f} s; now a restart")
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


async def _each(items: Iterable[Any], hands: int, make: Callable[[Any], Awaitable[None]]) -> None:
    """Makes something of each item, so many at once, in their order."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await make(item)

    await asyncio.gather(*(work() for _ in range(hands)))


def _names(count: int) -> list[str]:
    return [f"cube-{number:04}" for number in range(count)]


def _document(name: str, **metadata: str) -> Object:
    document = download(name, sub_path=f"sets/{name}")
    return document | {"metadata": document["metadata"] | metadata}
