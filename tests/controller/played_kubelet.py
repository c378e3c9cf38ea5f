"""Plays the kubelet before an API server that has none: pods run as a script says, and end when they are deleted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.errors import Conflict, NotFound
from datacube_operator.resource import PODS

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import TransferReport
from datacube_flows.core import labels
from datacube_flows.core.retry import EXIT_TERMINATED, exit_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datacube_operator.client import Client
    from datacube_operator.informer import Informer
    from kubernetes.aio.client import ApiClient

Object = dict[str, Any]

NODE: Final = "played-node"
ENDED: Final = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Attempt:
    """How an attempt goes.

    Attributes:
        code: with which it ends.
        message: its termination message.
        seconds: how long it runs.
        gate: it does not end before this is set.
        pod_reason: `status.reason` of the pod, where the node ended it.
        waiting: reason and message of a container that cannot start; it waits until `gate` is set, and then starts.
        outputs: what Argo finds in its outputs folder.
    """

    code: int = 0
    message: str = ""
    seconds: float = 0.0
    gate: asyncio.Event | None = None
    pod_reason: str = ""
    waiting: tuple[str, str] | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)

    def release(self) -> None:
        """Lets it go on."""
        assert self.gate is not None
        self.gate.set()


def succeed(reason: Reason = Reason.TRANSFER_COMPLETE, *, seconds: float = 0.0, hold: bool = False) -> Attempt:
    """Returns an attempt that ends well."""
    report = TransferReport(reason=reason, listed=3, files=3, bytes=4096, verified="checksum", path="data/set")
    outputs = {"path": report.path, "revision": "", "files": "3", "bytes": "4096"}
    return Attempt(0, report.render(), seconds, asyncio.Event() if hold else None, outputs=outputs)


def fail(reason: Reason, message: str = "as the test says", *, seconds: float = 0.0) -> Attempt:
    """Returns an attempt that fails for a reason, with the code of its class."""
    return Attempt(exit_code(reason), TransferReport(reason=reason, message=message).render(), seconds)


def crash(code: int, message: str = "") -> Attempt:
    """Returns an attempt that ends with a code and leaves no report."""
    return Attempt(code, message)


def hang() -> Attempt:
    """Returns an attempt that runs until it is ended or released; released, it ends well."""
    return succeed(hold=True)


def wait_for_image() -> Attempt:
    """Returns an attempt whose image is not there until it is released."""
    waiting = ("ImagePullBackOff", 'Back-off pulling image "datacube.test/transfer:1"')
    made = succeed()
    return Attempt(made.code, made.message, gate=asyncio.Event(), waiting=waiting, outputs=made.outputs)


class PlayedKubelet:
    """Runs pods on its node; binds those to it that nobody has bound, as the scheduler does.

    Args:
        client: the administrator's.
        api: for what `Client` does not offer: a deletion without grace.
        pods: all pods of DataCubes.
    """

    def __init__(self, client: Client, api: ApiClient, pods: Informer) -> None:
        self._client, self._api, self._pods = client, api, pods
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.scripts: dict[str, Sequence[Attempt]] = {}
        """`namespace/DataCube` -> its attempts; the last one is repeated. A DataCube that is not here succeeds."""
        pods.subscribe(self._look)

    def script_of(self, pod: Object) -> Attempt:
        """Returns how the attempt goes that a pod is."""
        about = pod["metadata"]
        if about["labels"].get(labels.STEP) != labels.TRANSFER:
            return Attempt()
        script = self.scripts.get(f"{about['namespace']}/{about['labels'].get(labels.NAME)}", (succeed(),))
        return script[min(int(about["labels"].get(labels.ATTEMPT, 1)), len(script)) - 1]

    async def close(self) -> None:
        """Stops playing."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def terminate(self, pod: Object) -> None:
        """Ends the container of a pod as a signal does, if it runs."""
        about = pod["metadata"]
        task = self._tasks.get(about["uid"])
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        now = self._pods.store.get(f"{about['namespace']}/{about['name']}")
        if now is not None and now["status"].get("phase") not in ENDED:
            await self._show(now, _ended(now, EXIT_TERMINATED, ""))

    def _look(self, key: str) -> None:
        pod = self._pods.store.get(key)
        if pod is None:
            return
        uid, is_deleted = pod["metadata"]["uid"], "deletionTimestamp" in pod["metadata"]
        name = f"{uid}-end" if is_deleted else uid
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(self._end(pod) if is_deleted else self._run(pod))

    async def _run(self, pod: Object) -> None:
        script = self.script_of(pod)
        with suppress(NotFound):
            if not pod["spec"].get("nodeName"):
                await bind(self._api, PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"]))
            if script.waiting is not None:
                await self._show(pod, _pending(pod, script.waiting))
                await _opened(script.gate)
            await self._show(pod, _running(pod))
            await asyncio.sleep(script.seconds)
            await _opened(script.gate)
            await self._show(pod, _ended(pod, script.code, script.message, script.pod_reason))

    async def _end(self, pod: Object) -> None:
        """Ends what runs, says so, and lets the object go."""
        with suppress(NotFound, Conflict):
            await self.terminate(pod)
            await delete_now(self._api, PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"]))

    async def _show(self, pod: Object, status: Object) -> None:
        about = pod["metadata"]
        body = {"metadata": {"uid": about["uid"]}, "status": status}  # a pod of the same name is another one
        await self._client.patch(PODS, about["namespace"], about["name"], body, subresource="status")


async def _opened(gate: asyncio.Event | None) -> None:
    if gate is not None:
        await gate.wait()


async def delete_now(api: ApiClient, path: str) -> None:
    """Deletes a pod without grace, as the kubelet does in the end."""
    await _ask(api, "DELETE", path, {"gracePeriodSeconds": 0})


async def bind(api: ApiClient, path: str) -> None:
    """Binds a pod to the node, without which a deletion has no grace; one that is gone by now is left alone."""
    target = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": path.rpartition("/")[2]}}
    await _ask(api, "POST", f"{path}/binding", target | {"target": {"kind": "Node", "name": NODE}})


async def _ask(api: ApiClient, method: str, path: str, body: Object) -> None:
    url = api.configuration.host + path
    answer = await api.rest_client.request(method, url, body=body, headers={"Content-Type": "application/json"})
    async with answer.response:
        await answer.response.read()


def moment() -> str:
    """Returns the time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _container(pod: Object, state: Object) -> Object:
    image = pod["spec"]["containers"][0]["image"]
    is_ready = "running" in state
    return {"name": "main", "image": image, "imageID": "", "ready": is_ready, "restartCount": 0, "state": state}


def _pending(pod: Object, waiting: tuple[str, str]) -> Object:
    reason, message = waiting
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "startTime": moment(), "containerStatuses": [_container(pod, state)]}


def _running(pod: Object) -> Object:
    state = {"running": {"startedAt": moment()}}
    return {"phase": "Running", "startTime": moment(), "containerStatuses": [_container(pod, state)]}


def _ended(pod: Object, code: int, message: str, pod_reason: str = "") -> Object:
    now = moment()
    ended = {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "message": message,
        "startedAt": now,
        "finishedAt": now,
    }
    status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [_container(pod, {"terminated": ended})]}
    return status | ({"reason": pod_reason} if pod_reason else {})
