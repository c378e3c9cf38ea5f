"""Plays runs in Argo by scripts, and shows what is to be seen of them on the way: workflow and pods, masked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from datacube_flows.api.reasons import Reason
from datacube_flows.core.observation import PodPhase
from datacube_flows.core.plan import TransferPlan
from datacube_flows.engines.argo import render_template, render_workflow
from datacube_flows.engines.argo_accounts import DEFAULTS
from tests.argo_scenes import FOLDER, Scene, scene_from
from tests.cluster.argo_watched import watched
from tests.cluster.errors import ClusterError
from tests.cluster.pods.observed import mask, without_noise

if TYPE_CHECKING:
    from tests.cluster.argo_watched import Watched
    from tests.cluster.pods.bench import Bench

SECONDS = 240.0
NOT_READ = ("managedFields", "storedWorkflowTemplateSpec", "storedTemplates", "env", "artifactRepositoryRef")

Document = dict[str, Any]
Condition = Callable[[Scene], object]
Action = Callable[["Recorder", Scene], object]
Step = tuple[str, Condition] | Action
"""A case, seen as soon as its condition holds; or what is done to a run after the step before."""


@dataclass(frozen=True)
class Run:
    """A run, and what is to be seen of it, in order."""

    plan: TransferPlan
    script: tuple[Step, ...]
    template: Document | None
    workflow: Document


@dataclass(frozen=True)
class Recorder:
    """Submits runs in a namespace, and shows what is to be seen of them; writes it into fixtures where it is to."""

    bench: Bench
    records: bool

    def make_run(self, name: str, document: Document, *script: Step, claim_exists: bool = True, **changes: Any) -> Run:
        """Returns a run with the template and the workflow that `play` will submit.

        Args:
            claim_exists: whether the step that makes the claim is left out.
            changes: `installation`, `settings`, `spec` (of the workflow).
        """
        document["metadata"] |= {"name": name, "uid": f"uid-of-{name}"}
        plan = self.bench.plan(document)
        settings = changes.get("settings", DEFAULTS)
        template = render_template(plan, changes.get("installation", self.bench.installation), settings=settings)
        workflow = render_workflow(plan, settings=settings, claim_exists=claim_exists)
        workflow["spec"] |= changes.get("spec", {})
        return Run(plan, script, template, workflow)

    def play(self, *runs: Run) -> dict[str, Scene]:
        """Submits runs, and follows them at the same time; returns what was seen, masked, by case."""
        seen: dict[str, Scene] = {}
        steps = {run.plan.name: list(run.script) for run in runs}
        end = time.monotonic() + SECONDS
        with watched(self.bench.cluster, self.bench.namespace) as now:
            self.bench.cluster.apply(*(run.template for run in runs if run.template), *(run.workflow for run in runs))
            while any(steps.values()):
                left = end - time.monotonic()
                if left <= 0 or not now.take(left):
                    missing = [step[0] for script in steps.values() for step in script if isinstance(step, tuple)]
                    raise ClusterError(f"in {SECONDS:.0f} s these moments did not come: {missing}")
                for run in runs:
                    self._advance(steps[run.plan.name], _scene(run.plan, now), seen)
        return seen

    def _advance(self, steps: list[Step], scene: Scene, seen: dict[str, Scene]) -> None:
        while steps and self._play(steps[0], scene, seen):
            steps.pop(0)

    def _play(self, step: Step, scene: Scene, seen: dict[str, Scene]) -> bool:
        """Plays a step: an action is done at once, a scene is waited for; whether it is over."""
        if scene.workflow is None:
            return False
        if not isinstance(step, tuple):
            step(self, scene)
            return True
        case, condition = step
        if not condition(scene):
            return False
        seen[case] = self._masked(scene)
        if self.records:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / f"{case}.json").write_text(json.dumps(seen[case].to_json(), indent=1, sort_keys=True) + "\n")
        return True

    def terminate(self, scene: Scene) -> None:
        """Stops a workflow as Argo's client does for a person."""
        patch = json.dumps({"spec": {"shutdown": "Terminate"}})
        name = scene.plan.run_name
        self.bench.cluster.kubectl("patch", "workflow", name, self.bench.here, "--type=merge", f"--patch={patch}")

    def delete_pod(self, scene: Scene) -> None:
        """Deletes the only pod of a run."""
        (pod,) = scene.pods
        name = pod["metadata"]["name"]
        self.bench.cluster.kubectl("delete", "pod", name, self.bench.here, "--grace-period=1", "--wait=false")

    def _masked(self, scene: Scene) -> Scene:
        """The scene with the same names each time; its pods still bear the hash of its plan."""
        written = scene.to_json()
        pods = [pod | {"status": without_noise(pod["status"])} for pod in written["pods"]]
        shown = {"workflow": _without_unread(written["workflow"]), "pods": _without_unread(pods)}
        masked = mask(written | shown, self.bench)
        plan = TransferPlan.model_validate(masked["plan"])
        return scene_from(json.loads(json.dumps(masked).replace(scene.plan.hash, plan.hash)))


def failed(number: int) -> Condition:
    """The attempt of that number failed, and none is there after it."""
    return lambda scene: _last(scene) == (number, PodPhase.FAILED)


def running(number: int) -> Condition:
    """The attempt of that number runs."""
    return lambda scene: _last(scene) == (number, PodPhase.RUNNING)


def moved(scene: Scene) -> bool:
    """An attempt succeeded."""
    last = _last(scene)
    return last is not None and last[1] is PodPhase.SUCCEEDED


def ended(scene: Scene) -> bool:
    """Argo is done with the workflow."""
    return scene.phase in ("Succeeded", "Failed", "Error")


def waits(reason: Reason) -> Condition:
    """The run waits for that reason; on the way there it may wait for others."""
    return lambda scene: (scene.observe().waiting or ("",))[0] is reason


def _scene(plan: TransferPlan, now: Watched) -> Scene:
    name = plan.run_name
    pods = now.objects["pods"].values()
    own = [p for p in pods if p["metadata"].get("labels", {}).get("workflows.argoproj.io/workflow") == name]
    return Scene(plan, now.objects["workflows"].get(name), tuple(own), datetime.now(UTC))


def _last(scene: Scene) -> tuple[int, PodPhase] | None:
    return next(((a.number, a.phase) for a in reversed(scene.observe().attempts)), None)


def _without_unread(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_unread(part) for name, part in value.items() if name not in NOT_READ}
    return [_without_unread(part) for part in value] if isinstance(value, list) else value
