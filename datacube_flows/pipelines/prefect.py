"""What a Prefect flow imports. For a flow that is synchronous, and, with names of their own, for one that is not."""

from datacube_flows.cluster.connection import Place
from datacube_flows.cluster.errors import ClusterError, CubeGone, NameTaken, WaitTimeout
from datacube_flows.pipelines.prefect_tasks import apply_and_wait, apply_and_wait_async
from datacube_flows.pipelines.prefect_transfer import transfer, transfer_async
from datacube_flows.pipelines.results import TransferFailed, TransferResult
from datacube_flows.pipelines.targets import InCluster, ThisMachine

__all__ = [
    "ClusterError",
    "CubeGone",
    "InCluster",
    "NameTaken",
    "Place",
    "ThisMachine",
    "TransferFailed",
    "TransferResult",
    "WaitTimeout",
    "apply_and_wait",
    "apply_and_wait_async",
    "transfer",
    "transfer_async",
]
