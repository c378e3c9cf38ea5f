"""How far running attempts are, as they print it: read from their logs, at a rate that all of them share.

Nothing here fails anything: a log that cannot be read, or holds something else, is a progress that is not known.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from datacube_flows.core.attempt_log import Told, bytes_done, parse_log
from datacube_flows.core.manifests import CONTAINER
from datacube_operator.clock import sleep
from datacube_operator.errors import ApiError, OperatorError
from datacube_operator.logs import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_operator.clock import Clock
    from datacube_operator.metrics import Metrics

TAIL_LINES: Final = 10
"""Counters are the last that an attempt prints at each tick, after what else it has to say."""

LIMIT_BYTES: Final = 65_536
LATE_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Progress:
    """What is known of a running attempt.

    Attributes:
        counters: fields of `status.progress`, checked; as `Observation.progress` takes them.
        rate_limited: what the attempt said of a limit that it waits for; "" when bytes moved since.
        is_stalled: whether nothing has moved for `ReadPace.stall_seconds`.
        moved: the attempt's own count of what moved, which also tells work that moves no bytes.
        moved_at: when that last changed, by the reader's clock.
    """

    counters: dict[str, Any]
    rate_limited: str = ""
    is_stalled: bool = False
    moved: tuple[object, ...] = field(default=(), compare=False)
    moved_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class ReadPace:
    """How often logs are read.

    Attributes:
        interval: between two reads of one log, where the rate allows it.
        first_seconds: before the first one.
        per_second: reads of all logs together.
        stall_seconds: without a movement, after which an attempt is said to be stalled.
    """

    interval: float = 10.0
    first_seconds: float = 2.0
    per_second: float = 10.0
    stall_seconds: float = 300.0


class LogSource(Protocol):
    """Who reads logs: the client."""

    async def read_log(self, namespace: str, pod: str, container: str, *, tail_lines: int, limit_bytes: int) -> str:
        """Returns the end of a log; raises `ApiError`s."""


@dataclass
class _Watched:
    """A pod whose log is read."""

    key: str
    namespace: str
    pod: str
    uid: str
    progress: Progress | None = None


class ProgressReader:
    """Reads the logs of the pods that it is told of, each in its turn.

    Args:
        source: reads.
        clock: paces.
        metrics: counts the reads.
        changed: is called with the key of a DataCube whose progress is another than before.
        pace: see there.
    """

    def __init__(
        self,
        source: LogSource,
        clock: Clock,
        metrics: Metrics,
        changed: Callable[[str], object],
        pace: ReadPace | None = None,
    ) -> None:
        self._source, self._clock, self._metrics, self._changed = source, clock, metrics, changed
        self._pace = pace or ReadPace()
        self._watched: dict[str, _Watched] = {}
        self._by_uid: dict[str, _Watched] = {}
        self._turns: list[tuple[float, int, _Watched]] = []
        self._numbers = count()
        self._free_at = clock.now()
        self._news = asyncio.Event()

    def watch(self, key: str, namespace: str, pod: str, uid: str) -> None:
        """Has the log of a DataCube's running pod read from now on, and no other of it; may be said again."""
        known = self._watched.get(key)
        if known is not None and known.uid == uid:
            return
        self.forget(key)
        watched = _Watched(key, namespace, pod, uid)
        self._watched[key] = self._by_uid[uid] = watched
        self._take_turn(watched, self._pace.first_seconds)
        self._news.set()

    def forget(self, key: str) -> None:
        """Has no log of a DataCube read any more."""
        known = self._watched.pop(key, None)
        if known is not None:
            del self._by_uid[known.uid]

    def latest(self, uid: str) -> Progress | None:
        """Returns what is known of a pod that is watched; None where nothing is yet."""
        watched = self._by_uid.get(uid)
        return watched.progress if watched else None

    async def run(self) -> NoReturn:
        """Reads until cancelled."""
        async with asyncio.TaskGroup() as reads:
            while True:
                watched = await self._next()
                reads.create_task(self._read(watched))
                await self._keep_rate()

    async def _keep_rate(self) -> None:
        """Returns when another read may begin; makes up for sleeps that were a little too long."""
        now = self._clock.now()
        self._free_at = max(self._free_at, now - LATE_SECONDS) + 1 / self._pace.per_second
        if self._free_at > now:
            await sleep(self._clock, self._free_at - now)

    async def _next(self) -> _Watched:
        """Returns the pod whose turn it is, when it is due."""
        while True:
            while self._turns and not self._is_watched(self._turns[0][2]):
                heapq.heappop(self._turns)
            seconds = self._turns[0][0] - self._clock.now() if self._turns else None
            if seconds is not None and seconds <= 0:
                return heapq.heappop(self._turns)[2]
            await self._wait(seconds)

    async def _wait(self, seconds: float | None) -> None:
        """Returns after so many seconds, or when another pod is to be watched."""
        self._news.clear()
        timer = None if seconds is None else self._clock.call_later(seconds, self._news.set)
        try:
            await self._news.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _take_turn(self, watched: _Watched, seconds: float) -> None:
        heapq.heappush(self._turns, (self._clock.now() + seconds, next(self._numbers), watched))

    def _is_watched(self, watched: _Watched) -> bool:
        return self._by_uid.get(watched.uid) is watched

    async def _read(self, watched: _Watched) -> None:
        pause = self._pace.interval
        try:
            text = await self._source.read_log(
                watched.namespace, watched.pod, CONTAINER, tail_lines=TAIL_LINES, limit_bytes=LIMIT_BYTES
            )
        except ApiError as error:  # not started, gone, not allowed, or no answer: the next one may tell more
            self._metrics.log_read(error.code)
            pause = max(pause, error.retry_after)
        except OperatorError:
            self._metrics.log_read(0)
        except Exception as error:  # noqa: BLE001 - a progress that is not known stops no run
            log.bug("log not read", error, key=watched.key)
        else:
            self._metrics.log_read(200)
            self._take(watched, parse_log(text))
        self._take_turn(watched, pause)
        self._news.set()

    def _take(self, watched: _Watched, told: Told) -> None:
        progress = next_progress(watched.progress, told, self._clock.now(), self._pace.stall_seconds)
        is_news = progress != watched.progress
        watched.progress = progress
        if is_news and self._is_watched(watched):
            self._changed(watched.key)


def next_progress(before: Progress | None, told: Told, now: float, stall_seconds: float) -> Progress | None:
    """Returns what is known after a log was read; None while it has told nothing."""
    if before is None:
        is_known = told.counters or told.rate_limited
        return Progress(told.counters, told.rate_limited or "", moved=told.moved, moved_at=now) if is_known else None
    counters, moved = (told.counters, told.moved) if told.counters else (before.counters, before.moved)
    limited = told.rate_limited
    if limited is None:
        limited = before.rate_limited if bytes_done(counters) == bytes_done(before.counters) else ""
    moved_at = now if moved != before.moved else before.moved_at
    return Progress(counters, limited, now - moved_at >= stall_seconds, moved, moved_at)
