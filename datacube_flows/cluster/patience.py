"""How long what goes wrong is put up with: the pauses between tries, and requests that are made until they are taken.

Only for requests that may be made twice: what came of one whose answer got lost is not known.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from datacube_flows.cluster.errors import TooManyRequests, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """What is put up with.

    Attributes:
        first_pause: seconds after the first failure; doubled with each one in a row.
        longest_pause: seconds at most.
        seconds: after which a request that nobody answers is given up, and a refusal in mid-watch is believed: a server
            that has just started refuses for a moment what it allows.
        watch_seconds: after which the server ends a watch.
        idle_seconds: of silence, after which a new watch tells whether the old one was dead.
    """

    first_pause: float = 0.5
    longest_pause: float = 15.0
    seconds: float = 60.0
    watch_seconds: float = 300.0
    idle_seconds: float = 90.0

    def pause(self, failures: int) -> float:
        """Returns the seconds to wait after so many failures in a row, at least 1; they are spread."""
        longest = min(self.first_pause * 2.0 ** min(failures - 1, 16), self.longest_pause)
        return longest * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, hides nothing


async def insist(call: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """Makes a request until it is answered, and returns the answer.

    Raises:
        ApiError: it was refused, or for too long not answered.
    """
    failures, began = 0, time.monotonic()
    while True:
        try:
            return await call()
        except (Unavailable, TooManyRequests) as error:
            failures += 1
            pause = max(patience.pause(failures), error.retry_after)
            if time.monotonic() + pause - began > patience.seconds:
                raise
        await asyncio.sleep(pause)


async def see_through(work: Coroutine[object, object, T]) -> T:
    """Returns what comes of some work that has to be done, also when whoever asks for it is cancelled meanwhile.

    The cancellation is told afterwards. So the work has to end soon by itself.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001 - told below
            break
    if cancelled is not None:
        raise cancelled
    return task.result()
