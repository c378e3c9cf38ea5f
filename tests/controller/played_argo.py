"""Plays Argo's controller before an API server that has none: pods as its templates say, retries, and its own words.

What it writes (names of pods and nodes, labels, messages) is what the real controller writes; it does so at once,
where the real one takes steps of ten seconds. Its steps, a workflow's `shutdown`, and deletions are followed; a DAG is
played as far as its first reference to a template.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.errors import AlreadyExists, NotFound
from datacube_operator.resource import CLAIMS, PODS, WORKFLOW_TEMPLATES, WORKFLOWS

from datacube_flows.core import labels
from datacube_flows.core.manifests import RESTRICTED_CONTAINER
from datacube_flows.core.retry import EXIT_PERMANENT
from datacube_flows.engines.argo import ATTEMPT_NUMBER, ENTRYPOINT
from tests.controller.played_kubelet import ENDED, NODE, moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_operator.client import Client
    from datacube_operator.informer import Informer

    from tests.controller.played_kubelet import PlayedKubelet

Object = dict[str, Any]


PHASE_LABEL: Final = "workflows.argoproj.io/phase"
COMPLETED_LABEL: Final = "workflows.argoproj.io/completed"
WORKFLOW_LABEL: Final = "workflows.argoproj.io/workflow"
NODE_NAME: Final = "workflows.argoproj.io/node-name"
NODE_ID: Final = "workflows.argoproj.io/node-id"
FINAL: Final = ("Succeeded", "Failed", "Error")


@dataclass
class Run:
    """A workflow that is being played, and its nodes so far."""

    workflow: Object
    template: Object
    arguments: Mapping[str, str]
    nodes: dict[str, Object] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return str(self.workflow["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.workflow["metadata"]["namespace"])

    def step(self, name: str) -> Object:
        """Returns a template of the WorkflowTemplate."""
        found: Object = next(t for t in self.template["spec"]["templates"] if t["name"] == name)
        return found

    def put(self, name: str, kind: str, phase: str, **more: Any) -> None:
        """Has a node as it is now."""
        node_id = self.name if name == self.name else f"{self.name}-{fnv(name)}"
        known = self.nodes.get(node_id, {"startedAt": moment()})
        ended = {"finishedAt": moment()} if phase in FINAL else {}
        about = {"id": node_id, "name": name, "displayName": name.rpartition(".")[2], "type": kind, "phase": phase}
        self.nodes[node_id] = known | about | ended | more


class PlayedArgo:
    """Plays every workflow that it sees.

    Args:
        client: the administrator's.
        workflows: all of them.
        templates: all of them.
        pods: those of DataCubes.
        kubelet: ends pods where a workflow is shut down.
    """

    def __init__(
        self, client: Client, workflows: Informer, templates: Informer, pods: Informer, kubelet: PlayedKubelet
    ) -> None:
        self._client, self._workflows, self._templates, self._pods = client, workflows, templates, pods
        self._kubelet = kubelet
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, Run] = {}
        self.backoff_seconds = 0.0
        self.step_seconds = 0.0
        """How long after the end of a pod a workflow's status says so."""

        self.works = asyncio.Event()
        """Cleared, the controller is stopped: it sees nothing and does nothing."""

        self.works.set()
        self.seen: dict[str, str] = {}
        """uid -> `namespace/name` of every workflow that ever was."""

        workflows.subscribe(self._look)
        pods.subscribe(self._look_at_pods_of, lambda pod: [_workflow_of(pod)])

    async def close(self) -> None:
        """Stops playing."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def workflows_of(self, namespace: str) -> list[str]:
        """Returns the names of all workflows that ever were in a namespace, the oldest first, one for each uid."""
        keys = (key.partition("/") for key in self.seen.values())
        return [name for where, _, name in keys if where == namespace]

    def _look(self, key: str) -> None:
        workflow = self._workflows.store.get(key)
        if workflow is None:
            return
        uid = workflow["metadata"]["uid"]
        self.seen.setdefault(uid, key)
        if uid not in self._tasks and workflow.get("status", {}).get("phase") not in FINAL:
            self._tasks[uid] = asyncio.create_task(self._play(workflow))
        if uid in self._runs:
            self._runs[uid].changed.set()

    def _look_at_pods_of(self, key: str) -> None:
        workflow = self._workflows.store.get(key)
        run = self._runs.get(workflow["metadata"]["uid"]) if workflow else None
        if run is not None:
            run.changed.set()

    async def _play(self, workflow: Object) -> None:
        with suppress(NotFound, Gone):
            await self.works.wait()
            run = await self._begin(workflow)
            self._runs[workflow["metadata"]["uid"]] = run
            phase, message = await self._steps(run)
            await asyncio.sleep(self.step_seconds)
            await self.works.wait()
            run.put(run.name, "Steps", phase, message=message, outputs=self._outputs(run))
            await self._show(run, phase, message)

    async def _begin(self, workflow: Object) -> Run:
        template = await self._find_template(workflow)
        given = {p["name"]: p.get("value", "") for p in workflow["spec"].get("arguments", {}).get("parameters", ())}
        entry = next(t for t in template["spec"]["templates"] if t["name"] == ENTRYPOINT)
        inputs = {p["name"]: p.get("value", "") for p in entry.get("inputs", {}).get("parameters", ())}
        run = Run(workflow, template, inputs | {n: v for n, v in given.items() if n in inputs})
        run.put(run.name, "Steps", "Running", templateName=ENTRYPOINT)
        await self._show(run, "Running")
        return run

    async def _find_template(self, workflow: Object) -> Object:
        """The template that a workflow refers to; through a template of its own where a DAG does."""
        namespace = workflow["metadata"]["namespace"]
        name = _reference(workflow["spec"])
        template = await self._client.get(WORKFLOW_TEMPLATES, namespace, name)
        names = [t["name"] for t in template["spec"]["templates"]]
        if ENTRYPOINT in names:
            return template
        return await self._client.get(WORKFLOW_TEMPLATES, namespace, _reference(template["spec"]))

    async def _steps(self, run: Run) -> tuple[str, str]:
        """Plays the claim's step where there is one, then the transfer; returns phase and message of the whole."""
        steps = [step for group in run.step(ENTRYPOINT)["steps"] for step in group]
        for index, step in enumerate(steps):
            name = f"{run.name}[{index}].{step['name']}"
            if step["name"] == labels.PROVISION and run.arguments.get(labels.PROVISION) != "true":
                run.put(name, "Skipped", "Skipped", message="when 'false == true' evaluated false")
                continue
            if step["name"] == labels.PROVISION:
                await self._make_claim(run)
            phase, message = await self._retry(run, step["template"], name)
            if phase != "Succeeded":
                return phase, message
        return "Succeeded", ""

    async def _make_claim(self, run: Run) -> None:
        claim = json.loads(run.step(labels.PROVISION)["container"]["args"][0])
        with suppress(AlreadyExists):
            await self._client.create(CLAIMS, run.namespace, claim)
            bound = {"status": {"phase": "Bound"}}
            await self._client.patch(CLAIMS, run.namespace, claim["metadata"]["name"], bound, subresource="status")

    async def _retry(self, run: Run, template: str, name: str) -> tuple[str, str]:
        """Plays the attempts of a step; returns its phase and message."""
        strategy = run.step(template)["retryStrategy"]
        limit, number = int(strategy["limit"]), 0
        while True:
            child = f"{name}({number})"
            run.put(name, "Retry", "Running", templateName=template)
            phase, message, code = await self._attempt(run, template, child, number)
            ended = {"exitCode": str(code)} if code is not None else {}
            run.put(child, "Pod", phase, message=message, outputs=ended, nodeFlag={"retried": True})
            last = self._verdict(run, phase, code, number, limit)
            if last is not None:
                run.put(name, "Retry", phase, message=last)
                return phase, "" if phase == "Succeeded" else f"child '{run.name}-{fnv(child)}' failed"
            run.put(name, "Retry", "Running", message="Backoff for 10 seconds")
            await self._show(run, "Running")
            await asyncio.sleep(self.backoff_seconds)
            number += 1

    def _verdict(self, run: Run, phase: str, code: int | None, number: int, limit: int) -> str | None:
        """What the Retry node says in the end; None where another attempt follows."""
        if phase == "Succeeded":
            return ""
        if shutdown := self._shutdown(run):
            return f"Stopped with strategy '{shutdown}'"
        if code == EXIT_PERMANENT:
            return "retryStrategy.expression evaluated to false"
        return "No more retries left" if number >= limit else None

    async def _attempt(self, run: Run, template: str, node: str, number: int) -> tuple[str, str, int | None]:
        """Has a pod run to its end; returns phase, message and exit code of its node."""
        await self.works.wait()
        if shutdown := self._shutdown(run):
            return "Failed", f"workflow shutdown with strategy: {shutdown}", None
        pod = _make_pod(run, template, node, number)
        pod = await self._client.create(PODS, run.namespace, pod)
        run.put(node, "Pod", "Pending", templateName=template)
        ended = await self._pod_ended(run, pod)
        await asyncio.sleep(self.step_seconds)
        await self.works.wait()
        if ended is None:
            return "Error", "pod deleted", None
        return _node_end(ended)

    async def _pod_ended(self, run: Run, pod: Object) -> Object | None:
        """Returns the pod when it has ended; None where it is gone."""
        key = f"{run.namespace}/{pod['metadata']['name']}"
        was_seen = False
        while True:
            run.changed.clear()
            now = self._pods.store.get(key)
            was_seen = was_seen or now is not None
            if was_seen and (now is None or "deletionTimestamp" in now["metadata"]):
                return None
            if now is not None and now["status"].get("phase") in ENDED:
                return now
            if now is not None and self._shutdown(run):
                await self._kubelet.terminate(now)
                continue
            await run.changed.wait()

    def _shutdown(self, run: Run) -> str:
        """How the workflow was told to end; raises `Gone` where it is there no longer."""
        now = self._workflows.store.get(f"{run.namespace}/{run.name}")
        if now is None or now["metadata"]["uid"] != run.workflow["metadata"]["uid"]:
            raise Gone
        return str(now["spec"].get("shutdown") or "")

    def _outputs(self, run: Run) -> Object:
        """What the whole workflow leaves: the outputs of the attempt that succeeded."""
        script: Mapping[str, str] = {}
        for pod in self._pods.store.find("workflow", f"{run.namespace}/{run.name}"):
            if pod["status"].get("phase") == "Succeeded":
                script = self._kubelet.script_of(pod).outputs or script
        return {"parameters": [{"name": name, "value": value} for name, value in script.items()]}

    async def _show(self, run: Run, phase: str, message: str = "") -> None:
        about = run.workflow["metadata"]
        is_final = phase in FINAL
        ended = {"finishedAt": moment()} if is_final else {}
        marks = {PHASE_LABEL: phase, COMPLETED_LABEL: str(is_final).lower()}
        status = {"phase": phase, "message": message, "startedAt": about["creationTimestamp"], **ended}
        status |= {"nodes": run.nodes, "progress": f"{int(phase == 'Succeeded')}/1"}
        body = {"metadata": {"uid": about["uid"], "labels": marks}, "status": status}
        await self._client.patch(WORKFLOWS, run.namespace, run.name, body)


class Gone(Exception):
    """The workflow that is played was deleted."""


def _workflow_of(pod: Object) -> str:
    about = pod["metadata"]
    return f"{about['namespace']}/{about['labels'].get(WORKFLOW_LABEL, '')}"


POD_INDEXES: Final = {"workflow": lambda pod: [_workflow_of(pod)]}


def _reference(spec: Object) -> str:
    """The template that a workflow names, or that the first task of its DAG does."""
    named = spec.get("workflowTemplateRef")
    tasks = [task for t in spec.get("templates", ()) for task in t.get("dag", {}).get("tasks", ())]
    references = [named] if named else [task["templateRef"] for task in tasks if "templateRef" in task]
    return str(references[0]["name"])


def fnv(name: str) -> int:
    """Returns the 32-bit FNV-1a hash of a node's name, with which Argo makes names of pods and nodes."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def _node_end(pod: Object) -> tuple[str, str, int | None]:
    """Phase, message and exit code of the node of a pod that has ended."""
    (main,) = (s for s in pod["status"]["containerStatuses"] if s["name"] == "main")
    ended = main["state"]["terminated"]
    code = int(ended["exitCode"])
    if pod["status"]["phase"] == "Succeeded":
        return "Succeeded", "", code
    if pod["status"].get("reason"):
        return "Failed", pod["status"].get("message", ""), code
    said = f": {ended['message']}" if ended.get("message") else ""
    return "Failed", f"main: {ended['reason']} (exit code {code}){said}", code


def _make_pod(run: Run, template: str, node: str, number: int) -> Object:
    """The pod of an attempt, as Argo makes it of a template."""
    spec = json.dumps(run.step(template))
    spec = spec.replace("{{inputs.parameters.run}}", run.arguments.get("run", ""))
    made: Object = json.loads(spec.replace(ATTEMPT_NUMBER, str(number + 1)))
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": run.name}
    owner |= {"uid": run.workflow["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}
    argo = {"image": "datacube.test/argoexec:1", "securityContext": RESTRICTED_CONTAINER}
    kept = ("activeDeadlineSeconds", "serviceAccountName", "securityContext", "nodeSelector", "tolerations", "affinity")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{run.name}-{template}-{fnv(node)}",
            "namespace": run.namespace,
            "labels": made["metadata"]["labels"] | {WORKFLOW_LABEL: run.name, COMPLETED_LABEL: "false"},
            "annotations": made["metadata"]["annotations"] | {NODE_NAME: node, NODE_ID: f"{run.name}-{fnv(node)}"},
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": NODE,
            "restartPolicy": "Never",
            "initContainers": [argo | {"name": "init"}],
            "containers": [argo | {"name": "wait"}, made["container"]],
            "volumes": made.get("volumes", []),
            **{name: made[name] for name in kept if name in made},
        },
    }
