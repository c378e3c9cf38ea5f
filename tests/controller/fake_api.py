"""An API server of dicts, and caches that show what it holds only when a test says so.

Stands for `Client` and `Informer` where a cache has to be behind, a request has to fail at a chosen moment, or every
request is to be counted. What the real server does instead is held by the scenarios before it (`test_operator_*`).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from datacube_operator.client import Page
from datacube_operator.errors import AlreadyExists, ApiError, Conflict, NotFound
from datacube_operator.store import Store, object_key

from tests.controller.fake_clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from datacube_operator.client import Client
    from datacube_operator.informer import Informer
    from datacube_operator.resource import Resource
    from datacube_operator.store import Index

Object = dict[str, Any]

CHECKED = ("uid", "resourceVersion")


@dataclass
class FakeApi:
    """Objects by kind and key; every request stands in `calls` as `verb plural/name`."""

    clock: FakeClock
    objects: dict[str, Object] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    faults: dict[str, list[ApiError]] = field(default_factory=dict)
    version: int = 100

    @property
    def client(self) -> Client:
        return cast("Client", self)

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if call.split()[0] not in ("get", "list")]

    def fail(self, call: str, *errors: ApiError) -> None:
        """Has the next requests of a kind, as `create workflows`, end with errors before anything happens."""
        self.faults[call] = list(errors)

    def put(self, resource: Resource, obj: Object) -> Object:
        """Has an object there, as by somebody else."""
        self.version += 1
        about = {"uid": f"uid-{self.version}", "creationTimestamp": self.clock.utc().strftime("%Y-%m-%dT%H:%M:%SZ")}
        made = copy.deepcopy(obj)
        made["metadata"] = about | made["metadata"] | {"resourceVersion": str(self.version)}
        self.objects[f"{resource.plural}/{object_key(made)}"] = made
        return copy.deepcopy(made)

    def read(self, resource: Resource, key: str) -> Object | None:
        return self.objects.get(f"{resource.plural}/{key}")

    def all(self, resource: Resource) -> list[Object]:
        return [obj for key, obj in self.objects.items() if key.startswith(f"{resource.plural}/")]

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        self._ask("create", resource, body["metadata"]["name"])
        if self.read(resource, f"{namespace}/{body['metadata']['name']}"):
            raise AlreadyExists("create", 409, "AlreadyExists")
        return self.put(resource, body | {"metadata": body["metadata"] | {"namespace": namespace}})

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        self._ask("get", resource, name)
        return copy.deepcopy(self._there(resource, namespace, name))

    async def list(self, resource: Resource, namespace: str, *, labels: str = "") -> Page:
        self._ask("list", resource, labels)
        name, _, value = labels.partition("=")
        found = [o for o in self.all(resource) if o["metadata"].get("labels", {}).get(name) == value]
        return Page([o for o in found if o["metadata"]["namespace"] == namespace], "1", "")

    async def apply(self, resource: Resource, namespace: str, body: Object, *, subresource: str = "") -> Object:
        name = body["metadata"]["name"]
        self._ask("apply", resource, name)
        there = self._there(resource, namespace, name)
        names = ("resourceVersion",) if subresource else CHECKED  # the status of a custom resource keeps its metadata
        _check(there, body["metadata"], names)
        part = {"status": body["status"]} if subresource else body | {"metadata": there["metadata"] | body["metadata"]}
        return self.put(resource, there | part)

    async def patch(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        self._ask("patch", resource, name)
        there = self._there(resource, namespace, name)
        return self.put(resource, _merged(there, body))

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, version: str = "", propagation: str = ""
    ) -> None:
        self._ask("delete", resource, name)
        wanted = {"uid": uid} | ({"resourceVersion": version} if version else {})
        _check(self._there(resource, namespace, name), wanted)
        del self.objects[f"{resource.plural}/{namespace}/{name}"]

    def _ask(self, verb: str, resource: Resource, name: str) -> None:
        self.calls.append(f"{verb} {resource.plural}/{name}")
        if faults := self.faults.get(f"{verb} {resource.plural}"):
            raise faults.pop(0)

    def _there(self, resource: Resource, namespace: str, name: str) -> Object:
        found = self.read(resource, f"{namespace}/{name}")
        if found is None:
            raise NotFound("get", 404, "NotFound")
        return found


def _check(there: Object, wanted: Mapping[str, Any], names: Sequence[str] = CHECKED) -> None:
    for name in names:
        if name in wanted and wanted[name] != there["metadata"][name]:
            raise Conflict("write", 409, "Conflict")


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return copy.deepcopy(new)
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}


class FakeCache:
    """What an informer is to those who read it; it follows the server when `sync` is called, and not before."""

    def __init__(
        self,
        api: FakeApi,
        resource: Resource,
        indexes: Mapping[str, Index] | None = None,
        keep: Callable[[Object], Object] = lambda obj: obj,
    ) -> None:
        self._api, self._resource, self._keep = api, resource, keep
        self._routes: list[tuple[Callable[[Object], Iterable[str]], Callable[[str], None]]] = []
        self.store = Store(indexes)
        self.is_served = True

    @property
    def informer(self) -> Informer:
        return cast("Informer", self)

    def subscribe(
        self, add: Callable[[str], None], route: Callable[[Object], Iterable[str]] = lambda obj: [object_key(obj)]
    ) -> None:
        self._routes.append((route, add))

    def sync(self) -> None:
        """Has the store as the server is, and tells of every difference."""
        there = {object_key(obj): obj for obj in self._api.all(self._resource)}
        for key in [key for key in self.store if key not in there]:
            self._tell(self.store.remove(key))
        for obj in there.values():
            old = self.store.put(self._keep(copy.deepcopy(obj)))
            if old is None or old["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                self._tell(old, obj)

    def _tell(self, *objects: Object | None) -> None:
        for route, add in self._routes:
            for key in dict.fromkeys(key for obj in objects if obj is not None for key in route(obj)):
                add(key)
