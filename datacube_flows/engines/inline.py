"""Runs a plan on this machine without any server: the three steps in a plain loop.

It is the reference that the other engines are compared with; nothing here may know them.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from datacube_flows.api.reasons import Reason
from datacube_flows.core.expansion import Lookup, resolve_env
from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.observation import AttemptSeen, Observation, PodPhase
from datacube_flows.core.retry import EXIT_TERMINATED, backoff_seconds
from datacube_flows.engines.child import ChildRunner, ChildSettings, attempt_name
from datacube_flows.engines.locks import hold_path
from datacube_flows.errors import TransferError, WaitingError
from datacube_flows.steps import is_followed, provision

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.core.plan import TransferPlan
    from datacube_flows.engines.volumes import LocalVolumes
    from datacube_flows.steps import AttemptRunner


INTERRUPTED = "the run was ended by the person who started it: run it again"


class RunInterrupted(KeyboardInterrupt):
    """A person ended the run; `status` is how it looks now, and the cause is what interrupted it."""

    def __init__(self, status: DataCubeStatus) -> None:
        self.status = status
        super().__init__()


class Listener(Protocol):
    """Whoever shows a run to a person. Called from the run's threads."""

    def attempt(self, number: int, attempts: int) -> None:
        """An attempt starts."""

    def progress(self, values: dict[str, Any]) -> None:
        """New counters of the running attempt, as `status.progress` has them."""

    def pause(self) -> None:
        """The run waits for its next attempt."""

    def line(self, text: str) -> None:
        """A remark."""


@dataclass(frozen=True, slots=True)
class InlineEngine:
    """Executes plans one at a time.

    Attributes:
        lookup: reads Secrets and ConfigMaps.
        sleep: waits between attempts; replaced where a test has no time.
    """

    volumes: LocalVolumes
    lookup: Lookup
    listener: Listener
    settings: ChildSettings
    sleep: Callable[[float], None] = field(default=time.sleep)

    def run(self, plan: TransferPlan) -> DataCubeStatus:
        """Runs a plan to its end and returns the status that a cluster would show.

        Raises:
            RunInterrupted: a person ended the run; the attempt was ended first.
        """
        status = initial_status(_now())
        try:
            with ExitStack() as stack:
                runner = self._prepare(plan, stack)
                return self._attempts(plan, runner, status)
        except WaitingError as error:
            return fold(status, Observation(waiting=(error.reason, error.message)), _now())
        except TransferError as error:
            return fold(status, Observation(ended=(error.reason, error.message)), _now())
        except RunInterrupted:
            raise
        except KeyboardInterrupt as interrupt:
            ended = Observation(ended=(Reason.CANCELLED, INTERRUPTED))
            raise RunInterrupted(fold(status, ended, _now())) from interrupt

    def _prepare(self, plan: TransferPlan, stack: ExitStack) -> AttemptRunner:
        """Provisions the claim, resolves the environment, takes the path; WaitingError where one is not to be had."""
        if plan.dry_run and not self.volumes.has_claim(plan.claim.name) and plan.claim.template is not None:
            self.listener.line(f"would make claim {plan.claim.name}")
        elif done := provision(plan, self.volumes):
            self.listener.line(done)
        environment = resolve_env(plan.env, self.lookup)
        inherited = () if plan.dry_run else (stack.enter_context(hold_path(self.volumes.locks, plan.path_use)),)
        folder = self.volumes.mount(plan)
        return ChildRunner(self.settings, environment, folder, inherited=inherited, on_notice=self.listener.line)

    def _attempts(self, plan: TransferPlan, runner: AttemptRunner, status: DataCubeStatus) -> DataCubeStatus:
        seen: list[AttemptSeen] = []
        progress: dict[str, Any] = {}

        def show(values: dict[str, Any]) -> None:
            progress.update(values)
            self.listener.progress(values)

        while True:
            number, started = len(seen) + 1, _now()
            self.listener.attempt(number, plan.attempts)
            try:
                seen.append(runner.run_attempt(plan, number, show))
                follows = is_followed(plan, seen[-1])
                status = fold(status, Observation(tuple(seen), will_retry=follows, progress=progress), _now())
                if not follows:
                    return status
                self._back_off(seen[-1])
            except KeyboardInterrupt as interrupt:
                if len(seen) < number:
                    seen.append(_interrupted(plan, number, started))
                observation = Observation(tuple(seen), ended=(Reason.CANCELLED, INTERRUPTED), progress=progress)
                raise RunInterrupted(fold(status, observation, _now())) from interrupt

    def _back_off(self, seen: AttemptSeen) -> None:
        reason, message = seen.failure
        pause = backoff_seconds(seen.number, jitter=random.random())  # noqa: S311 - spreads load, hides nothing
        self.listener.line(f"attempt {seen.number} failed: {reason}: {message}; next in {pause:.0f} s")
        self.listener.pause()
        self.sleep(pause)


def _interrupted(plan: TransferPlan, number: int, started: datetime) -> AttemptSeen:
    """The attempt that was running when a person ended the run."""
    return AttemptSeen(
        number,
        attempt_name(plan, number),
        PodPhase.FAILED,
        "Terminated",
        started=started,
        finished=_now(),
        exit_code=EXIT_TERMINATED,
        reason=Reason.CANCELLED,
        message=INTERRUPTED,
    )


def _now() -> datetime:
    return datetime.now(UTC)
