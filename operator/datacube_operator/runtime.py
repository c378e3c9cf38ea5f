"""Runs the parts together: caches at once, controllers once this replica leads, and an end in the right order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from datacube_operator.election import Election
    from datacube_operator.events import Recorder
    from datacube_operator.informer import Informer

EVENT_SECONDS: Final = 1.0
"""How long an end waits for events to be written; status says the same."""


class Runner(Protocol):
    """A part of a replica that runs all the time."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Runs until cancelled."""


class Worker(Runner, Protocol):
    """A part that runs while its replica leads."""

    def stop(self) -> None:
        """Has `run` return, with what is under way done."""


@dataclass(frozen=True)
class Runtime:
    """The parts of one replica.

    Attributes:
        informers: of kinds that must be there; the replica is not ready without them.
        optional: of kinds that may be installed later, or never: those of engines.
        controllers: run on the replica that leads.
        election: decides which one that is.
        recorder: writes events.
        readers: what else runs all the time.
        stop_seconds: how long reconciles that are under way may go on after a stop, before they are cancelled.
    """

    informers: Sequence[Informer]
    optional: Sequence[Informer]
    controllers: Sequence[Worker]
    election: Election
    recorder: Recorder
    readers: Sequence[Runner] = ()
    stop_seconds: float = 10.0

    @property
    def checks(self) -> Mapping[str, Callable[[], bool]]:
        """What /readyz asks; a standby is as ready as a leader, since its caches are as warm."""
        needed = {str(informer.resource): informer.is_ready for informer in self.informers}
        return needed | {str(informer.resource): partial(_is_ready_or_absent, informer) for informer in self.optional}

    @property
    def _all(self) -> list[Informer]:
        return [*self.informers, *self.optional]

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set, ends what is under way, and gives the lease back.

        Raises:
            ExceptionGroup: A part failed, such as `LeadershipLost`; all others are ended, and the process should be.
        """
        started = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                runners: list[Runner] = [*self._all, *self.readers, self.recorder, self.election]
                background = [group.create_task(runner.run()) for runner in runners]
                leading = group.create_task(self._lead(started))
                await stop.wait()
                for controller in self.controllers:
                    controller.stop()
                if started.is_set():
                    await asyncio.wait([leading], timeout=self.stop_seconds)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.recorder.written(), EVENT_SECONDS)
                for task in (leading, *background):
                    task.cancel()
        finally:
            await self.election.release()

    async def _lead(self, started: asyncio.Event) -> None:
        """Runs the controllers once the lease is held and the caches show all that was written before that.

        Caches that were filled while another replica led may be behind its last writes: they are filled once more.
        """
        await self.election.acquired.wait()
        for informer in self._all:
            informer.list_anew()
        for informer in self._all:
            await informer.synced.wait()
        started.set()
        async with asyncio.TaskGroup() as group:
            for controller in self.controllers:
                group.create_task(controller.run())


def _is_ready_or_absent(informer: Informer) -> bool:
    return informer.is_ready() or not informer.is_served
