"""Holds a transfer to its bandwidth limit: a token bucket shared by all threads and tasks of an attempt."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BURST_SECONDS = 0.25
SLICE_SECONDS = 1.0
"""A long pause is cut into such slices, each of which says that the transfer is alive."""


class Throttle:
    """Gives out bytes at a rate; without a rate, at once."""

    def __init__(self, rate: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._lock = threading.Lock()
        self._free_at = clock()

    @property
    def rate(self) -> int | None:
        """Bytes per second; None is no limit."""
        return self._rate

    def reserve(self, size: int) -> float:
        """Takes `size` bytes out of the bucket and returns for how many seconds the caller has to pause."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - BURST_SECONDS) + size / self._rate
            return max(0.0, self._free_at - now)

    def wait(self, size: int, stop: threading.Event, alive: Callable[[], None] = lambda: None) -> None:
        """Takes `size` bytes and blocks until they may move, or `stop` is set."""
        until = self._clock() + self.reserve(size)
        while (left := until - self._clock()) > 0 and not stop.wait(min(left, SLICE_SECONDS)):
            alive()

    async def pause(self, size: int, alive: Callable[[], None] = lambda: None) -> None:
        """Takes `size` bytes and returns when they may move; the event loop goes on meanwhile."""
        until = self._clock() + self.reserve(size)
        while (left := until - self._clock()) > 0:
            await asyncio.sleep(min(left, SLICE_SECONDS))
            alive()
