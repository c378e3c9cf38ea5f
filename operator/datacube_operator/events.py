"""Kubernetes Events about objects: few, each said once and then counted; never a reason for a reconcile to fail.

https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.clock import micro_time
from datacube_operator.errors import AlreadyExists, ApiError, NotFound, OperatorError
from datacube_operator.logs import log
from datacube_operator.resource import EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_operator.client import Client
    from datacube_operator.clock import Clock

    Object = dict[str, Any]

CONTROLLER: Final = "tensorstack.dev/datacube"
MAX_NOTE: Final = 1024
MAX_NAME: Final = 200
MAX_KNOWN: Final = 4096
MAX_WAITING: Final = 1000


@dataclass(frozen=True)
class EventPace:
    """How many events one object may have, and how often the count of a repeated one is written."""

    burst: int = 20
    refill_seconds: float = 120.0
    series_seconds: float = 300.0


@dataclass(frozen=True)
class Words:
    """What an event says: `Normal` or `Warning`, why in one word, what to people, and what was done, in one word.

    None of them holds a secret.
    """

    type: str
    reason: str
    note: str
    action: str


@dataclass
class _Allowance:
    """A bucket of tokens, one for each event about an object."""

    tokens: float
    since: float


@dataclass
class _Series:
    """An event that was said: how often since, and when its count was last written."""

    written: float
    count: int = 1


@dataclass(frozen=True)
class _Said:
    """An event to be written; a `count` above 1 goes into the one that is there."""

    body: Object
    count: int


class Recorder:
    """Takes events from anywhere in the process, and writes them one after the other.

    Args:
        client: writes; its fence holds.
        instance: this process, as events name it.
        clock: paces, and dates the events.
        pace: see there.
    """

    def __init__(self, client: Client, instance: str, clock: Clock, pace: EventPace | None = None) -> None:
        self._client, self._instance, self._clock = client, instance, clock
        self._pace = pace or EventPace()
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()
        self._series: OrderedDict[str, _Series] = OrderedDict()
        self._waiting: asyncio.Queue[_Said] = asyncio.Queue(MAX_WAITING)

    def record(self, about: Mapping[str, Any], words: Words) -> bool:
        """Has an event said about an object, or counted if it was said before; returns whether it will be written.

        Args:
            about: the object, with apiVersion and kind.
            words: what is said.
        """
        name = _event_name(about, words)
        now = self._clock.now()
        series = self._series.get(name)
        if series is None:
            if not self._allow(about["metadata"]["uid"], now):
                return False
            series = _Series(written=now)
            _remember(self._series, name, series)
        else:
            series.count += 1
            if now - series.written < self._pace.series_seconds:
                return False
            series.written = now
        return self._write_later(_Said(self._make(name, about, words), series.count))

    async def run(self) -> None:
        """Writes events until cancelled."""
        while True:
            said = await self._waiting.get()
            try:
                await self._write(said)
            except (ApiError, OperatorError) as error:
                log.warning("event not written", event=said.body["metadata"]["name"], error=str(error))
            finally:
                self._waiting.task_done()

    async def written(self) -> None:
        """Returns when all that was recorded so far is written, or was given up."""
        await self._waiting.join()

    def _allow(self, uid: str, now: float) -> bool:
        known = self._allowances.get(uid)
        if known is None:
            known = _Allowance(self._pace.burst, now)
            _remember(self._allowances, uid, known)
        earned = (now - known.since) / self._pace.refill_seconds
        known.tokens, known.since = min(self._pace.burst, known.tokens + earned), now
        if known.tokens < 1:
            return False
        known.tokens -= 1
        return True

    def _write_later(self, said: _Said) -> bool:
        try:
            self._waiting.put_nowait(said)
        except asyncio.QueueFull:  # the API server takes none just now, and status says the same
            return False
        return True

    async def _write(self, said: _Said) -> None:
        namespace = said.body["metadata"]["namespace"]
        if said.count > 1 and await self._count(said, namespace, said.count):
            return
        try:
            await self._client.create(EVENTS, namespace, said.body)
        except AlreadyExists:  # said by the process before this one
            known = await self._client.get(EVENTS, namespace, said.body["metadata"]["name"])
            await self._count(said, namespace, int((known.get("series") or {}).get("count") or 1) + 1)

    async def _count(self, said: _Said, namespace: str, count: int) -> bool:
        """Writes the count into the event; False where it has expired meanwhile."""
        series = {"count": count, "lastObservedTime": said.body["eventTime"]}
        try:
            await self._client.patch(EVENTS, namespace, said.body["metadata"]["name"], {"series": series})
        except NotFound:
            return False
        return True

    def _make(self, name: str, about: Mapping[str, Any], words: Words) -> Object:
        metadata = about["metadata"]
        reference = {"apiVersion": about["apiVersion"], "kind": about["kind"]}
        reference |= {key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion") if key in metadata}
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "eventTime": micro_time(self._clock.utc()),
            "type": words.type,
            "reason": words.reason,
            "note": words.note[:MAX_NOTE],
            "action": words.action,
            "regarding": reference,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
        }


def _event_name(about: Mapping[str, Any], words: Words) -> str:
    """The same name for the same words about the same object, so that a process finds what an earlier one said."""
    metadata = about["metadata"]
    text = "\0".join((metadata["uid"], words.type, words.reason, words.note))
    return f"{metadata['name'][:MAX_NAME].rstrip('.-')}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _remember(known: OrderedDict[str, Any], key: str, value: object) -> None:
    """Keeps a value, and forgets the oldest where there are too many."""
    known[key] = value
    if len(known) > MAX_KNOWN:
        known.popitem(last=False)
