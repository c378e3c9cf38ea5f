"""Runs of Argo as a real cluster showed them, each at one moment; recorded by tests/cluster/test_argo_observed.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.plan import TransferPlan
from datacube_flows.engines.argo_observe import observe_run
from tests.support import ROOT

if TYPE_CHECKING:
    from datacube_flows.core.observation import Observation

FOLDER = ROOT / "tests/engines/observed"

Document = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """A run at one moment.

    Attributes:
        workflow: as the API shows it; None where there is none.
        pods: all of the run.
    """

    plan: TransferPlan
    workflow: Document | None
    pods: tuple[Document, ...]
    now: datetime

    def observe(self) -> Observation:
        """Returns what is concluded."""
        return observe_run(self.plan, self.workflow, self.pods, self.now)

    @property
    def phase(self) -> str:
        """The workflow's phase; "" where Argo has not taken it up."""
        return str(((self.workflow or {}).get("status") or {}).get("phase") or "")

    def to_json(self) -> Document:
        """Returns the scene as it is written down."""
        return {
            "plan": self.plan.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "workflow": self.workflow,
            "pods": list(self.pods),
            "now": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def scene_from(value: Document) -> Scene:
    """Returns the scene that was written down."""
    return Scene(
        plan=TransferPlan.model_validate(value["plan"]),
        workflow=value["workflow"],
        pods=tuple(value["pods"]),
        now=datetime.fromisoformat(value["now"]),
    )


def read_scene(case: str) -> Scene:
    """Returns the fixture of a case."""
    return scene_from(json.loads((FOLDER / f"{case}.json").read_text()))


def facts(scene: Scene) -> dict[str, Any]:
    """What must be the same each time: all that is concluded, but texts, times and counts."""
    seen = scene.observe()
    status = fold(initial_status(scene.now), seen, scene.now)
    return {
        "workflow": scene.phase,
        "phase": status.phase,
        "conditions": [(c.type, c.status, c.reason) for c in status.conditions or ()],
        "attempts": [(a.number, a.reason, a.exit_code) for a in status.attempts or ()],
        "retries": seen.will_retry,
        "waits": seen.waiting and seen.waiting[0],
        "says": seen.said and seen.said[0],
    }
