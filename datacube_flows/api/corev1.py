"""The core/v1 types that a DataCube document embeds, field by field as Kubernetes has them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """Base of all models: frozen, snake_case in Python and camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)


Quantity = Annotated[int | str, Field(description="A Kubernetes quantity.")]


class KeySelector(WireModel):
    """A key of a Secret or ConfigMap in the DataCube's namespace."""

    name: str
    key: str
    optional: bool | None = None


class EnvVarSource(WireModel):
    """Where a value comes from."""

    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class EnvVar(WireModel):
    """A name with a value, or with a reference to one."""

    name: str
    value: str | None = None
    value_from: EnvVarSource | None = None


class LocalObjectReference(WireModel):
    """The name of an object in the same namespace."""

    name: str


# The rest of this file is provisional: it is being completed.
class PersistentVolumeClaimTemplate(WireModel):
    """A claim to be created."""


class PodSecurityContext(WireModel):
    """Security settings of a pod."""


class ResourceRequirements(WireModel):
    """Resources."""


class Toleration(WireModel):
    """Toleration."""


class Affinity(WireModel):
    """Affinity."""
