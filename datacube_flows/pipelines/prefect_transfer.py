"""The subflow `transfer`: a DataCube moved by a Prefect flow of the user's own, with no operator.

It is the very flow that the operator runs. Its parameters, which Prefect stores, name what is moved and hold no
credential: the document and its Secrets stay in this process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import tags

from datacube_flows.engines.prefect_flow import WORK
from datacube_flows.engines.prefect_flow import transfer as flow
from datacube_flows.engines.prefect_view import run_parameters, run_tags, run_title
from datacube_flows.pipelines.documents import read_cube
from datacube_flows.pipelines.prefect_tasks import run_here

if TYPE_CHECKING:
    from datacube_flows.pipelines.documents import CubeLike
    from datacube_flows.pipelines.results import TransferResult
    from datacube_flows.pipelines.targets import InCluster, TargetWork, ThisMachine


def transfer(cube: CubeLike, *, on: ThisMachine | InCluster) -> TransferResult:
    """Moves a DataCube's data, as a subflow of the flow that calls; outside of any flow it is one of its own.

    Args:
        cube: the DataCube: a model, an object, YAML or JSON, or the file of one.
        on: where its attempts run.

    Raises:
        TransferFailed: the transfer has failed, or could not begin; carries the typed reason.
        InvalidDataCube: the document breaks rules.
        ClusterError: the cluster cannot be reached, or does not do what was asked.
    """
    return run_here(lambda: transfer_async(cube, on=on))


async def transfer_async(cube: CubeLike, *, on: ThisMachine | InCluster) -> TransferResult:
    """The same as `transfer`, for an async flow."""
    async with on.work(read_cube(cube)) as work:
        await _run(work)
        return work.result()


async def _run(work: TargetWork) -> None:
    plan, before = work.plan, WORK.set(work)
    try:
        with tags(*run_tags(plan)):
            made = flow.with_options(flow_run_name=run_title(plan))(**run_parameters(plan), return_state=True)
            state = await made
    finally:
        WORK.reset(before)
    if not work.is_over:
        await state.aresult()  # raises what Prefect, and not the transfer, failed for
