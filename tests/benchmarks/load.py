"""Many DataCubes made in one go, and as many bare Workflows, before an API server around which all else is played.

All of them fill folders of one claim, which is the case in which DataCubes have most to do with each other. No attempt
ends before all run, so that each run tells its status all that it ever does. The operator's requests go through the
proxy, and so do those that make the bare Workflows: both are counted in one way.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from datacube_operator.client import Client, connect
from datacube_operator.fence import Fence
from datacube_operator.metrics import Metrics
from datacube_operator.resource import DATACUBES, PODS, WORKFLOW_TEMPLATES, WORKFLOWS

from datacube_flows.core.manifests import Installation
from datacube_flows.core.plan import make_plan
from datacube_flows.core.rules import validate
from datacube_flows.engines.argo import render_template, render_workflow
from tests.benchmarks.costs import MINUTE, Cost, Load, Rest
from tests.benchmarks.field import QUIET_SECONDS, RUN_SECONDS, Field, document_of, each, own_server
from tests.benchmarks.footprint import cpu_seconds, peak_megabytes
from tests.cluster.errors import say
from tests.controller.api_proxy import start_api_proxy, write_kubeconfig
from tests.controller.operator_run import IMAGE
from tests.controller.played_cluster import played_cluster
from tests.controller.scenarios_bench import WRITES, made_world
from tests.controller.server import CLOCK

if TYPE_CHECKING:
    from datacube_flows.core.plan import TransferPlan
    from tests.benchmarks.table import Row
    from tests.cluster.cluster import Cluster
    from tests.controller.operator_run import OperatorRun
    from tests.controller.scenarios_bench import World

Object = dict[str, Any]
Item = TypeVar("Item")

NAMESPACE: Final = "load"
HANDS: Final = 4
"""How many at once make bare Workflows: as many as the operator has workers."""

POLL_SECONDS: Final = 0.05
COUNTED: Final = re.compile(
    r'^datacube_reconcile_seconds_(count|sum)\{controller="datacubes",.*\} (\S+)$', re.MULTILINE
)
DEPTH: Final = 'datacube_queue_depth{queue="datacubes"} 0.0\n'


def measure_load(cubes: int, idle_seconds: float) -> list[Row]:
    """Returns what so many DataCubes cost, with API servers of their own."""
    say(f"  {cubes} bare Workflows")
    with own_server() as server, tempfile.TemporaryDirectory() as folder:
        bare = asyncio.run(_bare(server, Path(folder), cubes))
    say(f"  {cubes} DataCubes")
    with own_server() as server, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_operated(server, Path(folder), cubes, idle_seconds, bare)).rows()


async def _bare(server: Cluster, folder: Path, count: int) -> Cost:
    """Has as many Workflows made as a client makes that knows nothing of DataCubes: a template and a reference each."""
    async with (
        start_api_proxy(server.kubeconfig) as proxy,
        played_cluster(server.kubeconfig) as played,
        connect(write_kubeconfig(folder / "kubeconfig", proxy.url)) as api,
    ):
        client, field = Client(api, Fence.none(CLOCK), Metrics()), Field(proxy, played, count, NAMESPACE)
        plans = [make_plan(validate(document_of(n, namespace=NAMESPACE, uid=f"uid-of-{n}"))) for n in field.names]
        await field.begin()
        installation = Installation(image=IMAGE)

        async def make(plan: TransferPlan) -> None:
            await client.create(WORKFLOW_TEMPLATES, NAMESPACE, render_template(plan, installation))
            await client.create(WORKFLOWS, NAMESPACE, render_workflow(plan))

        await each(plans, HANDS, make)
        await field.all_are("Running", PODS)
        return await field.end(WORKFLOWS)


async def _operated(server: Cluster, folder: Path, count: int, idle_seconds: float, bare: Cost) -> Load:
    async with made_world(server, folder, "bench") as world:
        empty = await _rest(world, 0, idle_seconds)
        field, pid = Field(world.proxy, world.played, count, NAMESPACE), world.operator.pid
        await field.begin()
        before = cpu_seconds(pid)
        await field.fill()
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
