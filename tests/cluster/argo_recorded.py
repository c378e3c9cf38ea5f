"""Plays runs in Argo by scripts, and shows what is to be seen of them on the way: workflow and pods, masked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from datacube_flows.core.observation import PodPhase
from datacube_flows.core.plan import TransferPlan
from datacube_flows.engines.argo import render_template, render_workflow, workflow_name
from datacube_flows.engines.argo_accounts import DEFAULTS
from tests.argo_scenes import FOLDER, Scene, scene_from
from tests.cluster.errors import ClusterError
from tests.cluster.pods.observed import mask, without_noise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.cluster.pods.bench import Bench

SECONDS = 240.0
POLL_SECONDS = 0.5
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
        self.bench.cluster.apply(*(run.template for run in runs if run.template), *(run.workflow for run in runs))
        seen: dict[str, Scene] = {}
        steps = {run.plan.name: list(run.script) for run in runs}
        end = time.monotonic() + SECONDS
        while any(steps.values()):
            workflows, pods = self._objects("workflows"), self._objects("pods")
            for run in runs:
                scene = _scene(run.plan, workflows, pods)
                while steps[run.plan.name] and self._play(steps[run.plan.name][0], scene, seen):
                    steps[run.plan.name].pop(0)
            if time.monotonic() > end:
                left = {run.plan.name: _scene(run.plan, workflows, pods) for run in runs if steps[run.plan.name]}
                raise ClusterError(f"after {SECONDS:.0f} s: " + "\n".join(f"{n}: {s.tell()}" for n, s in left.items()))
            time.sleep(POLL_SECONDS)
        return seen

    def _play(self, step: Step, scene: Scene, seen: dict[str, Scene]) -> bool:
        """Plays a step: an action is done at once, a scene is waited for; whether it is over."""
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

    def _objects(self, kind: str) -> list[Document]:
        found: list[Document] = self.bench.cluster.get(kind, self.bench.here)["items"]
        return found

    def terminate(self, scene: Scene) -> None:
        """Stops a workflow as Argo's client does for a person."""
        patch = json.dumps({"spec": {"shutdown": "Terminate"}})
        name = workflow_name(scene.plan)
        self.bench.cluster.kubectl("patch", "workflow", name, self.bench.here, "--type=merge", f"--patch={patch}")

    def delete_pod(self, scene: Scene) -> None:
        """Deletes the only pod of a run."""
        (pod,) = scene.pods
        name = pod["metadata"]["name"]
        self.bench.cluster.kubectl("delete", "pod", name, self.bench.here, "--grace-period=1", "--wait=false")

    def _masked(self, scene: Scene) -> Scene:
        """The scene with the same names each time; its pods still bear the hash of its plan."""
        written = scene.to_json()
        shown = {name: _without_unread(without_noise(written[name])) for name in ("workflow", "pods")}
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


def waits(scene: Scene) -> bool:
    """The run waits for something."""
    return scene.observe().waiting is not None


def _scene(plan: TransferPlan, workflows: Iterable[Document], pods: Iterable[Document]) -> Scene:
    name = workflow_name(plan)
    own = [p for p in pods if p["metadata"].get("labels", {}).get("workflows.argoproj.io/workflow") == name]
    workflow = next((w for w in workflows if w["metadata"]["name"] == name), None)
    return Scene(plan, workflow, tuple(own), datetime.now(UTC))


def _last(scene: Scene) -> tuple[int, PodPhase] | None:
    return next(((a.number, a.phase) for a in reversed(scene.observe().attempts)), None)


def _without_unread(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_unread(part) for name, part in value.items() if name not in NOT_READ}
    return [_without_unread(part) for part in value] if isinstance(value, list) else value
