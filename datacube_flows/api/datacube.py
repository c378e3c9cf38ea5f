"""Models of a DataCube document (SPEC section 1): frozen, unknown fields refused, null and empty treated as absent.

Field descriptions are written once, here; they reach the CRD (`kubectl explain`) and the docs. Rules that join two
fields are in `core/rules.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from datacube_flows.api.corev1 import (
    Affinity,
    EnvVar,
    LocalObjectReference,
    PersistentVolumeClaimTemplate,
    PodSecurityContext,
    Quantity,
    ResourceRequirements,
    Toleration,
    WireModel,
)
from datacube_flows.api.ends import EndType

GROUP = "tensorstack.dev"
VERSION = "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DataCube"

MAX_OPTIONS = 64
MAX_ENV = 64
MAX_EXTRA_ARGS = 64


def _absent_is_empty(value: Any) -> Any:
    return () if value is None else value


EnvList = Annotated[tuple[EnvVar, ...], BeforeValidator(_absent_is_empty)]
ArgList = Annotated[
    tuple[Annotated[str, Field(max_length=1024)], ...],
    BeforeValidator(_absent_is_empty),
]


class PVCReference(WireModel):
    """The claim that is one end of the transfer."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the PersistentVolumeClaim.")]
    sub_path: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="Path inside the volume; absent: its root. A download makes it, an upload needs it to exist.",
        ),
    ] = None
    template: Annotated[
        PersistentVolumeClaimTemplate | None,
        Field(description="The claim to create when a download finds none; an existing claim is never touched."),
    ] = None


class DataReference(WireModel):
    """One end of the transfer: a claim, or a store with its options."""

    type: Annotated[EndType, Field(description="What this end is.")]
    options: Annotated[
        EnvList,
        Field(max_length=MAX_OPTIONS, description="Options of a store; each becomes an environment variable."),
    ] = ()
    pvc: Annotated[PVCReference | None, Field(description="The claim, when type is pvc.")] = None


class ExecutorOptions(WireModel):
    """How often, how long and in which manner the transfer runs."""

    backoff_limit: Annotated[int, Field(ge=0, le=1_000_000, description="Retries after the first failed attempt.")] = 0
    active_deadline_seconds: Annotated[
        int | None, Field(ge=1, le=2_147_483_647, description="Seconds that one attempt may take; absent: no limit.")
    ] = None
    sync: Annotated[
        bool | None,
        Field(description="S3 download only: also delete files below subPath that the source lacks."),
    ] = None
    extra_args: Annotated[
        ArgList,
        Field(
            max_length=MAX_EXTRA_ARGS,
            description="Arguments for git, hf or rclone, which then does the work instead of the built-in engine.",
        ),
    ] = ()
    verify: Annotated[
        Literal["checksum", "size", "none"] | None,
        Field(description="How the result is checked before success is reported; absent: checksum."),
    ] = None
    stall_timeout_seconds: Annotated[
        int | None,
        Field(ge=1, le=2_147_483_647, description="End an attempt that moved no byte for so many seconds."),
    ] = None
    max_delete: Annotated[
        int | None, Field(ge=0, le=2_147_483_647, description="Files that a sync may delete; absent: no limit.")
    ] = None
    dry_run: Annotated[bool | None, Field(description="Fill status.plan and move nothing.")] = None
    bandwidth_limit: Annotated[Quantity | None, Field(description="Bytes per second, such as 50M or 10Mi.")] = None


class Executor(WireModel):
    """How the transfer is executed."""

    options: Annotated[ExecutorOptions | None, Field(description="Retries, deadline and manner.")] = None
    env: Annotated[
        EnvList, Field(max_length=MAX_ENV, description="Environment of the transfer, for instance HTTPS_PROXY.")
    ] = ()
    security_context: Annotated[
        PodSecurityContext | None, Field(description="Merged field by field over the restricted default.")
    ] = None
    resources: Annotated[ResourceRequirements | None, Field(description="Resources of the transfer's container.")] = (
        None
    )
    node_selector: Annotated[dict[str, str] | None, Field(max_length=64, description="Labels a node must have.")] = None
    tolerations: Annotated[
        tuple[Toleration, ...], BeforeValidator(_absent_is_empty), Field(max_length=64, description="Taints tolerated.")
    ] = ()
    affinity: Annotated[Affinity | None, Field(description="Where the pod prefers or has to run.")] = None
    priority_class_name: Annotated[str | None, Field(max_length=253, description="PriorityClass of the pod.")] = None
    service_account_name: Annotated[
        str | None, Field(max_length=253, description="Identity of the pod, for instance for IRSA.")
    ] = None
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...],
        BeforeValidator(_absent_is_empty),
        Field(max_length=16, description="Secrets for pulling the image."),
    ] = ()
    engine: Annotated[
        Literal["argo", "prefect"] | None, Field(description="Workflow engine; absent: the operator's default.")
    ] = None


class DataCubeSpec(WireModel):
    """One transfer between a claim and a store."""

    source: Annotated[DataReference, Field(description="Where the data is.")]
    sink: Annotated[DataReference, Field(description="Where the data goes.")]
    executor: Annotated[Executor | None, Field(description="How the transfer runs.")] = None
    suspend: Annotated[bool | None, Field(description="Hold the transfer: no attempt runs while this is true.")] = None
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(ge=0, le=2_147_483_647, description="Delete the DataCube so many seconds after its end."),
    ] = None


class ObjectMeta(WireModel, extra="ignore"):
    """The part of Kubernetes' metadata that DataCube reads."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class DataCube(WireModel):
    """A DataCube document; `status` is read by other models and kept out of this one."""

    api_version: Literal["tensorstack.dev/v1beta1"]
    kind: Literal["DataCube"]
    metadata: ObjectMeta
    spec: DataCubeSpec
    status: dict[str, Any] | None = None
