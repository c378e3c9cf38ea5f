"""A run on this machine: its claim's folder, its path's lock, its attempts as child processes, and its status.

What the engines share that need no cluster. When an attempt is made is theirs to decide.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from datacube_flows.api.reasons import Reason
from datacube_flows.core.expansion import Lookup, resolve_env
from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.observation import AttemptSeen, Observation, PodPhase
from datacube_flows.core.retry import EXIT_TERMINATED
from datacube_flows.engines.child import ChildRunner, ChildSettings, Stop
from datacube_flows.engines.locks import hold_path
from datacube_flows.errors import TransferError, WaitingError
from datacube_flows.steps import is_followed, provision

if TYPE_CHECKING:
    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.core.plan import TransferPlan
    from datacube_flows.engines.volumes import LocalVolumes

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
class Machine:
    """What all runs of a call have in common.

    Attributes:
        lookup: reads Secrets and ConfigMaps.
    """

    volumes: LocalVolumes
    lookup: Lookup
    listener: Listener
    settings: ChildSettings


class MachineRun:
    """One run of a plan; while it is entered, it holds what it took.

    Attributes:
        attempts: those that ended, oldest first.
        progress: the newest counters.
        notices: remarks of the newest attempt.
        stop: ends the attempt that runs, from another thread.
    """

    def __init__(self, plan: TransferPlan, machine: Machine) -> None:
        self.plan = plan
        self.attempts: list[AttemptSeen] = []
        self.progress: dict[str, Any] = {}
        self.notices: list[str] = []
        self.stop = Stop()
        self.status = initial_status(_now())
        self._machine, self._held = machine, ExitStack()
        self._runner: ChildRunner | None = None
        self._is_kept = False
        self._begun: tuple[int, datetime] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._held.close()

    @property
    def is_due(self) -> bool:
        """Whether an attempt is to be made, after all that were."""
        return not self._is_kept and (not self.attempts or is_followed(self.plan, self.attempts[-1]))

    def prepare(self) -> str:
        """Has the claim, the environment and the path, and returns what was done for the claim.

        Raises:
            WaitingError: one of them is not to be had now; the status says so.
            TransferError: one is not to be had at all; the status says so.
        """
        try:
            return "" if self._runner else self._prepare()
        except (WaitingError, TransferError) as error:
            self.keep(error)
            raise

    def keep(self, error: WaitingError | TransferError) -> None:
        """Has the status say what keeps the run from beginning."""
        why = (error.reason, error.message)
        self._is_kept = True
        self._fold(Observation(waiting=why) if isinstance(error, WaitingError) else Observation(ended=why))

    def run_attempt(self) -> AttemptSeen:
        """Makes the next attempt, and has the status tell of it.

        Raises:
            AttemptStopped: somebody else's thread ended it.
        """
        assert self._runner is not None  # noqa: S101 - `prepare` comes first
        self._begun = number, _ = len(self.attempts) + 1, _now()
        self.notices.clear()
        self._machine.listener.attempt(number, self.plan.attempts)
        self.attempts.append(self._runner.run_attempt(self.plan, number, self._show))
        self._fold(Observation(tuple(self.attempts), will_retry=self.is_due, progress=self.progress))
        return self.attempts[-1]

    def interrupt(self) -> DataCubeStatus:
        """Returns the status of a run that a person ended, the attempt that ran then included."""
        if self._begun is not None and self._begun[0] > len(self.attempts):
            self.attempts.append(_interrupted(self.plan, *self._begun))
        self._fold(Observation(tuple(self.attempts), ended=(Reason.CANCELLED, INTERRUPTED), progress=self.progress))
        return self.status

    def tell_pause(self, seconds: float) -> None:
        """Says that the last attempt failed, and when the next one is made."""
        reason, message = self.attempts[-1].failure
        number = self.attempts[-1].number
        self._machine.listener.line(f"attempt {number} failed: {reason}: {message}; next in {seconds:.0f} s")
        self._machine.listener.pause()

    def _prepare(self) -> str:
        plan, machine = self.plan, self._machine
        done = self._provision()
        if done:
            machine.listener.line(done)
        environment = resolve_env(plan.env, machine.lookup)
        path = () if plan.dry_run else (self._held.enter_context(hold_path(machine.volumes.locks, plan.path_use)),)
        folder = machine.volumes.mount(plan)
        self._runner = ChildRunner(
            machine.settings, environment, folder, inherited=path, on_notice=self._note, stop=self.stop
        )
        return done

    def _provision(self) -> str:
        plan, volumes = self.plan, self._machine.volumes
        if plan.dry_run and not volumes.has_claim(plan.claim.name) and plan.claim.template is not None:
            return f"would make claim {plan.claim.name}"
        return provision(plan, volumes)

    def _show(self, values: dict[str, Any]) -> None:
        self.progress = self.progress | values  # another thread may be reading the old one
        self._machine.listener.progress(values)

    def _note(self, text: str) -> None:
        self.notices.append(text)
        self._machine.listener.line(text)

    def _fold(self, seen: Observation) -> None:
        self.status = fold(self.status, seen, _now())


def _interrupted(plan: TransferPlan, number: int, started: datetime) -> AttemptSeen:
    """The attempt that was running when a person ended the run."""
    return AttemptSeen(
        number,
        plan.attempt_name(number),
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
