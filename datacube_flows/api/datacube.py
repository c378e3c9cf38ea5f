"""Models of a DataCube document (SPEC section 1): frozen, unknown fields refused, null and empty treated as absent.

Field descriptions are written once, here; they reach the CRD (`kubectl explain`) and the docs. Rules that join two
fields are in `core/rules.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from datacube_flows.api.corev1 import (
    Affinity,
    EnvVar,
    LocalObjectReference,
    PersistentVolumeClaimTemplate,
    PodSecurityContext,
    ResourceRequirements,
    Toleration,
)
from datacube_flows.api.ends import EndType
from datacube_flows.api.wire import (
    ATOMIC,
    BY_NAME,
    ONCE_EACH,
    Bool,
    Int,
    Int32,
    Labels,
    Name,
    Quantity,
    Text,
    WireModel,
    without_nulls,
)

GROUP = "tensorstack.dev"
VERSION = "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DataCube"

MAX_OPTIONS = 16
"""Above what any kind has; the cost of rules over options grows with it."""

MAX_ENV = 64
MAX_EXTRA_ARGS = 64


class PVCReference(WireModel):
    """The claim that is one end of the transfer."""

    name: Annotated[Name, Field(description="Name of the PersistentVolumeClaim.")]
    sub_path: Annotated[
        Text | None,
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
        tuple[EnvVar, ...],
        Field(
            max_length=MAX_OPTIONS,
            description="Options of a store; each becomes an environment variable.",
            json_schema_extra=BY_NAME,
        ),
    ] = ()
    pvc: Annotated[PVCReference | None, Field(description="The claim, when type is pvc.")] = None


class ExecutorOptions(WireModel):
    """How often, how long and in which manner the transfer runs."""

    backoff_limit: Annotated[
        Int32, Field(ge=0, description="Retries after the first failed attempt; absent: none.")
    ] = 0
    active_deadline_seconds: Annotated[
        Int32 | None, Field(ge=1, description="Seconds that one attempt may take; absent: no limit.")
    ] = None
    sync: Annotated[
        Bool | None,
        Field(description="S3 download only: also delete files below subPath that the source lacks."),
    ] = None
    extra_args: Annotated[
        tuple[Annotated[Text, Field(max_length=1024)], ...],
        Field(
            max_length=MAX_EXTRA_ARGS,
            description="Arguments for git, hf or rclone, which then does the work instead of the built-in engine.",
            json_schema_extra=ATOMIC,
        ),
    ] = ()
    verify: Annotated[
        Literal["checksum", "size", "none"] | None,
        Field(description="How the result is checked before success is reported; absent: checksum."),
    ] = None
    stall_timeout_seconds: Annotated[
        Int32 | None,
        Field(ge=1, description="End an attempt that moved no byte for so many seconds."),
    ] = None
    max_delete: Annotated[Int32 | None, Field(ge=0, description="Files that a sync may delete; absent: no limit.")] = (
        None
    )
    dry_run: Annotated[Bool | None, Field(description="Fill status.plan and move nothing.")] = None
    bandwidth_limit: Annotated[Quantity | None, Field(description="Bytes per second, such as 50M or 10Mi.")] = None


class Executor(WireModel):
    """How the transfer is executed."""

    options: Annotated[ExecutorOptions | None, Field(description="Retries, deadline and manner.")] = None
    env: Annotated[
        tuple[EnvVar, ...],
        Field(
            max_length=MAX_ENV,
            description="Environment of the transfer, for instance HTTPS_PROXY.",
            json_schema_extra=BY_NAME,
        ),
    ] = ()
    security_context: Annotated[
        PodSecurityContext | None, Field(description="Merged field by field over the restricted default.")
    ] = None
    resources: Annotated[ResourceRequirements | None, Field(description="Resources of the transfer's container.")] = (
        None
    )
    node_selector: Annotated[Labels | None, Field(description="Labels a node must have.")] = None
    tolerations: Annotated[
        tuple[Toleration, ...], Field(max_length=64, description="Taints tolerated.", json_schema_extra=ATOMIC)
    ] = ()
    affinity: Annotated[Affinity | None, Field(description="Where the pod prefers or has to run.")] = None
    priority_class_name: Annotated[Name | None, Field(description="PriorityClass of the pod.")] = None
    service_account_name: Annotated[Name | None, Field(description="Identity of the pod, for instance for IRSA.")] = (
        None
    )
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...],
        Field(max_length=16, description="Secrets for pulling the image.", json_schema_extra=BY_NAME),
        ONCE_EACH,
    ] = ()
    engine: Annotated[
        Literal["argo", "prefect"] | None, Field(description="Workflow engine; absent: the operator's default.")
    ] = None


class DataCubeSpec(WireModel):
    """One transfer between a claim and a store."""

    source: Annotated[DataReference, Field(description="Where the data is.")]
    sink: Annotated[DataReference, Field(description="Where the data goes.")]
    executor: Annotated[Executor | None, Field(description="How the transfer runs.")] = None
    suspend: Annotated[Bool | None, Field(description="Hold the transfer: no attempt runs while this is true.")] = None
    ttl_seconds_after_finished: Annotated[
        Int32 | None,
        Field(ge=0, description="Delete the DataCube so many seconds after its end."),
    ] = None


class ObjectMeta(WireModel, extra="ignore"):
    """The part of Kubernetes' metadata that DataCube reads; the rest is ignored."""

    name: Annotated[Name, Field(description="Name of the DataCube.")]
    namespace: Annotated[Name, Field(max_length=63)] = "default"
    uid: Text = ""
    generation: Int = 0
    labels: Annotated[dict[Text, Text] | None, BeforeValidator(without_nulls)] = None
    annotations: Annotated[dict[Text, Text] | None, BeforeValidator(without_nulls)] = None


class DataCube(WireModel):
    """Moves data once, between one PersistentVolumeClaim and one Git, Hugging Face or S3 store."""

    api_version: Literal["tensorstack.dev/v1beta1"]
    kind: Literal["DataCube"]
    metadata: ObjectMeta
    spec: Annotated[DataCubeSpec, Field(description="What is moved, from where to where, and how.")]

    @model_validator(mode="before")
    @classmethod
    def _status_is_ignored(cls, data: Any) -> Any:
        """`status` has models of its own (`api/status.py`); whatever a document holds there says nothing."""
        return {k: v for k, v in data.items() if k != "status"} if isinstance(data, Mapping) else data
