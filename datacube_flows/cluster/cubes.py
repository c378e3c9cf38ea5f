"""DataCubes in a cluster: applied, waited for, deleted. The operator does what they ask for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datacube_flows.api.datacube import API_VERSION, KIND
from datacube_flows.api.status import DataCubeStatus
from datacube_flows.cluster.errors import Conflict, CubeGone, NameTaken, NotFound, WaitTimeout
from datacube_flows.cluster.follow import Follower, Sight
from datacube_flows.cluster.patience import Patience, insist
from datacube_flows.cluster.refusals import told_to_a_person
from datacube_flows.cluster.resource import DATACUBES
from datacube_flows.cluster.run_end import is_run_over, read_status, rerun_of
from datacube_flows.cluster.sameness import differences
from datacube_flows.core.plan import run_id
from datacube_flows.words import outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_flows.api.datacube import DataCube
    from datacube_flows.cluster.client import Client, Object
    from datacube_flows.cluster.errors import ApiError

PATIENCE = Patience()


@dataclass(frozen=True)
class AppliedCube:
    """A DataCube that is in a cluster, and its run that is meant.

    Attributes:
        uid: tells it apart from another that has its name later.
        run_id: of the run that it asked for when it was applied.
    """

    namespace: str
    name: str
    uid: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Listener:
    """Who is told while a DataCube is waited for.

    Attributes:
        status: is called with each status that is another than the last.
        trouble: is called with each failure of the API server that is put up with.
    """

    status: Callable[[DataCubeStatus], object] = lambda _status: None
    trouble: Callable[[ApiError], object] = lambda _error: None


async def apply_cube(client: Client, cube: DataCube, namespace: str, *, patience: Patience = PATIENCE) -> AppliedCube:
    """Has a DataCube in a namespace as a document describes it; what is there and the same stays, its run included.

    Labels, annotations, `suspend` and `ttlSecondsAfterFinished` become what the document says, whoever wrote them.

    Raises:
        NameTaken: there is a DataCube of that name that is another transfer; nothing was written.
        Refused: the cluster does not take it.
    """
    name = cube.metadata.name
    with told_to_a_person(f"apply DataCube '{namespace}/{name}'"):
        with suppress(NotFound):
            _require_same(cube, await insist(lambda: client.get(DATACUBES, namespace, name), patience))
        body = make_document(cube, namespace)
        made = await insist(lambda: client.apply(DATACUBES, namespace, body), patience)
    _require_same(cube, made)  # somebody else may have been quicker by a moment
    uid = str(made["metadata"]["uid"])
    return AppliedCube(namespace, name, uid, run_id(uid, rerun_of(made)))


async def wait_for_cube(
    client: Client,
    cube: AppliedCube,
    *,
    listener: Listener | None = None,
    timeout: float | None = None,
    patience: Patience = PATIENCE,
) -> DataCubeStatus:
    """Waits for the end of a DataCube's run, and returns the status then: Succeeded or Failed.

    An API server that is not to be had is waited for.

    Args:
        client: asks.
        cube: the DataCube, and its run that is meant; a later run's end is taken for it, too.
        listener: is told meanwhile.
        timeout: seconds; None is for as long as it takes.
        patience: with what goes wrong.

    Raises:
        CubeGone: the DataCube was deleted before its end, or another has its name.
        WaitTimeout: it did not end in time.
        Refused: the cluster does not let it be watched.
    """
    wait = _Wait(cube, listener or Listener())
    follower = Follower(
        client, DATACUBES, cube.namespace, cube.name, patience=patience, on_trouble=wait.listener.trouble
    )
    try:
        async with asyncio.timeout(timeout) as limit:
            with told_to_a_person(f"wait for DataCube '{cube}'"):
                return await wait.end_among(follower)
    except TimeoutError:
        if not limit.expired():
            raise
        text = f"DataCube '{cube}' was {_stand(wait.status)} after {timeout:g} s: it goes on; wait longer, or delete it"
        raise WaitTimeout(text) from None


async def delete_cube(client: Client, cube: AppliedCube, *, patience: Patience = PATIENCE) -> None:
    """Has a DataCube deleted, and no other that has its name; its transfer ends, its claim and data stay.

    Raises:
        Refused: the cluster does not let it be deleted.
    """
    with told_to_a_person(f"delete DataCube '{cube}'"), suppress(NotFound, Conflict):
        await insist(lambda: client.delete(DATACUBES, cube.namespace, cube.name, uid=cube.uid), patience)


def make_document(cube: DataCube, namespace: str) -> Object:
    """Returns what is sent of a DataCube: what its document says, and nothing that the server adds to one."""
    meta = cube.metadata
    about: dict[str, Any] = {"name": meta.name, "namespace": namespace}
    about |= {"labels": meta.labels} if meta.labels else {}
    about |= {"annotations": meta.annotations} if meta.annotations else {}
    spec = cube.spec.model_dump(by_alias=True, exclude_unset=True, exclude_none=True, mode="json")
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": about, "spec": spec}


def _stand(status: DataCubeStatus) -> str:
    """How a DataCube stands that did not end in time."""
    if status.phase is None:
        return "not looked at by any operator"
    said = ": ".join(part for part in outcome(status) if part)
    return f"{status.phase} ({said})" if said else str(status.phase)


def _require_same(cube: DataCube, there: Object) -> None:
    if found := differences(cube, there):
        about = there["metadata"]
        name = f"{about['namespace']}/{about['name']}"
        raise NameTaken(
            f"DataCube '{name}' exists and is another transfer (it differs in {', '.join(found)}), "
            "which cannot be changed: delete it first, or give yours another name"
        )


class _Wait:
    """What is known of a DataCube that is waited for."""

    def __init__(self, cube: AppliedCube, listener: Listener) -> None:
        self.cube, self.listener, self.status = cube, listener, DataCubeStatus()

    async def end_among(self, follower: Follower) -> DataCubeStatus:
        """Returns the first status among what is seen that is an end."""
        async with aclosing(follower.sights()) as sights:
            async for sight in sights:
                if self._is_end(sight):
                    return self.status
        raise AssertionError("a follower ends with an object that is gone")

    def _is_end(self, sight: Sight) -> bool:
        """Whether it has ended; also one that is deleted at once after its end, as `ttlSecondsAfterFinished` has it."""
        found = sight.object
        if found is None:
            raise self._gone("was deleted before its end was seen")
        if found["metadata"]["uid"] != self.cube.uid:
            raise self._gone("was deleted, and there is another of its name")
        status = read_status(found)
        if status != self.status:
            self.status = status
            self.listener.status(status)
        if is_run_over(found, status, wanted=self.cube.run_id):
            return True
        if sight.is_gone or found["metadata"].get("deletionTimestamp"):
            raise self._gone("was deleted before its end")
        return False

    def _gone(self, what: str) -> CubeGone:
        return CubeGone(f"DataCube '{self.cube}' {what}: apply it again to have it run")
