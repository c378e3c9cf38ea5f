"""Runs DataCubes by Argo's own controller: all of them at once, since Argo moves in steps of ten seconds."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datacube_flows.core import labels
from datacube_flows.core.observe_pod import observe_pod
from datacube_flows.engines.argo import render_template, render_workflow, template_name
from tests.canary import has_canary
from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_flows.core.observation import AttemptSeen
    from tests.cluster.pods.bench import Bench

ENDED = ("Succeeded", "Failed", "Error")
OUTPUTS = ("path", "revision", "files", "bytes")
TRAININGS = ("training-1", "training-2")
SECONDS = 150.0
POLL_SECONDS = 0.5

Document = dict[str, Any]


@dataclass(frozen=True)
class ArgoBench:
    """A namespace in which Argo runs DataCubes."""

    bench: Bench

    def submit(
        self,
        name: str,
        document: Document,
        *,
        claim_exists: bool = False,
        change: Callable[[Document], Document] = lambda template: template,
    ) -> str:
        """Renders and creates a DataCube's template, with a change, and workflow; returns the workflow's name."""
        plan = self._make_template(name, document, change)
        self.bench.cluster.apply(render_workflow(plan, claim_exists=claim_exists))
        return plan.run_name

    def submit_foreign(self, name: str, document: Document) -> list[str]:
        """Creates a DataCube's template, and two workflows of somebody else's that refer to it; returns their names."""
        self._make_template(name, document, lambda template: template)
        here = {"namespace": self.bench.namespace}
        reference = {"name": template_name(name), "template": "datacube"}
        train = {"inputs": {"parameters": [{"name": n} for n in OUTPUTS]}, "suspend": {"duration": "0"}}
        taken = [{"name": n, "value": f"{{{{tasks.data.outputs.parameters.{n}}}}}"} for n in OUTPUTS]
        tasks = [
            {"name": "data", "templateRef": reference},
            {"name": "train", "template": "train", "dependencies": ["data"], "arguments": {"parameters": taken}},
        ]
        templates = [{"name": "pipeline", "dag": {"tasks": tasks}}, {"name": "train"} | train]
        self.bench.cluster.apply(
            _object("WorkflowTemplate", "training", here, {"entrypoint": "pipeline", "templates": templates}),
            *(_object("Workflow", n, here, {"workflowTemplateRef": {"name": "training"}}) for n in TRAININGS),
        )
        return list(TRAININGS)

    def finish(self, workflow: str) -> Document:
        """Returns the workflow when it has ended."""
        end = time.monotonic() + SECONDS
        while True:
            found = self.bench.cluster.get("workflow", workflow, self.bench.here)
            if found.get("status", {}).get("phase") in ENDED:
                return found
            if time.monotonic() > end:
                raise ClusterError(f"{workflow} after {SECONDS:.0f} s: {json.dumps(found.get('status'), indent=1)}")
            time.sleep(POLL_SECONDS)

    def pods(self, workflow: str, step: str = labels.TRANSFER) -> list[Document]:
        """Returns the pods of a step of a workflow, the oldest first."""
        selector = f"--selector=workflows.argoproj.io/workflow={workflow},{labels.STEP}={step}"
        found = self.bench.cluster.get("pods", selector, self.bench.here)["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def attempts(self, workflow: str) -> list[AttemptSeen]:
        """Returns the attempts of a workflow as the operator would see them."""
        return [observe_pod(pod) for pod in self.pods(workflow)]

    def leaks(self) -> list[str]:
        """Which of Argo's objects show a credential."""
        kinds = ("workflows", "workflowtemplates", "workflowtaskresults")
        return [kind for kind in kinds if has_canary(json.dumps(self.bench.cluster.get(kind, self.bench.here)))]

    def _make_template(self, name: str, document: Document, change: Callable[[Document], Document]) -> Any:
        document["metadata"]["name"] = name
        document["metadata"]["uid"] = f"uid-of-{name}"
        plan = self.bench.plan(document)
        self.bench.cluster.apply(change(render_template(plan, self.bench.installation)))
        return plan


def wait_until(find: Callable[[], list[Any]]) -> list[Any]:
    """Returns what is found, as soon as anything is."""
    end = time.monotonic() + SECONDS
    while not (found := find()):
        if time.monotonic() > end:
            raise ClusterError(f"nothing of what is waited for is there in {SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return found


def outputs_of(workflow: Document) -> dict[str, str]:
    """Returns the outputs of a workflow: those of the node that is all of it."""
    return values_of(workflow["status"]["nodes"][workflow["metadata"]["name"]]["outputs"])


def values_of(section: Document) -> dict[str, str]:
    """Returns the parameters of a node's inputs or outputs."""
    return {p["name"]: p["value"] for p in section["parameters"]}


def nodes_of(workflow: Document, kind: str) -> list[Document]:
    """Returns the nodes of a type."""
    return [node for node in workflow["status"]["nodes"].values() if node["type"] == kind]


def _object(kind: str, name: str, metadata: Document, spec: Document) -> Document:
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": metadata | {"name": name}, "spec": spec}
