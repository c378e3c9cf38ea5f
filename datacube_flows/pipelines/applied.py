"""A DataCube applied from a pipeline, waited for, and kept or deleted afterwards. Knows no workflow engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datacube_flows.cluster.client import Client
from datacube_flows.cluster.connection import connect
from datacube_flows.cluster.cubes import Listener, apply_cube, delete_cube, wait_for_cube
from datacube_flows.cluster.errors import ClusterError
from datacube_flows.cluster.patience import Patience, see_through
from datacube_flows.cluster.refusals import explain
from datacube_flows.pipelines.narrator import Narrator
from datacube_flows.pipelines.results import result_of

if TYPE_CHECKING:
    import logging

    from datacube_flows.api.status import DataCubeStatus
    from datacube_flows.cluster.connection import Place
    from datacube_flows.cluster.cubes import AppliedCube
    from datacube_flows.cluster.errors import ApiError
    from datacube_flows.pipelines.documents import Given
    from datacube_flows.pipelines.results import TransferResult

    Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

MANAGER: Final = "datacube-flows"
"""Whose fields a DataCube's are that a pipeline applied; the operator's own writes go under another name."""

ENDING: Final = Patience(seconds=10.0)
"""With an API server that is away when a DataCube is to be deleted: somebody waits for the end."""


@dataclass(frozen=True)
class Order:
    """What a pipeline asks for.

    Attributes:
        given: the DataCube.
        place: the cluster.
        is_kept: whether it stays after its end; one that does not is deleted however the waiting ends.
        timeout: seconds; None is for as long as it takes.
    """

    given: Given
    place: Place
    is_kept: bool = True
    timeout: float | None = None


async def carry_out(order: Order, logger: Logger) -> TransferResult:
    """Has a DataCube applied, waits for its end, and returns its result.

    Raises:
        TransferFailed: it has failed.
        ClusterError: the cluster did not do what was asked, or not in time.
    """
    async with connect(order.place) as connection:
        client = Client(connection.api, manager=MANAGER)
        return await _Course(order, client, order.given.namespace(connection.namespace), logger).run()


class _Course:
    """How an order goes."""

    def __init__(self, order: Order, client: Client, namespace: str, logger: Logger) -> None:
        self._order, self._client, self._namespace, self._logger = order, client, namespace, logger
        self._narrator = Narrator()
        self._applied: AppliedCube | None = None

    async def run(self) -> TransferResult:
        """Applies, waits, and deletes where the DataCube is not to be kept."""
        try:
            cube = await see_through(self._apply())
            listener = Listener(status=self._tell, trouble=self._warn)
            status = await wait_for_cube(self._client, cube, listener=listener, timeout=self._order.timeout)
            return result_of(str(cube), self._order.given.claim, status)
        finally:
            if self._applied is not None and not self._order.is_kept:
                await see_through(self._delete(self._applied))

    async def _apply(self) -> AppliedCube:
        for kind in self._order.given.passed_over:
            self._logger.warning("passed over a document of kind %s: apply it yourself", kind)
        self._applied = await apply_cube(self._client, self._order.given.cube, self._namespace, patience=ENDING)
        self._logger.info("DataCube '%s' is applied", self._applied)
        return self._applied

    async def _delete(self, cube: AppliedCube) -> None:
        """Deletes the DataCube; that this cannot be done makes no other end of what was waited for."""
        try:
            await delete_cube(self._client, cube, patience=ENDING)
        except ClusterError as error:
            self._logger.warning("%s", error)
        else:
            self._logger.info("DataCube '%s' is deleted; its claim and data stay", cube)

    def _tell(self, status: DataCubeStatus) -> None:
        for line in self._narrator.lines(status):
            self._logger.info("%s", line)

    def _warn(self, error: ApiError) -> None:
        for line in self._narrator.trouble(explain(error)):
            self._logger.warning("%s; it goes on when it answers", line)
