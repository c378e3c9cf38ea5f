"""The one place that writes status, and what was written last: a cache may show an older one for a moment."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.datacube import API_VERSION, KIND
from datacube_operator.cube import Cube, read_status
from datacube_operator.errors import Conflict, NotFound, OperatorError
from datacube_operator.resource import DATACUBES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datacube_flows.api.status import DataCubeStatus
    from datacube_operator.client import Client

    Object = dict[str, Any]


TRIES: Final = 4
"""How often a status is written anew where somebody changes the DataCube meanwhile, before it is decided anew."""

GONE: Final = "the DataCube {key} is gone, or another than it was"


class CubeGone(OperatorError):
    """A DataCube is gone, another has its name, or it has changed since it was looked at."""


@dataclass(frozen=True)
class _Written:
    version: int
    status: DataCubeStatus


class StatusBook:
    """Reads and writes the status of DataCubes.

    Args:
        client: writes; its fence holds.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._written: dict[str, _Written] = {}
        self._taking: set[str] = set()

    @property
    def taking(self) -> frozenset[str]:
        """Uids of those whose first status of a run is on its way to the API server."""
        return frozenset(self._taking)

    def read(self, document: Object) -> Cube:
        """Returns the DataCube with the newer of the status in the document and the one that was written last."""
        uid = document["metadata"]["uid"]
        written = self._written.get(uid)
        if written is not None and written.version > _version(document):
            return Cube(document, written.status)
        self._written.pop(uid, None)
        return Cube(document, read_status(document))

    async def write(self, cube: Cube, status: DataCubeStatus) -> Cube:
        """Has the status as it should be, and returns the DataCube with it; asks nobody where nothing changed.

        It is written over the newest version that is known, since a uid that goes along is not looked at (the status
        of a custom resource keeps the metadata that is there). Where that is no longer the newest, a user may have
        changed the DataCube, and the status is written all the same; but nothing is written over another DataCube that
        has taken the name, and no path is taken: a cache that is behind, as after a restart, must not begin a run that
        others saw end.

        Raises:
            CubeGone: it is gone, or no longer what this was decided from.
        """
        generation = max(cube.generation, cube.status.observed_generation or 0)  # a cache may be behind
        status = status.model_copy(update={"observed_generation": generation or None})
        wire = status.to_wire()
        if wire == cube.status.to_wire():
            return cube
        answer = await self._apply(cube, wire)
        self._written[cube.uid] = _Written(_version(answer), status)
        return Cube(cube.document, status)

    async def _apply(self, cube: Cube, wire: Object) -> Object:
        version = self.latest(cube)
        for _ in range(TRIES):
            metadata = {"namespace": cube.namespace, "name": cube.name, "resourceVersion": version}
            body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": wire}
            try:
                return await self._client.apply(DATACUBES, cube.namespace, body, subresource="status")
            except NotFound as error:
                raise CubeGone(GONE.format(key=cube.key)) from error
            except Conflict as error:
                if cube.uid in self._taking:
                    raise CubeGone(GONE.format(key=cube.key)) from error
                version = await self._look(cube)
        raise CubeGone(GONE.format(key=cube.key))

    async def _look(self, cube: Cube) -> str:
        """Returns the version that a DataCube has now.

        Raises:
            CubeGone: it is gone.
        """
        try:
            there = await self._client.get(DATACUBES, cube.namespace, cube.name)
        except NotFound as error:
            raise CubeGone(GONE.format(key=cube.key)) from error
        if there["metadata"]["uid"] != cube.uid:
            raise CubeGone(GONE.format(key=cube.key))
        return str(there["metadata"]["resourceVersion"])

    @contextmanager
    def take(self, cube: Cube) -> Iterator[None]:
        """Has everybody else know, while the block writes it, that a DataCube takes its path; see `write`."""
        self._taking.add(cube.uid)
        try:
            yield
        finally:
            self._taking.discard(cube.uid)

    def forget(self, uid: str) -> None:
        """Forgets a DataCube that is gone."""
        self._written.pop(uid, None)

    def latest(self, cube: Cube) -> str:
        """Returns the newest resourceVersion that is known of a DataCube."""
        written = self._written.get(cube.uid)
        return str(max(_version(cube.document), written.version if written else 0))


def _version(document: Object) -> int:
    """The resourceVersion, which grows with every change of an object (KEP-5504 has made that a promise)."""
    version = str(document["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0
