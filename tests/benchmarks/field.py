"""A namespace of an API server of the benchmarks' own, in which runs are held at their attempts, and counted."""

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

from datacube_operator.resource import CLAIMS, DATACUBES

from tests.benchmarks.costs import Cost
from tests.cluster.api import api_server
from tests.cluster.binaries import build_programs
from tests.cluster.crd_client import serve_crd
from tests.cluster.errors import ClusterError
from tests.cluster.places import places_from
from tests.controller.played_cluster import serve_argo
from tests.controller.played_kubelet import succeed
from tests.controller.scenarios_bench import NAMESPACES, WRITES
from tests.controller.scenarios_documents import CLAIM, download

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from datacube_operator.resource import Resource

    from tests.cluster.cluster import Cluster
    from tests.controller.api_proxy import ApiProxy
    from tests.controller.played_cluster import PlayedCluster

Object = dict[str, Any]
Item = TypeVar("Item")

USERS: Final = 16
"""How many at once make DataCubes."""

ONCE: Final = ("/serviceaccounts", "/rolebindings")
"""Made once for a namespace, whose cost is not that of a DataCube."""

RUN_SECONDS: Final = 1800.0
LOOK_SECONDS: Final = 0.25
"""How often is looked whether all have ended: the look itself takes the time of those that play."""

QUIET_SECONDS: Final = 2.0
FAILED: Final = {"Failed", "Error"}


@contextmanager
def own_server() -> Iterator[Cluster]:
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
        namespace: its name.
        gate: opened, attempts end.
        began: when the first run was asked for.
    """

    proxy: ApiProxy
    played: PlayedCluster
    count: int
    namespace: str
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = 0.0

    @property
    def names(self) -> list[str]:
        """Of the DataCubes."""
        return [f"cube-{number:04}" for number in range(self.count)]

    async def begin(self) -> None:
        """Makes the namespace, has all attempts run until the gate is opened, and counts from now on."""
        await self.played.client.create(NAMESPACES, None, {"metadata": {"name": self.namespace}})
        script = (replace(succeed(), gate=self.gate),)
        self.played.kubelet.scripts.update({f"{self.namespace}/{name}": script for name in self.names})
        self.proxy.seen.clear()
        self.began = time.monotonic()

    async def fill(self) -> None:
        """Makes a claim, and DataCubes that fill folders of it."""
        client = self.played.client
        await client.create(CLAIMS, self.namespace, CLAIM)

        async def make(name: str) -> None:
            await client.create(DATACUBES, self.namespace, document_of(name))

        await each(self.names, USERS, make)

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
        found = (store.get(key) or {} for key in store if key.startswith(f"{self.namespace}/"))
        return Counter(str((obj.get("status") or {}).get("phase", "")) for obj in found)

    async def end(self, resource: Resource) -> Cost:
        """Lets all attempts end; returns what was spent until all objects of a kind had, and nothing more was asked."""
        self.gate.set()
        await self.all_are("Succeeded", resource)
        seconds = time.monotonic() - self.began
        lines = await self.quiet()
        return Cost(self.count, seconds, len(lines), sum(1 for line in lines if re.search(WRITES, line)))

    async def quiet(self) -> list[str]:
        """Returns what the operator asked here, once it asks no more."""
        known = -1
        while known != len(lines := self._lines()):
            known = len(lines)
            await asyncio.sleep(QUIET_SECONDS)
        return lines

    def _lines(self) -> list[str]:
        lines = (seen.line for seen in self.proxy.seen if f"/namespaces/{self.namespace}/" in seen.line)
        return [line for line in lines if not any(name in line for name in ONCE)]


async def each(items: Iterable[Item], hands: int, make: Callable[[Item], Awaitable[None]]) -> None:
    """Makes something of each item, so many at once, in their order."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await make(item)

    await asyncio.gather(*(work() for _ in range(hands)))


def document_of(name: str, **metadata: str) -> Object:
    """Returns a download into a folder of its own."""
    document = download(name, sub_path=f"sets/{name}")
    return document | {"metadata": document["metadata"] | metadata}
