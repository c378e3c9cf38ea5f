"""What the operator's scenarios happen in: a real API server, all around it played, the operator as a process.

Requests of the operator, and nobody else's, go through the proxy; so they can be counted by namespace.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.errors import NotFound
from datacube_operator.resource import (
    CLAIMS,
    DATACUBES,
    EVENTS,
    PODS,
    WORKFLOW_TEMPLATES,
    WORKFLOWS,
    Resource,
)

from datacube_flows.core import labels
from tests.canary import has_canary
from tests.controller.api_proxy import start_api_proxy, write_kubeconfig
from tests.controller.operator_run import OperatorRun
from tests.controller.played_cluster import played_cluster
from tests.controller.scenarios_documents import CLAIM
from tests.controller.scenarios_rights import operator_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from datacube_operator.client import Client

    from tests.cluster.cluster import Cluster
    from tests.controller.api_proxy import ApiProxy
    from tests.controller.played_cluster import PlayedCluster
    from tests.controller.played_kubelet import Attempt
    from tests.servers.prefect import PrefectServer

Object = dict[str, Any]
Document = dict[str, Any]

NAMESPACES: Final = Resource("", "v1", "namespaces")
WRITES: Final = r"^(POST|PUT|PATCH|DELETE) "
SECONDS: Final = 20.0
SHOWN: Final = (DATACUBES, WORKFLOWS, WORKFLOW_TEMPLATES, PODS, CLAIMS, EVENTS)
FLAGS: Final = ("--no-progress", "--allow-http")


@dataclass
class World:
    """Everything, for the tests of one module."""

    server: Cluster
    played: PlayedCluster
    proxy: ApiProxy
    operator: OperatorRun
    prefect: PrefectServer | None = None
    namespaces: int = 0

    @property
    def client(self) -> Client:
        """The administrator's."""
        return self.played.client

    async def stage(self, name: str) -> Stage:
        """Returns a namespace of a scenario's own."""
        self.namespaces += 1
        name = f"{name}-{self.namespaces}-{self.operator.identity}"
        with suppress(NotFound):
            await self.client.create(NAMESPACES, None, {"metadata": {"name": name}})
        return Stage(self, name)

    def calm(self) -> None:
        """Has the proxy break nothing more."""
        self.proxy.faults.clear()
        self.proxy.cut = False


@dataclass
class Stage:
    """A namespace, and what a scenario does and sees in it."""

    world: World
    namespace: str
    first: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = len(self.world.proxy.seen)

    @property
    def client(self) -> Client:
        """The administrator's."""
        return self.world.client

    async def claim(self, name: str = "data", phase: str = "Bound") -> Object:
        """Makes a claim, as a volume's binder leaves it."""
        await self.client.create(CLAIMS, self.namespace, CLAIM | {"metadata": {"name": name}})
        status = {"status": {"phase": phase}}
        return await self.client.patch(CLAIMS, self.namespace, name, status, subresource="status")

    async def create(self, document: Document, *script: Attempt) -> Object:
        """Makes a DataCube whose attempts go as a script says."""
        if script:
            self.play(document["metadata"]["name"], *script)
        return await self.client.create(DATACUBES, self.namespace, document)

    def play(self, name: str, *script: Attempt) -> None:
        """Says how a DataCube's attempts go from now on."""
        self.world.played.kubelet.scripts[f"{self.namespace}/{name}"] = script

    async def cube(self, name: str) -> Object:
        """Returns a DataCube as it is now."""
        return await self.client.get(DATACUBES, self.namespace, name)

    async def patch(self, name: str, body: Object) -> Object:
        """Changes a DataCube as a user does."""
        return await self.client.patch(DATACUBES, self.namespace, name, body)

    async def rerun(self, name: str, value: str) -> Object:
        """Asks for another run."""
        return await self.patch(name, {"metadata": {"annotations": {labels.RERUN: value}}})

    async def suspend(self, name: str, *, on: bool) -> Object:
        """Holds a DataCube, or lets it go on."""
        return await self.patch(name, {"spec": {"suspend": on}})

    async def delete(self, name: str) -> None:
        """Deletes a DataCube as kubectl does."""
        uid = (await self.cube(name))["metadata"]["uid"]
        await self.client.delete(DATACUBES, self.namespace, name, uid=uid)

    async def until(self, name: str, holds: Callable[[Outcome], bool], seconds: float = SECONDS) -> Outcome:
        """Returns how a DataCube stands, as soon as that is so."""
        seen: Outcome | None = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    seen = outcome_of(await self.cube(name))
                    if holds(seen):
                        return seen
                    await asyncio.sleep(0.03)
        except TimeoutError:
            raise AssertionError(f"{name} after {seconds:.0f} s: {seen}\n{self.world.operator.log_end()}") from None

    async def phase(self, name: str, phase: str, seconds: float = SECONDS) -> Outcome:
        """Returns how a DataCube stands, once its phase is this one."""
        return await self.until(name, lambda seen: seen.phase == phase, seconds)

    async def ends(self, name: str, seconds: float = SECONDS) -> Outcome:
        """Returns how a DataCube stands, once its run has ended."""
        return await self.until(name, lambda seen: seen.phase in ("Succeeded", "Failed"), seconds)

    async def waits(self, name: str, reason: str, seconds: float = SECONDS) -> Outcome:
        """Returns how a DataCube stands, once it says that it waits for this reason."""
        return await self.until(name, lambda seen: seen.waits_for == reason, seconds)

    async def objects(self, resource: Resource) -> list[Object]:
        """Returns all of a kind here."""
        return (await self.client.list(resource, self.namespace)).items

    async def pods(self, cube: str) -> list[Object]:
        """Returns the attempts of a DataCube, the first one first."""
        all_pods = await self.objects(PODS)
        found = [pod for pod in all_pods if pod["metadata"]["labels"].get(labels.NAME) == cube]
        return sorted(found, key=lambda pod: int(pod["metadata"]["labels"][labels.ATTEMPT]))

    async def gone(self, resource: Resource, seconds: float = SECONDS) -> None:
        """Returns when nothing of a kind is left here."""
        async with asyncio.timeout(seconds):
            while await self.objects(resource):
                await asyncio.sleep(0.03)

    def workflows(self) -> list[str]:
        """Returns the names of all workflows that were ever made here, one for each uid."""
        return self.world.played.argo.workflows_of(self.namespace)

    def requests(self, match: str = "") -> list[str]:
        """Returns what the operator asked about this namespace: no watches, no lists of all."""
        lines = (seen.line for seen in self.world.proxy.seen[self.first :])
        return [line for line in lines if f"/namespaces/{self.namespace}/" in line and re.search(match, line)]

    def writes(self) -> list[str]:
        """Returns the operator's writes here."""
        return self.requests(WRITES)

    async def quiet(self, seconds: float = 0.25) -> None:
        """Returns when the operator has asked nothing about this namespace for so long."""
        async with asyncio.timeout(SECONDS):
            count = -1
            while count != len(self.requests()):
                count = len(self.requests())
                await asyncio.sleep(seconds)

    async def leaks(self) -> list[str]:
        """Which kinds of objects here show a credential."""
        return [str(kind) for kind in SHOWN if has_canary(json.dumps(await self.objects(kind)))]


@dataclass(frozen=True)
class Outcome:
    """A status, as a row of a table has it."""

    phase: str
    reasons: dict[str, tuple[str, str]]
    attempts: tuple[tuple[int, str], ...]
    workflow: str
    status: Object = field(repr=False)
    messages: dict[str, str] = field(default_factory=dict)

    @property
    def waits_for(self) -> str:
        """Why it does not run."""
        status, reason = self.reasons.get("Initialized", ("", ""))
        return reason if status == "False" else ""

    @property
    def reason(self) -> str:
        """Why it is complete or failed; empty where it is neither."""
        ended = [
            reason for kind, (status, reason) in self.reasons.items() if kind != "Initialized" and status == "True"
        ]
        return ended[0] if ended else ""

    @property
    def conditions(self) -> str:
        """True, False or Unknown of the three, by their first letters, in their order."""
        return "".join(status[0] for status, _ in self.reasons.values())


def outcome_of(cube: Object) -> Outcome:
    """Reads the status of a DataCube."""
    status = cube.get("status") or {}
    conditions = status.get("conditions") or ()
    return Outcome(
        phase=status.get("phase", ""),
        reasons={c["type"]: (c["status"], c.get("reason", "")) for c in conditions},
        attempts=tuple((a["number"], a.get("reason", "")) for a in status.get("attempts") or ()),
        workflow=(status.get("workflow") or {}).get("name", ""),
        status=status,
        messages={c["type"]: c.get("message", "") for c in conditions},
    )


@asynccontextmanager
async def made_world(
    server: Cluster,
    folder: Path,
    identity: str,
    flags: Sequence[str] = FLAGS,
    prefect: PrefectServer | None = None,
) -> AsyncIterator[World]:
    """Has everything at work while the block runs; the operator has the rights of its installation and no others.

    With a Prefect server, that is what runs DataCubes which name no engine, with short pauses between attempts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    token = operator_token(server, with_prefect=prefect is not None)
    async with (
        start_api_proxy(server.kubeconfig, rights="client" if token else "administrator") as proxy,
        played_cluster(server.kubeconfig) as played,
    ):
        kubeconfig = write_kubeconfig(folder / f"{identity}.kubeconfig", proxy.url, token)
        operator = OperatorRun(kubeconfig, folder, flags, identity, token)
        if prefect is not None:
            operator.module = "tests.controller.quick_operator"
            operator.flags = [*flags, "--engine=prefect", f"--prefect-url={prefect.url}"]
            operator.flags += [f"--prefect-ui-url={prefect.ui_url}"]
            operator.environment = {"PREFECT_API_AUTH_STRING": prefect.auth}
        try:
            operator.start()
            await operator.until_ready()
            yield World(server, played, proxy, operator, prefect)
            proxy.faults.clear()
            if operator.is_running:
                assert await operator.stop() == 0, operator.log_end()
        finally:
            operator.kill()
    assert operator.faults() == [], operator.log_file
