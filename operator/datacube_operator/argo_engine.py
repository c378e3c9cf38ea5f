"""Runs in Argo Workflows: a WorkflowTemplate per DataCube, a Workflow per run, each found again by its name."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.core import labels
from datacube_flows.core.manifests import make_owner
from datacube_flows.engines.argo import render_template, render_workflow, template_name
from datacube_flows.engines.argo_nodes import has_ended
from datacube_flows.engines.argo_observe import is_stale, observe_run
from datacube_flows.engines.argo_watchdog import RESULT_LABELS, TERMINATION, Watch, watchdog
from datacube_operator.cube import BY_OWNER, BY_UID, uid_key
from datacube_operator.engine import Found, NameTaken
from datacube_operator.errors import AlreadyExists, Conflict, NotFound, TemporaryError
from datacube_operator.logs import log
from datacube_operator.resource import WORKFLOW_RESULTS, WORKFLOW_TEMPLATES, WORKFLOWS
from datacube_operator.runs import WORKFLOW_LABEL

if TYPE_CHECKING:
    from datetime import datetime

    from datacube_flows.api.reasons import Reason
    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.core.manifests import Installation
    from datacube_flows.core.observation import Observation
    from datacube_flows.core.plan import TransferPlan
    from datacube_flows.engines.argo_accounts import ArgoSettings
    from datacube_operator.accounts import Accounts
    from datacube_operator.client import Client
    from datacube_operator.clock import Clock
    from datacube_operator.informer import Informer

    Object = dict[str, Any]

RENDERED: Final = f"{labels.PREFIX}/rendered"
"""Annotation on a template: the hash of what was rendered, so that a newer operator or image is noticed."""

GONE_SOON_SECONDS: Final = 1.0

LOOK_AGAIN_SECONDS: Final = 30.0
"""So often is looked at a Workflow that goes on after its run has ended."""

MADE_SECONDS: Final = 90.0
"""So long may the cache lack a Workflow that was made; one that never came to be seen there was deleted at once."""

RUN_LENGTH: Final = 8


@dataclass(frozen=True)
class ArgoParts:
    """What the engine works with.

    Attributes:
        client: writes.
        workflows: informer of the workflows that the operator submits.
        templates: informer of its templates.
        pods: informer of pods that bear the operator's labels.
        accounts: has the service accounts of a namespace there.
        clock: for how long is remembered what no cache shows yet.
        installation: what the installation decides about pods.
        settings: what it decides about Argo.
        url: address of Argo's server, for links; empty where it has none.
    """

    client: Client
    workflows: Informer
    templates: Informer
    pods: Informer
    accounts: Accounts
    clock: Clock
    installation: Installation
    settings: ArgoSettings
    url: str = ""


class ArgoEngine:
    """See `Engine`."""

    name = "argo"

    def __init__(self, parts: ArgoParts) -> None:
        self._client, self._parts = parts.client, parts
        self._made: dict[str, tuple[float, Object]] = {}
        self._stopped: dict[str, str] = {}
        parts.workflows.subscribe(self._notice)

    def unavailable(self) -> str:
        """Whether Argo's kinds are served."""
        if self._parts.workflows.is_served and self._parts.templates.is_served:
            return ""
        return "Argo Workflows is not installed in this cluster: install it, and the transfer starts by itself"

    def run_name(self, plan: TransferPlan) -> str:
        """The Workflow's name."""
        return plan.run_name

    def is_own_run(self, plan: TransferPlan, run: str) -> bool:
        """Whether it is the name of this DataCube and a run's id."""
        return run[-RUN_LENGTH:].isalnum() and run == plan.model_copy(update={"run_id": run[-8:]}).run_name

    def workflow_status(self, plan: TransferPlan, run: str, uid: str) -> dict[str, str]:
        """The template that others may refer to, the Workflow, and its page."""
        url = f"{self._parts.url.rstrip('/')}/workflows/{plan.namespace}/{run}" if self._parts.url and run else ""
        fields = {"engine": self.name, "template": template_name(plan.name), "name": run, "uid": uid, "url": url}
        return {name: value for name, value in fields.items() if value}

    def find(self, plan: TransferPlan, run: str) -> Found:
        """The DataCube's Workflow of that name, and all pods that it owns, whatever template they were made from."""
        key = f"{plan.namespace}/{run}"
        workflow = self._known(key)
        if workflow is None or plan.uid not in _owners(workflow):
            pods = self._parts.pods.store.find(BY_UID, uid_key(plan.namespace, plan.uid))
            return Found(pods=tuple(p for p in pods if _label(p, WORKFLOW_LABEL) == run))
        uid = workflow["metadata"]["uid"]
        return Found(
            workflow,
            tuple(self._parts.pods.store.find(BY_OWNER, uid_key(plan.namespace, uid))),
            is_open=not has_ended(workflow),
            is_going=_is_going(workflow) or self._stopped.get(key) == uid,
        )

    def observe(self, plan: TransferPlan, found: Found, now: datetime) -> Observation:
        """How the Workflow and its pods stand."""
        return observe_run(plan, found.workflow, found.pods, now)

    def is_stale(self, plan: TransferPlan, found: Found) -> bool:
        """Whether Argo's controller ran a template that it remembered from before."""
        return found.workflow is not None and is_stale(found.workflow, found.pods, plan)

    async def look(self, plan: TransferPlan, run: str, told: DataCubeStatus) -> Object | None:
        """The Workflow as it is now."""
        del told
        return await self._read(plan, run)

    async def _read(self, plan: TransferPlan, run: str) -> Object | None:
        try:
            return await self._client.get(WORKFLOWS, plan.namespace, run)
        except NotFound:
            return None

    async def prepare(self, plan: TransferPlan) -> None:
        """Has the accounts and the template there."""
        await self._parts.accounts.ensure(plan.namespace)
        body = self._render_template(plan)
        known = self._parts.templates.store.get(f"{plan.namespace}/{body['metadata']['name']}")
        if known is None:
            await self._create_template(plan, body)
        elif plan.uid not in _owners(known):
            await self._remove_orphan(plan, known)
        elif _annotation(known, RENDERED) != _annotation(body, RENDERED):
            await self._client.apply(WORKFLOW_TEMPLATES, plan.namespace, body)

    async def submit(self, plan: TransferPlan, told: DataCubeStatus, *, claim_exists: bool) -> Found:
        """Creates the Workflow, or adopts it where an earlier process did."""
        del told
        body = render_workflow(plan, make_owner(plan), self._parts.settings, claim_exists=claim_exists)
        name = body["metadata"]["name"]
        try:
            made = await self._client.create(WORKFLOWS, plan.namespace, body)
        except AlreadyExists:
            made = await self._adopt(plan, name)
        key = f"{plan.namespace}/{name}"
        if self._parts.workflows.store.get(key) is None:
            self._made[key] = self._parts.clock.now() + MADE_SECONDS, made
        return self.find(plan, name)

    async def stop(self, plan: TransferPlan, found: Found, why: tuple[Reason, str]) -> None:
        """Deletes the Workflow; its pods are told to end and go with it."""
        del why
        if found.workflow is None or found.is_going:
            return
        name = found.workflow["metadata"]["name"]
        key = f"{plan.namespace}/{name}"
        try:
            await self._client.delete(WORKFLOWS, plan.namespace, name, uid=found.uid)
        except (NotFound, Conflict):
            log.info("workflow was gone already", namespace=plan.namespace, workflow=name)
        self._made.pop(key, None)
        self._stopped[key] = found.uid

    def forget(self, namespace: str) -> None:
        """Forgets the accounts of a namespace."""
        self._parts.accounts.forget(namespace)

    def release(self, uid: str) -> None:
        """What the DataCube owns goes with it."""

    async def watch_over(self, plan: TransferPlan, found: Found, now: datetime) -> None:
        """Completes results whose report Argo waits for in vain, then ends the Workflow; not one that is gone now."""
        workflow = found.workflow
        if workflow is None or found.is_going:
            return
        name = workflow["metadata"]["name"]
        with suppress(NotFound):
            match watchdog(workflow, found.pods, now):
                case Watch.REPORT:
                    await self._complete_results(plan.namespace, name)
                case Watch.TERMINATE:
                    log.warning("workflow hangs and is ended", namespace=plan.namespace, workflow=name)
                    await self._client.patch(WORKFLOWS, plan.namespace, name, TERMINATION)

    async def clear_up(self, plan: TransferPlan, found: Found, now: datetime) -> float | None:
        """Sees that Argo lets go of a Workflow; with its time it goes by itself."""
        if not found.is_open:
            return None
        await self.watch_over(plan, found, now)
        return LOOK_AGAIN_SECONDS

    async def _complete_results(self, namespace: str, workflow: str) -> None:
        page = await self._client.list(WORKFLOW_RESULTS, namespace, labels=f"{WORKFLOW_LABEL}={workflow}")
        for result in page.items:
            if all(_label(result, label) == value for label, value in RESULT_LABELS.items()):
                continue
            log.warning("result of a pod was never reported", namespace=namespace, workflow=workflow)
            body = {"metadata": {"labels": RESULT_LABELS}}
            await self._client.patch(WORKFLOW_RESULTS, namespace, result["metadata"]["name"], body)

    def _known(self, key: str) -> Object | None:
        """The Workflow as the cache has it, or as it was made a moment ago."""
        until, made = self._made.get(key, (0.0, None))
        if made is not None and until <= self._parts.clock.now():
            del self._made[key]
            made = None
        return self._parts.workflows.store.get(key) or made

    def _notice(self, key: str) -> None:
        """The cache shows a Workflow, or no longer: what was remembered in its place is not needed any more."""
        self._made.pop(key, None)
        if self._parts.workflows.store.get(key) is None:
            self._stopped.pop(key, None)

    def _render_template(self, plan: TransferPlan) -> Object:
        body = render_template(plan, self._parts.installation, make_owner(plan), self._parts.settings)
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
        body["metadata"]["annotations"] = {RENDERED: digest}
        return body

    async def _create_template(self, plan: TransferPlan, body: Object) -> None:
        name = body["metadata"]["name"]
        try:
            await self._client.create(WORKFLOW_TEMPLATES, plan.namespace, body)
        except AlreadyExists:
            there = await self._client.get(WORKFLOW_TEMPLATES, plan.namespace, name)
            if plan.uid in _owners(there):
                if _annotation(there, RENDERED) != _annotation(body, RENDERED):
                    await self._client.apply(WORKFLOW_TEMPLATES, plan.namespace, body)
                return
            await self._remove_orphan(plan, there)

    async def _remove_orphan(self, plan: TransferPlan, template: Object) -> None:
        """Removes the template of a DataCube that had this name before, and has the run come again.

        Raises:
            NameTaken: it is nobody's, or of something else than a DataCube of this name.
            TemporaryError: it was removed.
        """
        name = template["metadata"]["name"]
        if not _is_of_predecessor(template, plan):
            raise NameTaken(_taken("WorkflowTemplate", name))
        if not _is_going(template):
            with suppress(NotFound, Conflict):
                await self._client.delete(WORKFLOW_TEMPLATES, plan.namespace, name, uid=template["metadata"]["uid"])
        raise TemporaryError("the template of an earlier DataCube of this name is on its way out", GONE_SOON_SECONDS)

    async def _adopt(self, plan: TransferPlan, name: str) -> Object:
        """Returns a Workflow that has the run's name, if it is the run's.

        Raises:
            NameTaken: it is somebody else's.
            TemporaryError: it is on its way out.
        """
        there = await self._read(plan, name)
        if there is None or _is_going(there):
            raise TemporaryError("the workflow of before is on its way out", GONE_SOON_SECONDS)
        if plan.uid not in _owners(there) or _label(there, labels.RUN) != plan.run_id:
            raise NameTaken(_taken("Workflow", name))
        return there


def _taken(kind: str, name: str) -> str:
    return (
        f"there is a {kind} '{name}' that is not this DataCube's: delete it and set a new re-run annotation, "
        "or give the DataCube another name"
    )


def _is_of_predecessor(obj: Object, plan: TransferPlan) -> bool:
    """Whether a DataCube owns it that had the same name, and so is gone."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return any(o.get("kind") == "DataCube" and o.get("name") == plan.name and o.get("controller") for o in owners)


def _is_going(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def _owners(obj: Object) -> list[str]:
    return [owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()]


def _label(obj: Object, name: str) -> str:
    return str((obj["metadata"].get("labels") or {}).get(name, ""))


def _annotation(obj: Object, name: str) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(name, ""))
