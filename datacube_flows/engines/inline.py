"""Runs a plan on this machine without any server: the three steps in a plain loop.

It is the reference that the other engines are compared with; nothing here may know them.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datacube_flows.core.retry import backoff_seconds
from datacube_flows.engines.machine import Machine, MachineRun, RunInterrupted
from datacube_flows.errors import TransferError, WaitingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.core.plan import TransferPlan


@dataclass(frozen=True, slots=True)
class InlineEngine:
    """Executes plans one at a time.

    Attributes:
        sleep: waits between attempts; replaced where a test has no time.
    """

    machine: Machine
    sleep: Callable[[float], None] = field(default=time.sleep)

    @property
    def holds_exit(self) -> bool:
        """Whether threads hold the end of the process up: there are none."""
        return False

    def run(self, plan: TransferPlan) -> DataCubeStatus:
        """Runs a plan to its end and returns the status that a cluster would show.

        Raises:
            RunInterrupted: a person ended the run; the attempt was ended first.
        """
        with MachineRun(plan, self.machine) as run:
            try:
                finish(run, self.sleep)
            except KeyboardInterrupt as interrupt:
                raise RunInterrupted(run.interrupt()) from interrupt
            return run.status


def finish(run: MachineRun, sleep: Callable[[float], None]) -> None:
    """Makes attempts until none is due; those that are known are not made again."""
    with suppress(WaitingError, TransferError):  # its status tells of them
        run.prepare()
    while run.is_due:
        if run.attempts:
            pause = backoff_seconds(len(run.attempts), jitter=random.random())  # noqa: S311 - spreads load, hides nothing
            run.tell_pause(pause)
            sleep(pause)
        run.run_attempt()
