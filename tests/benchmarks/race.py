"""Many transfers of one small object on a whole cluster, all at once: as bare Jobs, in Argo, and in Prefect.

One after the other, on the same cluster. A bare Job's pod is that of an attempt, made by no operator; so what is more
than its time is the engine's. Where a few processors run all pods, their starts take the most of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.client import Client, connect
from datacube_operator.fence import Fence
from datacube_operator.metrics import Metrics
from datacube_operator.resource import DATACUBES, Resource

from datacube_flows.engines.argo_accounts import render_cluster_roles
from tests.benchmarks.costs import Cost
from tests.benchmarks.engine_costs import Lap, Laps
from tests.benchmarks.field import ONCE, USERS, each
from tests.benchmarks.footprint import cpu_seconds, peak_megabytes
from tests.benchmarks.prefect_meter import PrefectMeter
from tests.cluster.argo import ensure_argo
from tests.cluster.cluster import find_cluster
from tests.cluster.crd_client import serve_crd
from tests.cluster.errors import ClusterError, say
from tests.cluster.image_build import transfer_image
from tests.cluster.places import places_from
from tests.cluster.pods.bench import made_bench
from tests.controller.api_proxy import start_api_proxy, write_kubeconfig
from tests.controller.operator_run import OperatorRun
from tests.controller.scenarios_bench import WRITES
from tests.controller.server import CLOCK
from tests.servers.prefect import start_prefect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.benchmarks.table import Row
    from tests.cluster.pods.bench import Bench
    from tests.controller.api_proxy import ApiProxy
    from tests.servers.prefect import PrefectServer

Object = dict[str, Any]

JOBS: Final = Resource("batch", "v1", "jobs")
CLAIM: Final = "data"
LAP_SECONDS: Final = 3600.0
LOOK_SECONDS: Final = 0.5
CALM_SECONDS: Final = 5.0
"""Between two laps, and before each: what was made before ends its containers in that time."""


def measure_race(count: int) -> list[Row]:
    """Returns what so many transfers took on the whole cluster of `make cluster`, which must run."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datacube-bench-")))
        bench = stack.enter_context(_place(folder))
        prefect = stack.enter_context(start_prefect(folder / "server"))
        return asyncio.run(_race(_Track(bench, folder, count), prefect)).rows()


@contextmanager
def _place(folder: Path) -> Iterator[Bench]:
    """Has a namespace with a claim that is bound, and all in the cluster that an operator needs."""
    cluster = find_cluster(os.environ)
    ensure_argo(cluster, os.environ)
    serve_crd(cluster)
    cluster.apply(*render_cluster_roles())
    image = transfer_image(cluster, places_from(os.environ).cache, os.environ)
    with made_bench(cluster, image.name, folder) as bench:
        bench.make_volume(CLAIM)
        yield bench


async def _race(track: _Track, prefect: PrefectServer) -> Laps:
    async with connect(track.bench.cluster.kubeconfig) as api:
        client, meter = Client(api, Fence.none(CLOCK), Metrics()), PrefectMeter(prefect)
        say(f"  {track.count} bare Jobs")
        jobs = await track.jobs(client)
        say(f"  {track.count} DataCubes in Argo, after {jobs:.0f} s")
        argo = await track.cubes(client, "argo", ("--engine=argo",), {})
        say(f"  the same in Prefect, after {argo.runs.seconds:.0f} s")
        await meter.begin()
        flags = "--engine=prefect", f"--prefect-url={prefect.url}"
        lap = await track.cubes(client, "prefect", flags, {"PREFECT_API_AUTH_STRING": prefect.auth})
        return Laps(jobs, argo, lap, await meter.end())


@dataclass
class _Track:
    """Where the laps are run.

    Attributes:
        bench: the namespace.
        folder: for logs.
        count: of the transfers.
    """

    bench: Bench
    folder: Path
    count: int

    async def jobs(self, client: Client) -> float:
        """Returns how many seconds so many bare Jobs take."""
        return await self._lap(client, JOBS, [self._job(name) for name in self._names("job")])

    async def cubes(self, client: Client, engine: str, flags: tuple[str, ...], environment: dict[str, str]) -> Lap:
        """Returns what so many DataCubes take, run by an operator of their own."""
        documents = [self._cube(name) for name in self._names(engine)]
        async with self._operated(engine, flags, environment) as (operator, proxy):
            first, before = len(proxy.seen), cpu_seconds(operator.pid)
            seconds = await self._lap(client, DATACUBES, documents)
            await asyncio.sleep(CALM_SECONDS)
            lines = [line for seen in proxy.seen[first:] if self._is_counted(line := seen.line)]
            cost = Cost(self.count, seconds, len(lines), sum(1 for line in lines if re.search(WRITES, line)))
            return Lap(cost, cpu_seconds(operator.pid) - before, peak_megabytes(operator.pid))

    def _is_counted(self, line: str) -> bool:
        is_here = f"/namespaces/{self.bench.namespace}/" in line and "watch=true" not in line
        return is_here and not any(name in line for name in (*ONCE, "/leases"))

    async def _lap(self, client: Client, resource: Resource, documents: list[Object]) -> float:
        """Makes all, and returns how many seconds it took until the last one had ended."""
        await asyncio.sleep(CALM_SECONDS)
        began, names = time.monotonic(), {document["metadata"]["name"] for document in documents}

        async def make(document: Object) -> None:
            await client.create(resource, self.bench.namespace, document)

        await each(documents, USERS, make)
        while (left := await self._left(client, resource, names)) and time.monotonic() - began < LAP_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
        if left:
            raise ClusterError(f"{len(left)} of {self.count} {resource} have not ended in {LAP_SECONDS:.0f} s")
        return time.monotonic() - began

    async def _left(self, client: Client, resource: Resource, names: set[str]) -> set[str]:
        """Those that have not ended.

        Raises:
            ClusterError: one has failed.
        """
        page = await client.list(resource, self.bench.namespace)
        ends = {obj["metadata"]["name"]: _end_of(obj) for obj in page.items}
        if failed := [name for name in names if ends.get(name) == "Failed"]:
            raise ClusterError(f"{len(failed)} of {self.count} {resource} have failed")
        return {name for name in names if ends.get(name) != "Complete"}

    @asynccontextmanager
    async def _operated(
        self, engine: str, flags: tuple[str, ...], environment: dict[str, str]
    ) -> AsyncIterator[tuple[OperatorRun, ApiProxy]]:
        """Has an operator run, whose requests go through a proxy."""
        made = self.bench.installation
        every = [f"--transfer-image={made.image}", f"--image-pull-policy={made.image_pull_policy}", "--allow-http"]
        every += [f"--namespace={self.bench.namespace}", f"--lease-namespace={self.bench.namespace}", "--no-progress"]
        async with start_api_proxy(self.bench.cluster.kubeconfig) as proxy:
            kubeconfig = write_kubeconfig(self.folder / f"{engine}.kubeconfig", proxy.url)
            operator = OperatorRun(kubeconfig, self.folder, [*every, *flags], engine, environment=environment)
            operator.start()
            try:
                await operator.until_ready()
                yield operator, proxy
                await operator.stop()
            finally:
                operator.kill()

    def _names(self, prefix: str) -> list[str]:
        return [f"{prefix}-{number:04}" for number in range(self.count)]

    def _cube(self, name: str, **metadata: str) -> Object:
        """A download into a folder of its own, so that nobody waits for a path."""
        document = self.bench.document("s3-download", CLAIM, sub_path=name)
        document["metadata"] = {"name": name, "namespace": self.bench.namespace, **metadata}
        return document

    def _job(self, name: str) -> Object:
        """A Job whose pod is an attempt's."""
        pod = self.bench.pod(self._cube(name, uid=f"uid-of-{name}"), name)
        spec = {"backoffLimit": 0, "template": {"metadata": {}, "spec": pod["spec"]}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def _end_of(obj: Object) -> str:
    """`Complete` or `Failed`, which a Job and a DataCube both say in a condition."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), "")
