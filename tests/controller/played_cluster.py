"""All that is missing around an API server without controllers: Argo, the kubelet, the garbage collector, played."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.backoff import Backoff
from datacube_operator.client import Client, connect
from datacube_operator.errors import ApiError, NotFound
from datacube_operator.fence import Fence
from datacube_operator.informer import Informer, WatchTiming
from datacube_operator.metrics import Metrics
from datacube_operator.resource import DATACUBES, PODS, WORKFLOW_TEMPLATES, WORKFLOWS, Resource

from datacube_flows.core import labels
from tests.controller.played_argo import POD_INDEXES, PlayedArgo
from tests.controller.played_kubelet import PlayedKubelet
from tests.controller.server import CLOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kubernetes.aio.client import ApiClient

    from tests.cluster.cluster import Cluster

Object = dict[str, Any]

MANAGED: Final = f"{labels.MANAGED_BY}={labels.MANAGER}"
COLLECT_SECONDS: Final = 0.05
AT_ONCE: Final = 32
TLS_SECONDS: Final = 0.25
"""So long connections may take to say goodbye after they were closed (aiohttp, 'Graceful shutdown')."""

TIMING: Final = WatchTiming(backoff=Backoff(first=0.1, cap=0.5))
OWNERS: Final = {"DataCube": DATACUBES, "Workflow": WORKFLOWS}


class PatientClient(Client):
    """Asks for a few things at a time: a thousand requests at once would run out of time while they wait."""

    def __init__(self, api: ApiClient) -> None:
        super().__init__(api, Fence.none(CLOCK), Metrics())
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def _ask(self, *request: Any) -> Object:
        async with self._turns:
            return await super()._ask(*request)


@dataclass(frozen=True)
class PlayedCluster:
    """The parts while they play, and the administrator's client."""

    client: Client
    argo: PlayedArgo
    kubelet: PlayedKubelet
    informers: dict[Resource, Informer]

    async def collect(self) -> None:
        """Deletes what has lost its owner, as the garbage collector does, until cancelled."""
        while True:
            await asyncio.sleep(COLLECT_SECONDS)
            for resource in (WORKFLOWS, WORKFLOW_TEMPLATES, PODS):
                for obj in self._suspects(resource):
                    await self._collect(resource, obj)

    def _suspects(self, resource: Resource) -> list[Object]:
        """The objects of which an owner is in no cache; there may be thousands of others, which take no time."""
        store = self.informers[resource].store
        alive = (obj for obj in map(store.get, store) if obj is not None and "deletionTimestamp" not in obj["metadata"])
        return [obj for obj in alive if not all(self._is_known(o, obj) for o in owners_of(obj))]

    def _is_known(self, owner: Object, obj: Object) -> bool:
        known = self.informers[OWNERS[owner["kind"]]].store.get(f"{obj['metadata']['namespace']}/{owner['name']}")
        return known is not None and known["metadata"]["uid"] == owner["uid"]

    async def _collect(self, resource: Resource, obj: Object) -> None:
        about = obj["metadata"]
        with suppress(ApiError):
            for owner in owners_of(obj):
                if not self._is_known(owner, obj) and not await self._is_there(owner, about["namespace"]):
                    await self.client.delete(resource, about["namespace"], about["name"], uid=about["uid"])
                    return

    async def _is_there(self, owner: Object, namespace: str) -> bool:
        """Whether an owner exists that no cache shows, since caches are late."""
        try:
            found = await self.client.get(OWNERS[owner["kind"]], namespace, owner["name"])
        except NotFound:
            return False
        return bool(found["metadata"]["uid"] == owner["uid"])


def owners_of(obj: Object) -> list[Object]:
    """Returns who owns an object."""
    owners: list[Object] = obj["metadata"].get("ownerReferences") or []
    return owners


@asynccontextmanager
async def played_cluster(kubeconfig: Path) -> AsyncIterator[PlayedCluster]:
    """Plays while the block runs, in every namespace."""
    async with connect(kubeconfig) as api:
        made = _make(api)
        running = [*(informer.run() for informer in made.informers.values()), made.collect()]
        tasks = [asyncio.create_task(part) for part in running]
        try:
            async with asyncio.timeout(20):
                for informer in made.informers.values():
                    await informer.synced.wait()
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await made.argo.close()
            await made.kubelet.close()
    await asyncio.sleep(TLS_SECONDS)


def _make(api: ApiClient) -> PlayedCluster:
    client, metrics = PatientClient(api), Metrics()
    informers = {
        resource: Informer(
            client,
            resource,
            CLOCK,
            metrics,
            labels=MANAGED if resource == PODS else "",
            indexes=POD_INDEXES if resource == PODS else {},
            timing=TIMING,
        )
        for resource in (DATACUBES, WORKFLOWS, WORKFLOW_TEMPLATES, PODS)
    }
    pods = informers[PODS]
    kubelet = PlayedKubelet(client, api, pods)
    argo = PlayedArgo(client, informers[WORKFLOWS], informers[WORKFLOW_TEMPLATES], pods, kubelet)
    return PlayedCluster(client, argo, kubelet, informers)


def argo_crds() -> list[Object]:
    """Returns the CRDs that the operator works with, without their schemas, as Argo's minimal installation has them."""
    return [_crd("Workflow", "wf"), _crd("WorkflowTemplate", "wftmpl"), _crd("WorkflowTaskResult", "wftr")]


def _crd(kind: str, short: str) -> Object:
    plural, group = f"{kind.lower()}s", "argoproj.io"
    schema = {
        "type": "object",
        "required": ["metadata"],
        "properties": {
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "shortNames": [short]},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def serve_argo(server: Cluster) -> None:
    """Has the server know workflows, their templates and the results of their pods."""
    server.apply(*argo_crds())
    for crd in argo_crds():
        name = f"crd/{crd['metadata']['name']}"
        server.kubectl("wait", name, "--for=jsonpath={.status.acceptedNames.plural}", "--timeout=20s")
