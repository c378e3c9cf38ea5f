"""What an engine saw of a run: the input of `fold`. Values only; who observes fills them in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import TransferReport


class PodPhase(StrEnum):
    """Phase of an attempt, in a pod's words."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


ENDED = frozenset({PodPhase.SUCCEEDED, PodPhase.FAILED})
"""Phases of an attempt to which nothing happens any more."""


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """One attempt as it stands.

    Attributes:
        number: 1 for the first.
        pod: name of the pod, or of what stands for it on one machine; "" where there never was one.
        status: kubectl's STATUS word: `Running`, `Completed`, `Error`, `OOMKilled`, ...
        reason: what ended it in the words of whoever ran it (deadline, eviction ...); None leaves it to the report.
        report: what the attempt said itself; None when it said nothing.
        message: text that goes with `reason`, or the cause where there is no report.
    """

    number: int
    pod: str
    phase: PodPhase
    status: str
    uid: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    exit_code: int | None = None
    reason: Reason | None = None
    report: TransferReport | None = None
    message: str = ""

    @property
    def failure(self) -> tuple[Reason, str]:
        """Why a failed attempt failed: the runner's word first (it knows of deadlines), then the attempt's own."""
        if self.reason is not None:
            return self.reason, self.message
        if self.report is not None:
            return self.report.reason, self.report.message
        return Reason.TRANSFER_ERROR, self.message or f"the attempt ended with code {self.exit_code} and left no report"


@dataclass(frozen=True, slots=True)
class Observation:
    """A run as it stands.

    Attributes:
        attempts: all that are known, oldest first.
        waiting: why nothing runs, when nothing does.
        said: what people should know of a run that goes on: why it tries again, or that its engine does nothing.
        ended: set when the engine will start no other attempt for a reason of its own (cancelled, run deleted).
        will_retry: whether the engine follows a failed last attempt with another.
        progress: fields of `status.progress` as the running attempt printed them.
        workflow: fields of `status.workflow`.
    """

    attempts: tuple[AttemptSeen, ...] = ()
    waiting: tuple[Reason, str] | None = None
    said: tuple[Reason, str] | None = None
    ended: tuple[Reason, str] | None = None
    will_retry: bool = False
    progress: dict[str, Any] | None = None
    workflow: dict[str, str] = field(default_factory=dict)

    @property
    def has_succeeded(self) -> bool:
        """Whether the last attempt reached its end."""
        return bool(self.attempts) and self.attempts[-1].phase is PodPhase.SUCCEEDED

    @property
    def is_idle(self) -> bool:
        """Whether no attempt runs, and one is to come."""
        last = self.attempts[-1] if self.attempts else None
        return self.ended is None and (last is None or last.phase is PodPhase.PENDING or self.will_retry)

    @property
    def is_beginning(self) -> bool:
        """Whether there is nothing yet but what is to start."""
        return self.ended is None and all(a.phase is PodPhase.PENDING for a in self.attempts)
