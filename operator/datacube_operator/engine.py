"""What the operator asks of a workflow engine. The truth stays with the DataCube and its pods; an engine executes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from datacube_operator.errors import OperatorError

if TYPE_CHECKING:
    from datacube_flows.api.reasons import Reason
    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.core.observation import Observation
    from datacube_flows.core.plan import TransferPlan

    Object = dict[str, Any]


class NameTaken(OperatorError):
    """An object that a run needs exists and is somebody else's; the text says which one, and what to do."""


@dataclass(frozen=True)
class Found:
    """What there is of a run.

    Attributes:
        workflow: the engine's object; None where there is none, or none is known yet.
        pods: those of its steps, attempts and others.
        is_open: whether there is an engine's object that has not ended.
        is_going: whether it is on its way out.
    """

    workflow: Object | None = None
    pods: tuple[Object, ...] = ()
    is_open: bool = False
    is_going: bool = False

    @property
    def uid(self) -> str:
        """The uid of the engine's object; empty where there is none."""
        return str(self.workflow["metadata"]["uid"]) if self.workflow else ""

    def age(self, now: datetime) -> float:
        """Seconds from the making of the engine's object until now, on whichever clock; infinite without one."""
        if self.workflow is None:
            return math.inf
        return abs((now - datetime.fromisoformat(self.workflow["metadata"]["creationTimestamp"])).total_seconds())


class Engine(Protocol):
    """One engine. Methods that are no coroutines read caches alone."""

    name: str

    def unavailable(self) -> str:
        """Why it takes no runs now, and what to do; empty where it does."""

    def run_name(self, plan: TransferPlan) -> str:
        """The name of the plan's run."""

    def is_own_run(self, plan: TransferPlan, run: str) -> bool:
        """Whether a run of that name is one that was begun for the DataCube by the operator."""

    def workflow_status(self, plan: TransferPlan, run: str, uid: str) -> dict[str, str]:
        """Fields of `status.workflow`; a run or uid that is empty is left out."""

    def find(self, plan: TransferPlan, run: str) -> Found:
        """What there is of a run, as last seen."""

    def observe(self, plan: TransferPlan, found: Found, now: datetime) -> Observation:
        """How a run stands."""

    def is_stale(self, plan: TransferPlan, found: Found) -> bool:
        """Whether the engine ran something older than the plan, so that the run has to be made again."""

    async def look(self, plan: TransferPlan, run: str, told: DataCubeStatus) -> Object | None:
        """The engine's object as it is now, where no cache shows it; None where there is none.

        Args:
            plan: what is run.
            run: the run.
            told: the DataCube's status, which may tell what nobody else knows any more.
        """

    async def prepare(self, plan: TransferPlan) -> None:
        """Has everything there that a run of the plan refers to, also one that somebody else starts.

        Raises:
            NameTaken: something else has the name.
        """

    async def submit(self, plan: TransferPlan, told: DataCubeStatus, *, claim_exists: bool) -> Found:
        """Begins the plan's run, once: where it was begun already, it is found.

        Args:
            plan: what is to be run.
            told: the DataCube's status.
            claim_exists: whether its claim is there.

        Raises:
            NameTaken: something else has the name.
        """

    async def stop(self, plan: TransferPlan, found: Found, why: tuple[Reason, str]) -> None:
        """Ends a run and removes its objects, pods included."""

    def forget(self, namespace: str) -> None:
        """Forgets what was made in a namespace that has no DataCube any more."""

    def release(self, uid: str) -> None:
        """Lets go of what runs for a DataCube that is gone, or going."""

    async def watch_over(self, plan: TransferPlan, found: Found, now: datetime) -> None:
        """Helps a run along that the engine leaves hanging."""

    async def clear_up(self, plan: TransferPlan, found: Found, now: datetime) -> float | None:
        """Clears up after a run that has ended, whatever the engine makes of it.

        Returns:
            Seconds after which to come again; None where nothing is left to do.
        """
