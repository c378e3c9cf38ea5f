"""What a reconcile is about: a DataCube, what its document asks for, and who does it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datacube_flows.core.plan import TransferPlan
    from datacube_operator.cube import Cube
    from datacube_operator.engine import Engine, Found
    from datacube_operator.informer import Informer


@dataclass(frozen=True)
class Case:
    """A DataCube, what its document asks for, and who does it."""

    cube: Cube
    plan: TransferPlan
    engine: Engine

    def of(self, cube: Cube) -> Case:
        """The same with a later status."""
        return replace(self, cube=cube)

    def as_run(self, run: str) -> Case:
        """The same for a run that was begun, whatever the annotation says by now."""
        return replace(self, plan=self.plan.model_copy(update={"run_id": run.rpartition("-")[2]}))

    def find(self, run: str) -> Found:
        """What there is of a run."""
        return self.engine.find(self.plan, run)

    def described(self, run: str = "", uid: str = "") -> dict[str, str]:
        """Fields of `status.workflow`."""
        return self.engine.workflow_status(self.plan, run, uid)


@dataclass(frozen=True)
class Caches:
    """What is known of the cluster."""

    cubes: Informer
    claims: Informer
    pods: Informer
