"""When the API told what, on one clock: objects hold whole seconds only, and those of several machines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.resource import DATACUBES, PODS, WORKFLOWS

from datacube_flows.core import labels
from datacube_flows.core.manifests import CONTAINER
from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from datacube_operator.client import Client
    from datacube_operator.resource import Resource

Object = dict[str, Any]
Marks = Callable[[Object], Iterable[str]]

WORKFLOW: Final = "workflow"
POD: Final = "pod"
MAIN_ENDED: Final = "main ended"
WORKFLOW_SUCCEEDED: Final = "workflow succeeded"
COMPLETE: Final = "complete"
WATCH_SECONDS: Final = 3600.0


def now() -> float:
    """Returns the clock that arrivals are told by."""
    return time.monotonic()


class Arrivals:
    """When each thing was first told of each subject, which is what an object's label `datacube/name` says.

    Args:
        client: watches.
        namespace: what is looked at.
    """

    def __init__(self, client: Client, namespace: str) -> None:
        self._client, self._namespace = client, namespace
        self._times: dict[tuple[str, str], float] = {}
        self._news = asyncio.Condition()

    async def run(self) -> None:
        """Watches until cancelled."""
        async with asyncio.TaskGroup() as group:
            for resource, marks in MARKS.items():
                group.create_task(self._watch(resource, marks))

    async def of(self, mark: str, subject: str, seconds: float = 120.0) -> float:
        """Returns when something was first told, once it is.

        Raises:
            ClusterError: It is not in so many seconds.
        """
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: (mark, subject) in self._times)
        except TimeoutError as error:
            raise ClusterError(f"'{mark}' of '{subject}' is not told in {seconds:.0f} s") from error
        return self._times[mark, subject]

    async def _watch(self, resource: Resource, marks: Marks) -> None:
        version = (await self._client.list(resource, self._namespace)).version
        events = self._client.watch(
            resource, self._namespace, version=version, seconds=WATCH_SECONDS, idle_seconds=WATCH_SECONDS
        )
        async for event in events:
            arrived = now()
            if event.type in {"ADDED", "MODIFIED"}:
                await self._take(arrived, event.object, marks)
        raise ClusterError(f"the watch of {resource} has ended")

    async def _take(self, arrived: float, obj: Object, marks: Marks) -> None:
        subject = subject_of(obj)
        async with self._news:
            for mark in marks(obj):
                self._times.setdefault((mark, subject), arrived)
            self._news.notify_all()


def subject_of(obj: Object) -> str:
    """Returns whose an object is: what its label says, or its own name."""
    about = obj["metadata"]
    return str((about.get("labels") or {}).get(labels.NAME) or about["name"])


def _pod_marks(pod: Object) -> Iterable[str]:
    yield POD
    states = (pod.get("status") or {}).get("containerStatuses") or ()
    if any(state["name"] == CONTAINER and "terminated" in state["state"] for state in states):
        yield MAIN_ENDED


def _workflow_marks(workflow: Object) -> Iterable[str]:
    yield WORKFLOW
    if (workflow.get("status") or {}).get("phase") == "Succeeded":
        yield WORKFLOW_SUCCEEDED


def _cube_marks(cube: Object) -> Iterable[str]:
    conditions = (cube.get("status") or {}).get("conditions") or ()
    if any(c["type"] == "Complete" and c["status"] == "True" for c in conditions):
        yield COMPLETE


MARKS: Final[dict[Resource, Marks]] = {PODS: _pod_marks, WORKFLOWS: _workflow_marks, DATACUBES: _cube_marks}
