"""What the tests before a real API server share: documents, connections through a proxy, and waiting."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datacube_operator.backoff import Backoff
from datacube_operator.client import Client, connect
from datacube_operator.clock import SystemClock
from datacube_operator.fence import Fence
from datacube_operator.informer import Informer, WatchTiming
from datacube_operator.metrics import Metrics
from datacube_operator.resource import DATACUBES

from tests.controller.api_proxy import ApiProxy, start_api_proxy, write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from kubernetes.aio.client import ApiClient

    from tests.cluster.cluster import Cluster

CLOCK = SystemClock()


def make_cube(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "tensorstack.dev/v1beta1",
        "kind": "DataCube",
        "metadata": {"name": name, **metadata},
        "spec": {
            "source": {"type": "git", "options": [{"name": "url", "value": "https://example.test/owner/repo.git"}]},
            "sink": {"type": "pvc", "pvc": {"name": "claim", "subPath": "data"}},
        },
    }


@dataclass(frozen=True)
class Line:
    """A client, and the proxy that it goes through."""

    connection: ApiClient
    client: Client
    proxy: ApiProxy
    metrics: Metrics


@asynccontextmanager
async def line_to(api: Cluster, folder: Path, fence: Fence | None = None) -> AsyncIterator[Line]:
    """Has a client of its own, behind a proxy of its own."""
    metrics = Metrics()
    async with start_api_proxy(api.kubeconfig) as proxy:
        kubeconfig = write_kubeconfig(folder / f"kubeconfig-{id(proxy)}", proxy.url)
        async with connect(kubeconfig) as connection:
            yield Line(connection, Client(connection, fence or Fence.none(CLOCK), metrics), proxy, metrics)


@asynccontextmanager
async def direct(api: Cluster, kubeconfig: Path | None = None) -> AsyncIterator[Client]:
    """Has a client that speaks TLS with the server, as the administrator unless told otherwise."""
    async with connect(kubeconfig or api.kubeconfig) as connection:
        yield Client(connection, Fence.none(CLOCK), Metrics())


@asynccontextmanager
async def as_pod() -> AsyncIterator[Client]:
    """Has a client as a pod has it: address from the environment, authority and token from files."""
    async with connect() as connection:
        yield Client(connection, Fence.none(CLOCK), Metrics())


@dataclass
class Watched:
    """An informer of the DataCubes of a namespace, at work, and the names that it told."""

    informer: Informer
    told: list[str]

    def names(self) -> list[str]:
        return sorted(key.partition("/")[2] for key in self.informer.store)

    def news(self) -> list[str]:
        """Names told since the last time, each once."""
        names = sorted({key.partition("/")[2] for key in self.told})
        self.told.clear()
        return names


@asynccontextmanager
async def watched(line: Line, namespace: str, *, idle_seconds: float = 70.0, page: int = 500) -> AsyncIterator[Watched]:
    timing = WatchTiming(
        idle_seconds=idle_seconds,
        page=page,
        backoff=Backoff(first=0.1, cap=1, jitter=0.5),
        unready_seconds=0.5,
    )
    informer = Informer(line.client, DATACUBES, CLOCK, line.metrics, namespace=namespace, timing=timing)
    seen = Watched(informer, [])
    informer.subscribe(seen.told.append)
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(20):
            await informer.synced.wait()
        await line.proxy.streaming()
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], seconds: float = 15) -> float:
    """Returns, when the condition holds, how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
    return time.monotonic() - began
