"""A client before a real API server, behind a proxy that breaks what it is told to, and an operator that is played."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datacube_flows.api.parse import parse_datacube
from datacube_flows.cluster.client import Client
from datacube_flows.cluster.connection import Place, connect
from datacube_flows.cluster.cubes import AppliedCube, Listener, apply_cube, wait_for_cube
from datacube_flows.cluster.patience import Patience
from datacube_flows.cluster.resource import DATACUBES
from tests.controller.api_proxy import ApiProxy, start_api_proxy, write_kubeconfig
from tests.pipelines.documents import run_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.cluster.errors import ApiError
    from tests.cluster.cluster import Cluster

PATIENCE = Patience(first_pause=0.1, longest_pause=0.5, seconds=3.0, idle_seconds=10.0)


@dataclass(frozen=True)
class Line:
    """A client that is tested, what it goes through, and another one, which plays everybody else."""

    client: Client
    proxy: ApiProxy
    others: Client
    namespace: str
    kubeconfig: Path

    async def apply(self, document: dict[str, Any]) -> AppliedCube:
        return await apply_cube(self.client, parse_datacube(document), self.namespace, patience=PATIENCE)

    def waiting(self, cube: AppliedCube, **options: Any) -> asyncio.Task[DataCubeStatus]:
        """Begins to wait."""
        options = {"patience": PATIENCE} | options
        return asyncio.create_task(wait_for_cube(self.client, cube, **options))

    async def says(self, name: str, status: dict[str, Any]) -> None:
        """Writes a status, as the operator does."""
        about = {"apiVersion": "tensorstack.dev/v1beta1", "kind": "DataCube", "metadata": {"name": name}}
        await self.others.apply(DATACUBES, self.namespace, about | {"status": status}, subresource="status")

    async def watched(self) -> None:
        """Returns when the client's watch is open."""
        await self.proxy.streaming()

    async def remove(self, cube: AppliedCube) -> None:
        await self.others.delete(DATACUBES, self.namespace, cube.name, uid=cube.uid)


@asynccontextmanager
async def line_to(api: Cluster, namespace: str, folder: Path) -> AsyncIterator[Line]:
    async with start_api_proxy(api.kubeconfig) as proxy:
        kubeconfig = write_kubeconfig(folder / "kubeconfig", proxy.url)
        async with connect(Place(kubeconfig)) as tested, connect(Place(api.kubeconfig)) as other:
            client, others = Client(tested.api, manager="datacube-flows"), Client(other.api, manager="datacube")
            yield Line(client, proxy, others, namespace, kubeconfig)


class Heard:
    """Who listens while a DataCube is waited for."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.troubles: list[ApiError] = []
        self.listener = Listener(status=self._status, trouble=self.troubles.append)

    def _status(self, status: DataCubeStatus) -> None:
        self.phases.append(str(status.phase))

    async def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)


def run_of(cube: AppliedCube, rerun: str = "") -> str:
    return run_name(cube.uid, rerun, cube.name)
