"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class FakeTimer:
    due: float
    call: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeClock:
    seconds: float = 0.0
    timers: list[FakeTimer] = field(default_factory=list)

    def now(self) -> float:
        return self.seconds

    def utc(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(self.seconds + seconds, call)
        self.timers.append(timer)
        return timer

    def move(self, seconds: float) -> None:
        """Moves the clock, and makes the calls that fall due, in order, each at its time."""
        end = self.seconds + seconds
        while due := [t for t in self.timers if not t.cancelled and t.due <= end]:
            timer = min(due, key=lambda t: t.due)
            self.timers.remove(timer)
            self.seconds = max(self.seconds, timer.due)
            timer.call()
        self.seconds = end
        self.timers = [t for t in self.timers if not t.cancelled]

    async def pass_(self, seconds: float, step: float = 0.5) -> None:
        """Moves the clock in steps, and lets the tasks of the loop run after each."""
        await settle()
        for _ in range(round(seconds / step)):
            self.move(step)
            await settle()


async def settle() -> None:
    """Lets every task run until it waits for something that has not happened."""
    for _ in range(20):
        await asyncio.sleep(0)
