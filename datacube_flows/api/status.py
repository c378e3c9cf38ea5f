"""Models of `status` (SPEC section 5): frozen, the wire's names in the wire's order. Written by the operator alone.

Nothing here decides; `core/fold.py` does. Unknown fields are ignored, so that an older reader can read a newer status.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from datacube_flows.api.wire import Int, Text, WireModel

MAX_ATTEMPTS = 10
"""How many attempts the status keeps: the newest ones."""

MAX_MESSAGE = 1024


def _format(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _whole_second(value: Any) -> Any:
    return value.replace(microsecond=0) if isinstance(value, datetime) else value


Time = Annotated[datetime, BeforeValidator(_whole_second), PlainSerializer(_format, return_type=str)]
"""A moment, on the wire as Kubernetes writes it: UTC, whole seconds, `Z`."""

Count = Annotated[Int, Field(ge=0, json_schema_extra={"format": "int64"})]
Short = Annotated[Text, Field(max_length=253)]
Message = Annotated[Text, Field(max_length=MAX_MESSAGE)]


class StatusModel(WireModel, extra="ignore"):
    """Base of the status models."""

    def to_wire(self) -> dict[str, Any]:
        """Returns the object as it goes to the API server: wire names, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Phase(StrEnum):
    """Where a DataCube stands, in one word."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


class ConditionType(StrEnum):
    """The three conditions, in the order in which they always stand."""

    INITIALIZED = "Initialized"
    COMPLETE = "Complete"
    FAILED = "Failed"


class PodReference(StatusModel):
    """A pod by name and uid."""

    name: Annotated[Short, Field(description="Name of the pod.")]
    uid: Annotated[Short | None, Field(description="UID of the pod.")] = None


class PodStatus(StatusModel):
    """The pod of the latest attempt."""

    phase: Annotated[Short | None, Field(description="Phase of the pod.")] = None
    reference: Annotated[PodReference | None, Field(description="Which pod it is.")] = None
    status: Annotated[Short | None, Field(description="The word that kubectl shows as STATUS.")] = None


class Condition(StatusModel):
    """One of the three conditions."""

    type: Annotated[ConditionType, Field(description="Initialized, Complete or Failed.")]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether it holds.")]
    reason: Annotated[Short | None, Field(description="Why, in one word of a closed list.")] = None
    message: Annotated[Message | None, Field(description="What happened, to what, and what to do.")] = None
    last_probe_time: Annotated[Time | None, Field(description="When the conditions were last written.")] = None
    last_transition_time: Annotated[Time | None, Field(description="When this condition last flipped.")] = None


class ProgressStatus(StatusModel):
    """How far the running attempt is."""

    percent: Annotated[Int | None, Field(ge=0, le=100, description="Share of the bytes that are done.")] = None
    bytes_done: Annotated[Count | None, Field(description="Bytes that are done.")] = None
    bytes_total: Annotated[Count | None, Field(description="Bytes in all.")] = None
    files_done: Annotated[Count | None, Field(description="Files that are done.")] = None
    files_total: Annotated[Count | None, Field(description="Files in all.")] = None
    bytes_per_second: Annotated[Count | None, Field(description="Rate over the last half minute.")] = None
    eta_seconds: Annotated[Count | None, Field(description="Seconds that remain at this rate.")] = None


class AttemptStatus(StatusModel):
    """One attempt."""

    number: Annotated[Int, Field(ge=1, description="1 for the first.")]
    pod: Annotated[Short | None, Field(description="Name of its pod.")] = None
    start_time: Annotated[Time | None, Field(description="When it started.")] = None
    finish_time: Annotated[Time | None, Field(description="When it ended; absent while it runs.")] = None
    reason: Annotated[Short | None, Field(description="How it ended, in one word of a closed list.")] = None
    exit_code: Annotated[Int | None, Field(description="Exit code of its container.")] = None
    message: Annotated[Message | None, Field(description="What happened, to what, and what to do.")] = None


class ResultStatus(StatusModel):
    """What was moved, and how it was checked."""

    revision: Annotated[Short | None, Field(description="Commit that was moved; absent for S3.")] = None
    files: Annotated[Count | None, Field(description="Files that were moved.")] = None
    bytes: Annotated[Count | None, Field(description="Bytes of these files.")] = None
    skipped: Annotated[Count | None, Field(description="Files that were listed and not moved.")] = None
    verified: Annotated[
        Literal["checksum", "size", "git", "none"] | None, Field(description="How the result was checked.")
    ] = None
    path: Annotated[
        Text | None, Field(max_length=4096, description="Where the data is, from the root of the claim.")
    ] = None


class WorkflowStatus(StatusModel):
    """The workflow or flow run that executes the transfer."""

    engine: Annotated[Literal["argo", "prefect", "inline"], Field(description="The engine.")]
    template: Annotated[Short | None, Field(description="Name of the WorkflowTemplate to refer to.")] = None
    name: Annotated[Short | None, Field(description="Name of the run.")] = None
    uid: Annotated[Short | None, Field(description="UID of the run.")] = None
    url: Annotated[Text | None, Field(max_length=2048, description="Page of the run.")] = None


class PlanStatus(StatusModel):
    """What the transfer would change (dryRun)."""

    add: Annotated[Count, Field(description="Files that would be new.")] = 0
    update: Annotated[Count, Field(description="Files that would change.")] = 0
    delete: Annotated[Count, Field(description="Files that would be deleted.")] = 0
    bytes: Annotated[Count, Field(description="Bytes that would move.")] = 0


class DataCubeStatus(StatusModel):
    """What is known of a DataCube's run."""

    observed_generation: Annotated[Count | None, Field(description="Generation of the spec that this speaks of.")] = (
        None
    )
    phase: Annotated[Phase | None, Field(description="Where the DataCube stands, in one word.")] = None
    start_time: Annotated[Time | None, Field(description="When the run was taken up.")] = None
    completion_time: Annotated[Time | None, Field(description="When the run ended.")] = None
    pod: Annotated[PodStatus | None, Field(description="The pod of the latest attempt.")] = None
    conditions: Annotated[
        tuple[Condition, ...] | None,
        Field(
            max_length=len(ConditionType),
            description="Initialized, Complete and Failed, in this order; all three from the first status on.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = None
    progress: Annotated[ProgressStatus | None, Field(description="How far the running attempt is.")] = None
    attempts: Annotated[
        tuple[AttemptStatus, ...] | None,
        Field(
            max_length=MAX_ATTEMPTS,
            description="The newest ten attempts, the newest last.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = None
    result: Annotated[ResultStatus | None, Field(description="What was moved, and how it was checked.")] = None
    workflow: Annotated[WorkflowStatus | None, Field(description="What executes the transfer.")] = None
    plan: Annotated[PlanStatus | None, Field(description="What the transfer would change (dryRun).")] = None
