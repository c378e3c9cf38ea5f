"""The task `apply_and_wait`: a DataCube as a step of a Prefect flow, done by the operator of a cluster.

What it is given is stored nowhere: a task's parameters stay in the process, its result is not persisted, and nothing is
cached. (Parameters of a flow are stored: a DataCube with a secret written out in it is no parameter for one.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from anyio.from_thread import start_blocking_portal
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from datacube_flows.api.datacube import DataCube
from datacube_flows.cluster.connection import Place, find_place
from datacube_flows.pipelines.applied import Order, carry_out
from datacube_flows.pipelines.documents import CubeLike, read_cube
from datacube_flows.pipelines.results import TransferResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefect.tasks import TaskRunNameCallbackWithParameters

T = TypeVar("T")

NAME: Final = "apply_and_wait"
LOOK_SECONDS: Final = 0.5
"""Prefect ends a task in another thread by an exception that is raised there once Python regains control."""


def _run_name(parameters: dict[str, Any]) -> str:
    """Names a task run after its DataCube, as far as that is seen without reading a file."""
    cube = parameters.get("cube")
    if isinstance(cube, DataCube):
        return f"{NAME} {cube.metadata.name}"
    if isinstance(cube, Mapping) and isinstance(cube.get("metadata"), Mapping):
        return f"{NAME} {cube['metadata'].get('name', '')}".rstrip()
    return f"{NAME} {cube.stem}" if isinstance(cube, Path) else NAME


_RUN_NAME: Final = cast("TaskRunNameCallbackWithParameters", _run_name)
"""The protocol has a method of Prefect's own beside the call; a function is what Prefect calls."""


@task(name=NAME, task_run_name=_RUN_NAME, persist_result=False, cache_policy=NO_CACHE)
def apply_and_wait(
    cube: CubeLike,
    *,
    keep: bool = True,
    rerun: str = "",
    timeout: float | None = None,
    place: Place | None = None,
) -> TransferResult:
    """Has a DataCube applied to a cluster, waits for its end, and returns what was moved.

    One that is there already and is the same transfer is not begun again: its end is waited for, or is there.

    Args:
        cube: the DataCube: a model, an object, YAML or JSON, or the file of one.
        keep: whether the DataCube stays after its end. One that does not is deleted also when it fails, when it takes
            too long, and when the task is cancelled: its transfer then ends. Claim and data stay in any case.
        rerun: a value of the re-run annotation; any new one, such as the flow run's id, runs a DataCube again that is
            there already.
        timeout: seconds to wait; None is for as long as it takes.
        place: the cluster; None is that of KUBECONFIG, of `~/.kube/config`, or that of this pod.

    Raises:
        TransferFailed: the DataCube has failed; carries the typed reason.
        InvalidDataCube: the document breaks rules.
        ClusterError: the cluster does not do what was asked, or not in time.
    """
    order, logger = _order(cube, keep=keep, rerun=rerun, timeout=timeout, place=place), get_run_logger()
    return run_here(lambda: carry_out(order, logger))


@task(name=NAME, task_run_name=_RUN_NAME, persist_result=False, cache_policy=NO_CACHE)
async def apply_and_wait_async(
    cube: CubeLike,
    *,
    keep: bool = True,
    rerun: str = "",
    timeout: float | None = None,
    place: Place | None = None,
) -> TransferResult:
    """The same as `apply_and_wait`, for an async flow."""
    order = _order(cube, keep=keep, rerun=rerun, timeout=timeout, place=place)
    return await carry_out(order, get_run_logger())


def _order(cube: CubeLike, *, keep: bool, rerun: str, timeout: float | None, place: Place | None) -> Order:
    given = read_cube(cube).run_again(rerun)
    home = Path(os.path.expanduser("~"))  # unlike Path.home(), no error for a user that has none, as in a pod
    return Order(given, place or find_place(os.environ, home), is_kept=keep, timeout=timeout)


def run_here(make: Callable[[], Awaitable[T]]) -> T:
    """Does some async work in a thread of its own, while this one waits; what interrupts this one cancels the work."""
    with start_blocking_portal() as portal:
        future = portal.start_task_soon(make)
        while True:
            try:
                return future.result(LOOK_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
