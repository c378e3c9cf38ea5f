"""How many flows ask their server at once.

Hundreds that end in the same second would fill the client's connections, run out of time while they wait for one, and
leave it broken.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOM: Final = 6
"""Prefect's client has sixteen connections; flows at their edges, questions and whatever else share them."""


class Gate:
    """Lets a few in at a time; belongs to one event loop."""

    def __init__(self) -> None:
        self.edges = asyncio.Semaphore(ROOM)
        self.questions = asyncio.Semaphore(ROOM)


class Edge:
    """The beginning and the end of one flow, in which it has much to ask; in between it asks nothing."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.telling = asyncio.Event()
        self._is_in = False

    async def enter(self) -> None:
        """Waits for room."""
        await self.gate.edges.acquire()
        self._is_in = True

    def leave(self) -> None:
        """Makes room; may be said again."""
        if self._is_in:
            self._is_in = False
            self.gate.edges.release()

    async def end(self) -> None:
        """Waits for room to tell how the flow ends."""
        await self.enter()
        self.telling.set()


EDGE: ContextVar[Edge | None] = ContextVar("edge", default=None)
"""The edge of the flow that runs; None where only a few run anyway."""


@asynccontextmanager
async def asking(seconds: float) -> AsyncIterator[None]:
    """Waits for room to ask one thing in a flow, which then may take so long.

    Raises:
        TimeoutError: it took longer.
    """
    edge = EDGE.get()
    if edge is None:
        async with asyncio.timeout(seconds):
            yield
        return
    async with edge.gate.questions, asyncio.timeout(seconds):
        yield
