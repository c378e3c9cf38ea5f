"""How long a DataCube takes on a whole cluster, beside what a bare Job and a bare Workflow take there.

One after the other, so that each has the machine for itself: a DataCube, a Job, a Workflow by reference to a template
that exists; each made by the same client, and seen by the same watches; then a DataCube and a Job by `kubectl apply`,
which is how people make them. The transfer is the S3 example.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.client import Client, connect
from datacube_operator.fence import Fence
from datacube_operator.metrics import Metrics
from datacube_operator.resource import DATACUBES, WORKFLOW_TEMPLATES, WORKFLOWS, Resource

from datacube_flows.core import labels
from datacube_flows.engines.argo import render_template, render_workflow
from tests.benchmarks.arrivals import COMPLETE, MAIN_ENDED, POD, WORKFLOW, WORKFLOW_SUCCEEDED, Arrivals, now
from tests.benchmarks.table import Row, at_most, compare, times_at_most
from tests.cluster.argo import ensure_argo
from tests.cluster.cluster import find_cluster
from tests.cluster.errors import say
from tests.cluster.image_build import transfer_image
from tests.cluster.operated.bench import running_operator
from tests.cluster.places import places_from
from tests.cluster.pods.bench import made_bench
from tests.controller.server import CLOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.cluster.pods.bench import Bench

Object = dict[str, Any]

JOBS: Final = Resource("batch", "v1", "jobs")
CLAIM: Final = "data"
DURATION_WISH: Final = times_at_most(1.5)
COMPLETE_SECONDS: Final = 1.0
CALM_SECONDS: Final = 3.0
"""Before anything is made: what was made before it ends its containers in that time."""


@dataclass
class Times:
    """Seconds of every round."""

    job_pod: list[float] = field(default_factory=list)
    workflow_pod: list[float] = field(default_factory=list)
    cube_workflow: list[float] = field(default_factory=list)
    cube_pod: list[float] = field(default_factory=list)
    complete: list[float] = field(default_factory=list)
    applied_job_pod: list[float] = field(default_factory=list)
    applied_cube_workflow: list[float] = field(default_factory=list)
    argo: list[float] = field(default_factory=list)
    """How long after the end of the attempt's container Argo says that its workflow has succeeded."""

    def rows(self) -> list[Row]:
        """The table's lines."""
        argo = ("Argo's Succeeded", self.argo)
        worst = Row("end of main to Complete, worst", max(self.complete), "s", wish=at_most(COMPLETE_SECONDS))
        job, workflow = ("Job to pod", self.job_pod), ("Workflow to pod", self.workflow_pod)
        applied = ("of a Job to pod", self.applied_job_pod)
        return [
            compare("kubectl apply of a DataCube to Workflow", self.applied_cube_workflow, "s", applied, DURATION_WISH),
            compare("DataCube to Workflow", self.cube_workflow, "s", job, DURATION_WISH),
            compare("DataCube to transfer pod", self.cube_pod, "s", workflow, DURATION_WISH),
            compare("end of main to Complete", self.complete, "s", argo),
            worst,
        ]


@dataclass
class Race:
    """Makes Jobs, Workflows and DataCubes, and takes their times."""

    bench: Bench
    client: Client
    arrivals: Arrivals
    times: Times = field(default_factory=Times)

    async def run(self, rounds: int) -> None:
        """Takes the times of so many rounds; one before them makes accounts and connections, and does not count."""
        for number in range(rounds + 1):
            await self._cube(f"cube-{number}")
            await self._job(f"job-{number}")
            await self._workflow(f"bare-{number}")
            await self._applied_cube(f"applied-{number}")
            await self._applied_job(f"applied-job-{number}")
            say(f"  round {number} of {rounds}")
            if not number:
                self.times = Times()
        for number in range(1, rounds + 1):
            await self._see_argo_end(f"cube-{number}")

    async def _job(self, name: str) -> None:
        sent = await self._create(JOBS, self._job_document(name))
        self.times.job_pod.append(await self.arrivals.of(POD, name) - sent)
        await self.arrivals.of(MAIN_ENDED, name)

    async def _workflow(self, name: str) -> None:
        plan = self.bench.plan(self._document(name, uid=f"uid-of-{name}"))
        await self._create(WORKFLOW_TEMPLATES, render_template(plan, self.bench.installation))
        sent = await self._create(WORKFLOWS, render_workflow(plan, claim_exists=True))
        self.times.workflow_pod.append(await self.arrivals.of(POD, name) - sent)
        await self.arrivals.of(MAIN_ENDED, name)

    async def _cube(self, name: str) -> None:
        sent = await self._create(DATACUBES, self._document(name))
        self.times.cube_workflow.append(await self.arrivals.of(WORKFLOW, name) - sent)
        self.times.cube_pod.append(await self.arrivals.of(POD, name) - sent)
        ended = await self.arrivals.of(MAIN_ENDED, name)
        self.times.complete.append(await self.arrivals.of(COMPLETE, name) - ended)

    async def _applied_cube(self, name: str) -> None:
        sent = await self._apply(self._document(name))
        self.times.applied_cube_workflow.append(await self.arrivals.of(WORKFLOW, name) - sent)
        await self.arrivals.of(COMPLETE, name)

    async def _applied_job(self, name: str) -> None:
        sent = await self._apply(self._job_document(name))
        self.times.applied_job_pod.append(await self.arrivals.of(POD, name) - sent)
        await self.arrivals.of(MAIN_ENDED, name)

    async def _apply(self, document: Object) -> float:
        """Has kubectl apply a document as a user does, and returns when it was called."""
        cluster = self.bench.cluster
        await asyncio.sleep(CALM_SECONDS)
        sent = now()
        await asyncio.to_thread(cluster.kubectl, "apply", self.bench.here, "-f", "-", text=json.dumps(document))
        return sent

    async def _see_argo_end(self, name: str) -> None:
        ended = await self.arrivals.of(MAIN_ENDED, name)
        self.times.argo.append(await self.arrivals.of(WORKFLOW_SUCCEEDED, name) - ended)

    async def _create(self, resource: Resource, document: Object) -> float:
        """Makes an object, and returns when it was asked for."""
        await asyncio.sleep(CALM_SECONDS)
        sent = now()
        await self.client.create(resource, self.bench.namespace, document)
        return sent

    def _document(self, name: str, **metadata: str) -> Object:
        """A download into a folder of its own, so that nobody waits for a path."""
        document = self.bench.document("s3-download", CLAIM, sub_path=name)
        document["metadata"] = {"name": name, "namespace": self.bench.namespace, **metadata}
        return document

    def _job_document(self, name: str) -> Object:
        """A Job whose pod is restricted as an attempt's is, and ends at once."""
        pod = self.bench.script(name, "true", CLAIM)
        template = {"metadata": {"labels": {labels.NAME: name}}, "spec": pod["spec"]}
        metadata = {"name": name, "labels": {labels.NAME: name}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}


def measure_latency(rounds: int) -> list[Row]:
    """Returns what so many rounds took on the whole cluster of `make cluster`, which must run."""
    with tempfile.TemporaryDirectory(prefix="datacube-bench-") as folder, _operated(Path(folder)) as bench:
        return asyncio.run(_race(bench, rounds)).rows()


@contextmanager
def _operated(folder: Path) -> Iterator[Bench]:
    """Has a namespace in which an operator runs, with a claim that is bound."""
    cluster = find_cluster(os.environ)
    ensure_argo(cluster, os.environ)
    image = transfer_image(cluster, places_from(os.environ).cache, os.environ)
    with made_bench(cluster, image.name, folder) as bench, running_operator(bench, folder):
        bench.make_volume(CLAIM)
        yield bench


async def _race(bench: Bench, rounds: int) -> Times:
    async with connect(bench.cluster.kubeconfig) as api:
        client = Client(api, Fence.none(CLOCK), Metrics())
        async with _watching(Arrivals(client, bench.namespace)) as arrivals:
            race = Race(bench, client, arrivals)
            await race.run(rounds)
            return race.times


@asynccontextmanager
async def _watching(arrivals: Arrivals) -> AsyncIterator[Arrivals]:
    """Has arrivals noted while the block runs, which ends if they no longer are."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(arrivals.run())
        await asyncio.sleep(1)  # so that all watches are open
        yield arrivals
        task.cancel()
