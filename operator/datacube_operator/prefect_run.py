"""A run that Prefect executes, as this process knows it, and what its flow does its work with.

Nothing here has to outlive the process: attempts are counted from pods and status, and the flow run is found again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.engines.prefect_flow import is_due
from datacube_flows.engines.prefect_observe import attempt_cancelled, attempts_of
from datacube_flows.errors import TransferError

Done = TypeVar("Done")

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from datacube_flows.api.reasons import Reason
    from datacube_flows.core.plan import TransferPlan
    from datacube_operator.attempt_pods import AttemptPods

    Object = dict[str, Any]
    Said = tuple[Reason, str]


@dataclass(eq=False)
class PrefectRun:
    """A run.

    Attributes:
        plan: what it does.
        id: of its flow run.
        created: when that was made.
        attempts: all that are known, oldest first; replaced as a whole, since the flows' thread reads it.
        waiting: why it does not go on.
        ended: why no attempt follows, where no attempt tells.
        place: which one it has in the queue, as people are told; empty where it does not wait there.
        driver: has it executed; None before its turn has come.
        counters: of the attempt that runs.
    """

    plan: TransferPlan
    id: str
    created: datetime
    attempts: tuple[AttemptSeen, ...] = ()
    waiting: Said | None = None
    ended: Said | None = None
    place: str = ""
    driver: asyncio.Task[None] | None = field(default=None, repr=False)
    counters: Callable[[], Mapping[str, Any]] = dict

    @property
    def key(self) -> str:
        """Of the DataCube: `namespace/name`."""
        return f"{self.plan.namespace}/{self.plan.name}"

    @property
    def is_over(self) -> bool:
        """Whether no attempt runs or follows."""
        return self.ended is not None or not is_due(self)

    @property
    def is_executed(self) -> bool:
        """Whether a flow is at work on it."""
        return self.driver is not None and not self.driver.done()

    def to_object(self) -> Object:
        """The run as an engine's object."""
        about = {
            "namespace": self.plan.namespace,
            "name": self.plan.run_name,
            "uid": self.id,
            "creationTimestamp": self.created.isoformat(),
        }
        return {"metadata": about, "run": self}

    def see(self, pods: Sequence[Object]) -> None:
        """Takes over what the pods show."""
        self.attempts = attempts_of(pods, self.attempts)

    def end(self, why: Said, now: datetime) -> None:
        """Has no attempt follow, and those that run count as ended."""
        self.ended = why
        self.attempts = tuple(attempt_cancelled(seen, why[1], now) for seen in self.attempts)


class FlowWork:
    """See `Work`: called on the flows' loop, it has all done on the operator's.

    Args:
        run: the run.
        pods: makes the attempts.
        loop: the operator's.
        changed: called on the operator's loop when there is news for the status.
    """

    def __init__(
        self, run: PrefectRun, pods: AttemptPods, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]
    ) -> None:
        self._run, self._pods, self._loop, self._changed = run, pods, loop, changed

    @property
    def plan(self) -> TransferPlan:
        """What is to be done."""
        return self._run.plan

    @property
    def attempts(self) -> Sequence[AttemptSeen]:
        """All that are known, oldest first."""
        return self._run.attempts

    async def provision(self) -> str:
        """Has the claim there."""
        return await self._there(self._having_claim())

    async def run_attempt(self, number: int) -> AttemptSeen:
        """Makes an attempt as a pod, or finds it."""
        return await self._there(self._attempt(number))

    def progress(self) -> Mapping[str, Any]:
        """The counters of the attempt that runs."""
        return self._run.counters()

    async def lines(self, seen: AttemptSeen) -> Sequence[str]:
        """What its pod's log says to a person."""
        return await self._there(self._pods.lines(self.plan, seen))

    async def _having_claim(self) -> str:
        try:
            return await self._pods.provision(self.plan, self._say)
        except TransferError as error:
            self._give_up(error)
            raise

    async def _attempt(self, number: int) -> AttemptSeen:
        try:
            seen = await self._pods.run(self.plan, number, self._say)
        except TransferError as error:
            self._give_up(error)
            raise
        others = tuple(known for known in self._run.attempts if known.number != number)
        self._run.attempts = tuple(sorted((*others, seen), key=lambda attempt: attempt.number))
        if seen.phase is PodPhase.FAILED:
            self._changed()
        return seen

    def _give_up(self, error: TransferError) -> None:
        self._run.ended = error.reason, error.message
        self._changed()

    def _say(self, why: Said | None) -> None:
        if why != self._run.waiting:
            self._run.waiting = why
            self._changed()

    async def _there(self, coroutine: Coroutine[Any, Any, Done]) -> Done:
        """Has a coroutine run on the operator's loop; cancelled with the flow."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))
