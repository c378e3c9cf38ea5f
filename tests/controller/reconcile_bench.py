"""The reconciler and its engine before a server of dicts: caches lag, requests fail and time passes as a test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from datacube_operator.case import Caches
from datacube_operator.chronicle import Outlets
from datacube_operator.cube import BY_UID, CUBE_INDEXES, Cube, read_status, uid_keys
from datacube_operator.errors import TemporaryError
from datacube_operator.metrics import Metrics
from datacube_operator.path_queue import PathQueue
from datacube_operator.paths import claims_let_go
from datacube_operator.reconcile import Reconciler
from datacube_operator.replica import trim_claim, trim_cube
from datacube_operator.resource import CLAIMS, DATACUBES, PODS, WORKFLOWS
from datacube_operator.status_book import StatusBook

from datacube_flows.core.plan import Policy
from tests.controller.argo_shop import Shop
from tests.controller.decision_objects import NAMESPACE, made, plan_of, pod_of
from tests.controller.fake_api import FakeCache
from tests.controller.scenarios_documents import download

if TYPE_CHECKING:
    from datacube_operator.events import Recorder, Words
    from datacube_operator.progress import ProgressReader

    from datacube_flows.core.plan import TransferPlan
    from tests.controller.fake_clock import FakeClock

Object = dict[str, Any]


@dataclass
class Heard:
    """Takes what is told beside status: events, and whose logs are read."""

    events: list[tuple[str, str]] = field(default_factory=list)
    watched: dict[str, str] = field(default_factory=dict)

    def record(self, _about: Object, words: Words) -> bool:
        self.events.append((words.type, words.reason))
        return True

    def watch(self, key: str, _namespace: str, pod: str, _uid: str) -> None:
        self.watched[key] = pod

    def forget(self, key: str) -> None:
        self.watched.pop(key, None)

    def latest(self, _uid: str) -> None:
        return None


@dataclass
class Bench:
    """A replica that leads, without its loops: `look` is one reconcile, `settle` as many as changes ask for."""

    clock: FakeClock

    def __post_init__(self) -> None:
        self.shop = Shop(self.clock)
        self.api, self.engine = self.shop.api, self.shop.engine
        self.cubes = FakeCache(self.api, DATACUBES, CUBE_INDEXES, trim_cube)
        self.claims = FakeCache(self.api, CLAIMS, keep=trim_claim)
        self.queue: dict[str, None] = {}
        self.heard = Heard()
        self.paths = PathQueue(self.add)
        self.book = StatusBook(self.api.client)
        self.cubes.subscribe(self.add)
        for cache in (self.shop.pods, self.shop.workflows):
            cache.subscribe(self.add, self._cubes_of)
        self.shop.pods.subscribe(self.paths.wake, claims_let_go)
        self.reconciler = self._reconciler()

    def _reconciler(self) -> Reconciler:
        outlets = Outlets(cast("Recorder", self.heard), cast("ProgressReader", self.heard), Metrics())
        return Reconciler(
            self.api.client,
            Caches(self.cubes.informer, self.claims.informer, self.shop.pods.informer),
            self.book,
            engines={"argo": self.engine},
            policy=Policy(),
            outlets=outlets,
            paths=self.paths,
            clock=self.clock,
        )

    def _cubes_of(self, obj: Object) -> list[str]:
        found = (cube for key in uid_keys(obj) for cube in self.cubes.store.find(BY_UID, key))
        return [f"{cube['metadata']['namespace']}/{cube['metadata']['name']}" for cube in found]

    def add(self, key: str) -> None:
        self.queue[key] = None

    def sync(self) -> None:
        """Has all caches show what the server holds."""
        for cache in (self.cubes, self.claims):
            cache.sync()
        self.shop.sync()

    async def look(self, name: str = "cube") -> float | None:
        """Reconciles once, from caches as they are; returns when to come again."""
        return (await self.reconciler.reconcile(f"{NAMESPACE}/{name}")).requeue_after

    async def settle(self, limit: int = 20) -> int:
        """Reconciles what changes ask for until nothing does, and returns how often; never more than `limit` times."""
        for number in range(limit):
            self.sync()
            if not self.queue:
                return number
            key = next(iter(self.queue))
            del self.queue[key]
            try:
                await self.reconciler.reconcile(key)
            except TemporaryError:
                self.add(key)
        raise AssertionError(f"it does not come to rest: {self.api.writes[-6:]}")

    async def begin(self, document: Object | None = None, **metadata: Any) -> TransferPlan:
        """Has a claim and a DataCube there, and its run begun; returns its plan."""
        if self.api.read(CLAIMS, f"{NAMESPACE}/data") is None:
            self.claim()
        document = self.put(document or download("cube"), **metadata)
        await self.settle()
        return plan_of(document)

    def put(self, document: Object, **metadata: Any) -> Object:
        """Has a DataCube there, or changed."""
        return self.api.put(DATACUBES, made(document, **metadata))

    def change(self, name: str = "cube", *, spec: Object | None = None, **metadata: Any) -> None:
        """Has fields of a DataCube's spec or metadata changed by its author."""
        there = self.document(name)
        about = there["metadata"] | metadata | ({"generation": there["metadata"]["generation"] + 1} if spec else {})
        self.api.put(DATACUBES, there | {"spec": there["spec"] | (spec or {}), "metadata": about})

    def claim(self, phase: str = "Bound") -> None:
        about = {"name": "data", "namespace": NAMESPACE}
        self.api.put(CLAIMS, {"metadata": about, "status": {"phase": phase}})

    def pod(self, plan: TransferPlan, phase: str = "Running", **options: Any) -> Object:
        """Has an attempt of a run show something."""
        workflow = self.workflow(plan)
        assert workflow is not None
        return self.api.put(PODS, pod_of(plan, workflow, phase, **options))

    def workflow(self, plan: TransferPlan) -> Object | None:
        return self.api.read(WORKFLOWS, f"{NAMESPACE}/{plan.run_name}")

    def remove(self, resource: Any, name: str) -> None:
        """Has an object gone, as by somebody else."""
        del self.api.objects[f"{resource.plural}/{NAMESPACE}/{name}"]

    def document(self, name: str = "cube") -> Object:
        found = self.api.read(DATACUBES, f"{NAMESPACE}/{name}")
        assert found is not None
        return found

    def cube(self, name: str = "cube") -> Cube:
        """A DataCube as the server has it."""
        document = self.document(name)
        return Cube(document, read_status(document))

    def reason(self, name: str = "cube") -> str:
        """The reason that stands at the first condition that has one."""
        return next((c.reason for c in self.cube(name).status.conditions or () if c.reason), "")

    def phase(self, name: str = "cube") -> str:
        return str(self.cube(name).status.phase or "")

    @property
    def begun(self) -> list[str]:
        """Names of workflows that were asked for."""
        return [call.partition("/")[2] for call in self.api.calls if call.startswith("create workflows/")]
