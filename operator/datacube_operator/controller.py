"""Workers that take keys from a queue and reconcile them; how a reconcile ends decides when its key comes again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datacube_operator.clock import sleep
from datacube_operator.errors import ApiError, NotLeader, PermanentError, TemporaryError
from datacube_operator.logs import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from datacube_operator.clock import Clock
    from datacube_operator.metrics import Metrics
    from datacube_operator.queue import Queue


@dataclass(frozen=True)
class Result:
    """How a reconcile ended well: there is nothing more to do until something changes, or until so many seconds."""

    requeue_after: float | None = None


@dataclass(frozen=True)
class Pace:
    """How much is done at once, and how often everything is looked at anew."""

    workers: int = 4
    resync_seconds: float = 600.0


class Controller:
    """Has every key of a queue reconciled.

    Args:
        name: for logs and metrics.
        queue: where keys come from; this controller's own.
        reconcile: brings one key's objects to what they should be, from what is there now, and may be called at any
            time; it is never called twice at once for one key.
        keys: all keys there are, for the resync.
        clock: for the resync.
        metrics: times reconciles.
        pace: see there.
    """

    def __init__(
        self,
        name: str,
        queue: Queue,
        reconcile: Callable[[str], Awaitable[Result]],
        *,
        keys: Callable[[], Iterable[str]],
        clock: Clock,
        metrics: Metrics,
        pace: Pace | None = None,
    ) -> None:
        self.name, self.queue = name, queue
        self._reconcile, self._keys, self._clock, self._metrics = reconcile, keys, clock, metrics
        self._pace = pace or Pace()
        metrics.watch_depth(name, lambda: len(queue))

    async def run(self) -> None:
        """Reconciles until `stop`; a reconcile that is under way then is given a while to end."""
        resync = asyncio.create_task(self._resync())
        workers = [asyncio.create_task(self._work()) for _ in range(self._pace.workers)]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in (resync, *workers):
                task.cancel()
            await asyncio.gather(resync, *workers, return_exceptions=True)

    def stop(self) -> None:
        """Has `run` return: no further key is taken."""
        self.queue.close()

    async def _resync(self) -> None:
        while True:
            await sleep(self._clock, self._pace.resync_seconds)
            for key in list(self._keys()):
                self.queue.add(key)

    async def _work(self) -> None:
        while (key := await self.queue.get()) is not None:
            try:
                await self._once(key)
            finally:
                self.queue.done(key)

    async def _once(self, key: str) -> None:
        began = time.perf_counter()
        try:
            result = await self._reconcile(key)
        except Exception as error:  # noqa: BLE001 - one object's trouble is not that of others
            outcome = self._failed(key, error)
        else:
            outcome = "ok"
            self.queue.forget(key)
            if result.requeue_after is not None:
                self.queue.add_after(key, result.requeue_after)
        self._metrics.reconciles.labels(self.name, outcome).observe(time.perf_counter() - began)

    def _failed(self, key: str, error: Exception) -> str:
        """Decides when the key comes again; returns what to call the outcome."""
        said = {"controller": self.name, "key": key}
        match error:
            case NotLeader():  # the lease may yet be renewed; if not, this process ends
                seconds = self.queue.add_failed(key)
                log.info("reconcile stopped", **said, error=str(error), seconds=round(seconds, 1))
                return "stopped"
            case PermanentError():
                self.queue.forget(key)
                log.warning("reconcile refused", **said, error=str(error))
                return "permanent"
            case TemporaryError():
                self.queue.forget(key)
                self.queue.add_after(key, error.delay)
                log.info("reconcile postponed", **said, error=str(error), seconds=error.delay)
                return "temporary"
            case ApiError():
                seconds = self.queue.add_failed(key, error.retry_after)
                log.warning("reconcile failed", **said, error=str(error), seconds=round(seconds, 1))
                return "api"
            case _:
                seconds = self.queue.add_failed(key)
                log.bug("reconcile broke", error, **said, seconds=round(seconds, 1))
                return "bug"
