"""Assembles one replica of the operator: its caches, its engines and its controller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.core import labels
from datacube_flows.engines.argo_trim import trim_pod, trim_workflow
from datacube_operator.accounts import Accounts
from datacube_operator.argo_engine import ArgoEngine, ArgoParts
from datacube_operator.attempt_pods import PodParts
from datacube_operator.case import Caches
from datacube_operator.chronicle import Outlets
from datacube_operator.client import Client
from datacube_operator.controller import Controller, Pace
from datacube_operator.cube import BY_CLAIM, BY_UID, CUBE_INDEXES, POD_INDEXES, claim_key, uid_keys
from datacube_operator.election import Election
from datacube_operator.events import Recorder
from datacube_operator.fence import Fence
from datacube_operator.informer import Informer
from datacube_operator.path_queue import PathQueue
from datacube_operator.paths import claims_let_go
from datacube_operator.progress import ProgressReader
from datacube_operator.queue import Queue
from datacube_operator.reconcile import Reconciler
from datacube_operator.resource import CLAIMS, DATACUBES, PODS, WORKFLOW_TEMPLATES, WORKFLOWS
from datacube_operator.runtime import Runtime
from datacube_operator.status_book import StatusBook
from datacube_operator.store import object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kubernetes.aio.client import ApiClient

    from datacube_operator.clock import Clock
    from datacube_operator.engine import Engine
    from datacube_operator.informer import Route
    from datacube_operator.metrics import Metrics
    from datacube_operator.resource import Resource
    from datacube_operator.runtime import Worker
    from datacube_operator.settings import Settings
    from datacube_operator.store import Index

    Object = dict[str, Any]

MANAGED: Final = f"{labels.MANAGED_BY}={labels.MANAGER}"


@dataclass(frozen=True)
class _Watching:
    """Makes informers of one client and one namespace."""

    client: Client
    clock: Clock
    metrics: Metrics
    namespace: str | None

    def of(
        self, resource: Resource, indexes: Mapping[str, Index], keep: Callable[[Object], Object], selector: str = ""
    ) -> Informer:
        return Informer(
            self.client,
            resource,
            self.clock,
            self.metrics,
            namespace=self.namespace,
            labels=selector,
            indexes=indexes,
            keep=keep,
        )


def make_replica(api: ApiClient, settings: Settings, clock: Clock, metrics: Metrics) -> Runtime:
    """Returns a replica that is ready to run, on a connection to the API server."""
    fence, queue = Fence(clock), Queue(clock)
    client = Client(api, fence, metrics)
    watching = _Watching(client, clock, metrics, settings.namespace or None)
    cubes = watching.of(DATACUBES, CUBE_INDEXES, trim_cube)
    claims = watching.of(CLAIMS, {}, trim_claim)
    pods = watching.of(PODS, POD_INDEXES, trim_pod, MANAGED)
    workflows = watching.of(WORKFLOWS, {}, trim_workflow, MANAGED)
    templates = watching.of(WORKFLOW_TEMPLATES, {}, trim_template, MANAGED)
    recorder = Recorder(client, settings.identity, clock)
    reader = ProgressReader(client, clock, metrics, queue.add) if settings.has_progress else None
    paths, book, caches = PathQueue(queue.add), StatusBook(client), Caches(cubes, claims, pods)
    engines: dict[str, Engine] = {"argo": _argo(client, workflows, templates, pods, settings=settings, clock=clock)}
    histories: list[Worker] = []
    if settings.prefect_url:
        from datacube_operator.prefect_replica import make_prefect  # seconds and megabytes: only where it is used

        making = PodParts(client, pods, claims, clock, settings.installation, settings.has_progress)
        engines["prefect"], history = make_prefect(making, cubes, book, reader, settings=settings, wake=queue.add)
        histories.append(history)
    reconciler = Reconciler(
        client,
        caches,
        book,
        engines={name: engines[name] for name in sorted(engines, key=lambda name: name != settings.engine)},
        policy=settings.policy,
        outlets=Outlets(recorder, reader, metrics),
        paths=paths,
        clock=clock,
    )
    _subscribe(queue, caches, (workflows, templates), paths)
    controller = Controller(
        "datacubes",
        queue,
        reconciler.reconcile,
        keys=lambda: cubes.store,
        clock=clock,
        metrics=metrics,
        pace=Pace(workers=settings.workers),
    )
    return Runtime(
        [cubes, claims, pods],
        [workflows, templates],
        [controller, *histories],
        _election(Client(api, Fence.none(clock), metrics), fence, settings, clock, metrics),
        recorder,
        readers=[reader] if reader else [],
    )


def _argo(
    client: Client, workflows: Informer, templates: Informer, pods: Informer, *, settings: Settings, clock: Clock
) -> ArgoEngine:
    accounts = Accounts(client, clock, settings.argo, is_on=settings.has_accounts)
    rendering = settings.installation, settings.argo, settings.argo_url
    return ArgoEngine(ArgoParts(client, workflows, templates, pods, accounts, clock, *rendering))


def _subscribe(queue: Queue, caches: Caches, of_engines: Iterable[Informer], paths: PathQueue) -> None:
    """Has each change looked at by the DataCubes that it is about, and by those that wait for a path."""
    cubes = caches.cubes
    cubes.subscribe(queue.add)
    caches.claims.subscribe(queue.add, _to_cubes(cubes, BY_CLAIM, _claim_of))
    for informer in (caches.pods, *of_engines):
        informer.subscribe(queue.add, _to_cubes(cubes, BY_UID, uid_keys))
    caches.pods.subscribe(paths.wake, claims_let_go)


def _election(client: Client, fence: Fence, settings: Settings, clock: Clock, metrics: Metrics) -> Election:
    """Decides which replica leads; its client writes the lease whether this one leads or not."""
    return Election(
        client,
        fence,
        namespace=settings.lease_namespace,
        name=settings.lease_name,
        identity=settings.identity,
        clock=clock,
        metrics=metrics,
    )


def _to_cubes(cubes: Informer, index: str, values: Callable[[Object], Iterable[str]]) -> Route:
    """Finds the DataCubes that an object of another kind is about."""
    return lambda obj: [object_key(cube) for value in values(obj) for cube in cubes.store.find(index, value)]


def _claim_of(claim: Object) -> list[str]:
    return [claim_key(claim["metadata"]["namespace"], claim["metadata"]["name"])]


def trim_cube(cube: Object) -> Object:
    """Keeps a DataCube but for what others wrote about it, and of its annotations the one that is read."""
    about = cube["metadata"]
    notes = about.get("annotations") or {}
    kept = {name: notes[name] for name in (labels.RERUN,) if name in notes}
    metadata = {k: v for k, v in about.items() if k not in ("managedFields", "annotations")} | {"annotations": kept}
    return {**cube, "metadata": metadata}


def trim_claim(claim: Object) -> Object:
    """Keeps of a claim whose it is, whether it is on its way out, and its phase: there may be very many of them."""
    about = claim["metadata"]
    names = ("namespace", "name", "uid", "resourceVersion", "deletionTimestamp")
    metadata = {name: about[name] for name in names if name in about}
    return {"metadata": metadata, "status": {"phase": (claim.get("status") or {}).get("phase")}}


def trim_template(template: Object) -> Object:
    """Keeps of a template its metadata, in which the hash of the rest stands."""
    return {"metadata": {k: v for k, v in template["metadata"].items() if k != "managedFields"}}
