"""Time, as the runtime is given it: a clock that only goes forward, the world's time for records, and timers."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_GOES_ON_IN_SUSPEND: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Timer(Protocol):
    """A call that is due."""

    def cancel(self) -> None:
        """Has it not be made."""


class Clock(Protocol):
    """What the runtime knows of time."""

    def now(self) -> float:
        """Seconds since some moment; never goes back, and is what every decision is made from."""

    def utc(self) -> datetime:
        """The world's time, for people to read; nothing is decided from it."""

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Makes the call after so many seconds, unless it is cancelled."""


class SystemClock:
    """The machine's clock, in the running event loop."""

    def now(self) -> float:
        """Seconds since the machine started, including those in which it was suspended."""
        return time.clock_gettime(_GOES_ON_IN_SUSPEND)

    def utc(self) -> datetime:
        """The machine's idea of the time."""
        return datetime.now(UTC)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Makes the call in the running event loop."""
        return asyncio.get_running_loop().call_later(seconds, call)


async def sleep(clock: Clock, seconds: float) -> None:
    """Returns after so many seconds of the clock."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    timer = clock.call_later(seconds, wake)
    try:
        await done
    finally:
        timer.cancel()


def micro_time(moment: datetime) -> str:
    """Writes a moment as the API's MicroTime: RFC 3339, UTC, six digits."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
