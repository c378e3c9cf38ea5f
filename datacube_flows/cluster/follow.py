"""Follows one object: as it is now, and after each change, whatever becomes of the watch that tells it."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datacube_flows.cluster.errors import (
    ApiError,
    Gone,
    NotFound,
    Silent,
    TooManyRequests,
    Unavailable,
    error_from_status,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from datacube_flows.cluster.client import Client, Object, WatchEvent
    from datacube_flows.cluster.patience import Patience
    from datacube_flows.cluster.resource import Resource

SHORTEST_SECONDS: Final = 1.0
"""A watch that the server ends sooner is a failure, lest the two be busy with each other."""


@dataclass(frozen=True)
class Sight:
    """An object as it was last seen; None where it was gone before anybody looked."""

    object: Object | None
    is_gone: bool = False


class Follower:
    """Follows one object by name.

    Args:
        client: asks.
        resource: its kind.
        namespace: where it is.
        name: what it is called.
        patience: with what goes wrong.
        on_trouble: is called with each failure that is put up with.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        patience: Patience,
        on_trouble: Callable[[ApiError], object] = lambda _error: None,
    ) -> None:
        self._client, self._resource, self._namespace, self._name = client, resource, namespace, name
        self._patience, self._on_trouble = patience, on_trouble
        self._version = ""  # to go on from; empty where the object has to be asked for
        self._failures = 0
        self._was_allowed = False
        self._refused_since: float | None = None

    async def sights(self) -> AsyncGenerator[Sight]:
        """Yields the object as it is, and after each change; the last one is that it is gone.

        What happens while no watch is open may be told as one change.

        Raises:
            ApiError: it was refused; what only is not to be had is waited for.
        """
        while True:
            try:
                async with aclosing(self._look()) as told:
                    async for sight in told:
                        yield sight
                        if sight.is_gone:
                            return
            except Silent:
                continue
            except ApiError as error:
                await self._bear(error)

    async def _look(self) -> AsyncGenerator[Sight]:
        """Asks for the object where nothing is known of it, then watches it until that ends."""
        if not self._version:
            yield await self._ask()
        began = time.monotonic()
        events = self._client.watch(
            self._resource,
            self._namespace,
            name=self._name,
            version=self._version,
            seconds=self._patience.watch_seconds,
            idle_seconds=self._patience.idle_seconds,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    self._take(event)
                    if event.type in ("ADDED", "MODIFIED", "DELETED"):
                        yield Sight(event.object, is_gone=event.type == "DELETED")
        finally:
            is_short = time.monotonic() - began < SHORTEST_SECONDS
            self._failures = self._failures if is_short else 0
        if is_short:
            raise Unavailable(f"watch {self._resource}", 0, "EndedAtOnce")

    async def _ask(self) -> Sight:
        try:
            found = await self._client.get(self._resource, self._namespace, self._name)
        except NotFound as error:
            if error.details.get("name") != self._name:
                raise  # not the object is missing, but its kind: a server that has just started says so
            return Sight(None, is_gone=True)
        self._version = found["metadata"]["resourceVersion"]
        return Sight(found)

    def _take(self, event: WatchEvent) -> None:
        if event.type == "ERROR":
            raise error_from_status(f"watch {self._resource}", event.object)
        self._was_allowed, self._refused_since = True, None
        if event.type != "OPENED":
            self._version = event.object["metadata"]["resourceVersion"]

    async def _bear(self, error: ApiError) -> None:
        """Waits before the next try; raises what waiting does not help."""
        if not isinstance(error, Unavailable | TooManyRequests | Gone) and not self._is_passing():
            raise error
        if error.code:
            self._version = ""  # of a lost connection alone one can go on from where it was lost
        self._failures += 1
        self._on_trouble(error)
        await asyncio.sleep(max(self._patience.pause(self._failures), error.retry_after))

    def _is_passing(self) -> bool:
        """Whether a refusal may be that of a server that has just started: it allowed the same not long ago."""
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        return self._was_allowed and now - self._refused_since < self._patience.seconds
