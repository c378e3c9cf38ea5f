"""A queue of keys with the semantics of client-go's workqueue; knows nothing of what the keys name.

A key is handed to one worker at a time; added meanwhile, it is handed out again afterwards; added several times, once.
https://pkg.go.dev/k8s.io/client-go/util/workqueue
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datacube_operator.backoff import Backoff, Failures

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_operator.clock import Clock, Timer


@dataclass(frozen=True)
class _Delayed:
    due: float
    timer: Timer


class Queue:
    """Keys that wait for a worker, first come first served.

    Unlike client-go's it hands out nothing after `close`: whoever comes next lists the cluster and finds the rest.
    """

    def __init__(
        self, clock: Clock, backoff: Backoff | None = None, randomness: Callable[[], float] = random.random
    ) -> None:
        self._clock, self._random, self._backoff = clock, randomness, backoff or Backoff()
        self._ready: asyncio.Queue[str | None] = asyncio.Queue()
        self._dirty: set[str] = set()
        self._processing: set[str] = set()
        self._delayed: dict[str, _Delayed] = {}
        self._failures: dict[str, Failures] = {}
        self._not_before: dict[str, float] = {}
        self._closed = False

    def __len__(self) -> int:
        """Keys that a worker could have now."""
        return len(self._dirty - self._processing)

    def add(self, key: str) -> None:
        """Has the key handed out once more: at once, when its worker is done, or when the server may be asked again."""
        if self._closed or key in self._dirty:
            return
        if (wait := self._wait(key)) > 0:
            self.add_after(key, wait)
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Adds the key after so many seconds; of several such wishes the earliest stands."""
        if self._closed:
            return
        if seconds <= 0:
            return self.add(key)
        due = self._clock.now() + seconds
        earlier = self._delayed.get(key)
        if earlier is not None:
            if earlier.due <= due:
                return None
            earlier.timer.cancel()
        self._delayed[key] = _Delayed(due, self._clock.call_later(seconds, lambda: self._is_due(key)))
        return None

    def add_failed(self, key: str, at_least: float = 0.0) -> float:
        """Adds the key after its back-off, which grows with each failure; returns the seconds.

        Args:
            key: what failed.
            at_least: seconds that must pass in any case, whatever else adds the key, as a server asked.
        """
        failures = self._failures.setdefault(key, Failures(self._backoff, self._random))
        seconds = max(failures.pause(), at_least)
        if at_least > 0:
            self._not_before[key] = self._clock.now() + at_least
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: str) -> None:
        """Forgets the key's failures."""
        self._failures.pop(key, None)
        self._not_before.pop(key, None)

    async def get(self) -> str | None:
        """Returns the next key, which is the caller's until `done`; None once the queue is closed."""
        key = await self._ready.get()
        if key is None:
            self._ready.put_nowait(None)  # for the next worker
            return None
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: str) -> None:
        """Gives the key back; it is handed out again if it was added meanwhile."""
        self._processing.discard(key)
        if key not in self._dirty:
            return
        if (wait := self._wait(key)) > 0:
            self._dirty.discard(key)
            self.add_after(key, wait)
        else:
            self._ready.put_nowait(key)

    def close(self) -> None:
        """Ends the queue: nothing is handed out or added any more."""
        if self._closed:
            return
        self._closed = True
        for delayed in self._delayed.values():
            delayed.timer.cancel()
        self._delayed.clear()
        self._dirty.clear()
        while not self._ready.empty():
            self._ready.get_nowait()
        self._ready.put_nowait(None)

    def _wait(self, key: str) -> float:
        """For how long the server asked to be left alone about a key."""
        return self._not_before[key] - self._clock.now() if key in self._not_before else 0.0

    def _is_due(self, key: str) -> None:
        del self._delayed[key]
        self.add(key)
