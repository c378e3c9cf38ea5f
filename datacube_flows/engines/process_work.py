"""A run on this machine as the work of an async flow: attempts are child processes, which threads wait for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from datacube_flows.core.retry import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from datacube_flows.core.observation import AttemptSeen
    from datacube_flows.engines.machine import MachineRun

Done = TypeVar("Done")


class ProcessWork:
    """The work of a flow run whose attempts are child processes.

    Attributes:
        plan: what is done.
        over: set when nothing is left to be done.
    """

    def __init__(self, run: MachineRun) -> None:
        self.plan, self.over = run.plan, asyncio.Event()
        self._run = run
        self._busy: asyncio.Future[Any] | None = None

    @property
    def attempts(self) -> Sequence[AttemptSeen]:
        """Those that ended, oldest first."""
        return tuple(self._run.attempts)

    async def provision(self) -> str:
        """Has the claim, the environment and the path, and returns what was done for the claim."""
        return await self._call(self._run.prepare)

    async def run_attempt(self, number: int) -> AttemptSeen:
        """Runs a child process to its end; ends it where the flow is cancelled."""
        del number  # the next one is meant: there is one process that makes them
        seen = await self._call(self._run.run_attempt)
        if self._run.is_due:
            self._run.tell_pause(backoff_seconds(seen.number, jitter=0.5))
        return seen

    def progress(self) -> Mapping[str, Any]:
        """The newest counters."""
        return self._run.progress

    async def lines(self, seen: AttemptSeen) -> Sequence[str]:
        """What the attempt remarked."""
        del seen
        return tuple(self._run.notices)

    async def end(self) -> None:
        """Waits until nothing runs any more, which somebody else stopped."""
        if self._busy is not None:
            await asyncio.wait({self._busy})
        self.over.set()

    async def _call(self, function: Callable[[], Done]) -> Done:
        """Calls it in a thread; that thread is not left behind where the flow is cancelled."""
        busy = self._busy = asyncio.ensure_future(asyncio.to_thread(function))
        try:
            return await asyncio.shield(busy)
        except asyncio.CancelledError:
            self._run.stop.ask()
            await asyncio.wait({busy})
            raise
        finally:
            if not self._run.is_due:
                self.over.set()
