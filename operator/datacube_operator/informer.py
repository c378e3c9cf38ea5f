"""Keeps the objects of one resource and selector in a store, and tells which keys to look at.

List in pages, then watch from the list's version with bookmarks. Every way in which a watch can end leads back to one
of the two: go on from the last version seen, or list again and tell the difference, deletions included.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datacube_operator.backoff import Backoff, Failures
from datacube_operator.clock import sleep
from datacube_operator.errors import ApiError, Gone, NotFound, Silent, Unavailable, error_from_status
from datacube_operator.logs import log
from datacube_operator.store import Store, object_key, trim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from datacube_operator.client import Client, Object, WatchEvent
    from datacube_operator.clock import Clock
    from datacube_operator.metrics import Metrics
    from datacube_operator.resource import Resource
    from datacube_operator.store import Index

    Route = Callable[[Object], Iterable[str]]
    """Which keys an object's change is about: its own, or its owner's."""


@dataclass(frozen=True)
class WatchTiming:
    """How long a watch may last, may be silent, and how failures are spaced."""

    seconds: float = 300.0
    idle_seconds: float = 70.0
    """After so long a silence a new watch tells whether the old one was dead. Silence alone is no failure: the first
    bookmark comes after up to two minutes, and none while nothing of a kind has changed since the server started."""

    page: int = 500
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.5, cap=30.0, jitter=0.5))
    steady_seconds: float = 10.0
    """A watch that lasted so long was a good one: failures before it no longer count."""

    shortest_seconds: float = 1.0
    """A watch that the server ends sooner is a failure, lest the two be busy with each other."""

    unready_seconds: float = 15.0
    """After so long without an API server the store may be too old to be called ready."""


class Informer:
    """The objects of one resource, as they are in the cluster, a moment later.

    Args:
        client: asks the API server.
        resource: what is kept.
        clock: for back-off.
        metrics: counts watches that end.
        namespace: where; None is the whole cluster.
        labels: a label selector.
        indexes: name -> index of the store.
        keep: what of an object is kept.
        timing: see there.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        clock: Clock,
        metrics: Metrics,
        *,
        namespace: str | None = None,
        labels: str = "",
        indexes: Mapping[str, Index] | None = None,
        keep: Callable[[Object], Object] = trim,
        timing: WatchTiming | None = None,
    ) -> None:
        self._client, self._clock, self._metrics = client, clock, metrics
        self._namespace, self._labels, self._keep = namespace, labels, keep
        self._timing = timing or WatchTiming()
        self._routes: list[tuple[Route, Callable[[str], None]]] = []
        self._failures = Failures(self._timing.backoff)
        self._failing_since: float | None = None
        self._version = ""  # the last one seen; empty where a list is needed
        self._turn: asyncio.Task[None] | None = None
        self.resource = resource
        self.store = Store(indexes)
        self.is_served = True  # False once the server said that it has no such kind; it may be installed later
        self.synced = asyncio.Event()

    def is_ready(self) -> bool:
        """Whether the store was filled and the API server was there of late."""
        since = self._failing_since
        return self.synced.is_set() and (since is None or self._clock.now() - since < self._timing.unready_seconds)

    def subscribe(self, add: Callable[[str], None], route: Route = lambda obj: [object_key(obj)]) -> None:
        """Has `add` called with the keys that any change is about; to be said before `run`."""
        self._routes.append((route, add))

    async def run(self) -> None:
        """Keeps the store right until cancelled."""
        while True:
            self._turn = asyncio.create_task(self._follow())
            try:
                await asyncio.wait([self._turn])
            finally:
                self._turn.cancel()
                await asyncio.gather(self._turn, return_exceptions=True)
            if not self._turn.cancelled():
                self._turn.result()

    def list_anew(self) -> None:
        """Has the store filled from a list that begins now, and `synced` unset until then.

        A watch may be cut off for a minute before that is noticed: whoever has to know what others wrote up to this
        moment asks for this first.
        """
        self.synced.clear()
        self._version = ""
        if self._turn is not None:
            self._turn.cancel()

    async def _follow(self) -> None:
        """Lists and watches until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Silent:
                self._count("Silent")
            except ApiError as error:
                if isinstance(error, Gone | NotFound):
                    self._version = ""
                if isinstance(error, NotFound):
                    self._empty()
                await self._pause(error)

    async def _list(self) -> None:
        """Has the store as the cluster is, and tells the difference."""
        seen: set[str] = set()
        token = ""
        while True:
            page = await self._client.list(
                self.resource, self._namespace, labels=self._labels, limit=self._timing.page, token=token
            )
            for obj in page.items:
                seen.add(object_key(obj))
                self._put(obj)
            token = page.token
            if not token:
                break
        for key in [key for key in self.store if key not in seen]:
            self._remove(key)
        self._version = page.version
        self._failing_since = None
        self.is_served = True
        self.synced.set()

    def _empty(self) -> None:
        """Has the store empty, as the cluster is: the kind is not installed, or no longer."""
        if self.is_served:
            log.warning("not installed; looked for again and again", resource=str(self.resource))
        self.is_served = False
        for key in list(self.store):
            self._remove(key)
        self.synced.set()

    async def _watch(self) -> None:
        """Follows what happens after the last version seen, until the server ends the watch."""
        timing, began = self._timing, self._clock.now()
        events = self._client.watch(
            self.resource,
            self._namespace,
            labels=self._labels,
            version=self._version,
            seconds=timing.seconds * (1 + random.random()),  # noqa: S311 - so that not all watches end at once
            idle_seconds=timing.idle_seconds,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    self._take(event)
        finally:
            if self._clock.now() - began >= timing.steady_seconds:
                self._failures.reset()
        if self._clock.now() - began < timing.shortest_seconds:
            raise Unavailable(f"watch {self.resource}", 0, "EndedAtOnce")
        self._count("Ended")

    def _take(self, event: WatchEvent) -> None:
        match event.type:
            case "OPENED":
                self._failing_since = None
                return
            case "ERROR":
                self._version = ""  # whatever it is about, what follows it in the stream is not known
                raise error_from_status(f"watch {self.resource}", event.object)
            case "ADDED" | "MODIFIED":
                self._put(event.object)
            case "DELETED":
                self._remove(object_key(event.object))
        self._version = event.object["metadata"]["resourceVersion"]

    def _put(self, obj: Object) -> None:
        old = self.store.put(self._keep(obj))
        if old is None or old["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            self._tell(old, obj)

    def _remove(self, key: str) -> None:
        old = self.store.remove(key)
        if old is not None:
            self._tell(old)

    def _tell(self, *objects: Object | None) -> None:
        """Names the keys that a change is about, seen from the object before and after it."""
        for route, add in self._routes:
            for key in dict.fromkeys(key for obj in objects if obj is not None for key in route(obj)):
                add(key)

    async def _pause(self, error: ApiError) -> None:
        self._count(error.reason)
        if self._failing_since is None:
            self._failing_since = self._clock.now()
        seconds = max(self._failures.pause(), error.retry_after)
        if self.is_served:
            log.warning("watch interrupted", resource=str(self.resource), error=str(error), seconds=round(seconds, 1))
        await sleep(self._clock, seconds)

    def _count(self, reason: str) -> None:
        self._metrics.watch_restarts.labels(self.resource.plural, reason).inc()
