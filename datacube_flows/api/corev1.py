"""The core/v1 types that a DataCube document embeds, field by field as Kubernetes 1.34 has them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from datacube_flows.api.affinity import Affinity, LabelSelector
from datacube_flows.api.wire import (
    ATOMIC,
    BY_NAME,
    ENV_NAME,
    KEY,
    MAX_VALUE,
    ONCE_EACH,
    Annotations,
    Bool,
    Int64,
    Labels,
    Line,
    Name,
    Quantities,
    Quantity,
    Text,
    WireModel,
    Word,
)

__all__ = ["Affinity", "LabelSelector", "Quantity", "WireModel"]


class KeySelector(WireModel):
    """A key of a Secret or ConfigMap in the DataCube's namespace."""

    name: Annotated[Name, Field(description="Name of the object, in the DataCube's own namespace.")]
    key: Annotated[Text, Field(min_length=1, max_length=253, pattern=KEY, description="The key whose value is taken.")]
    optional: Annotated[
        Bool | None, Field(description="Whether the object or the key may be missing; the value is then absent.")
    ] = None


class EnvVarSource(WireModel):
    """Where a value comes from: exactly one of a Secret and a ConfigMap."""

    secret_key_ref: Annotated[KeySelector | None, Field(description="A key of a Secret.")] = None
    config_map_key_ref: Annotated[KeySelector | None, Field(description="A key of a ConfigMap.")] = None


class EnvVar(WireModel):
    """A name with a value, or with a reference to one."""

    name: Annotated[Text, Field(min_length=1, max_length=253, pattern=ENV_NAME, description="Name, once in the list.")]
    value: Annotated[
        Text | None,
        Field(max_length=MAX_VALUE, description="The value itself; `$(NAME)` in it stands for the value of NAME."),
    ] = None
    value_from: Annotated[
        EnvVarSource | None, Field(description="Reference to the value; not together with `value`.")
    ] = None


class LocalObjectReference(WireModel):
    """The name of an object in the same namespace."""

    name: Annotated[Name, Field(description="Name of the object.")]


class TypedObjectReference(WireModel):
    """An object to fill a new claim from. It has no `namespace`: a DataCube reaches nothing outside its own."""

    api_group: Annotated[Line | None, Field(description="API group; absent for the core group.")] = None
    kind: Annotated[Word, Field(description="Kind, such as VolumeSnapshot or PersistentVolumeClaim.")]
    name: Annotated[Name, Field(description="Name of the object.")]


class VolumeResourceRequirements(WireModel):
    """How large a claim is."""

    requests: Annotated[Quantities | None, Field(description="What is asked for; `storage` is the size.")] = None
    limits: Annotated[Quantities | None, Field(description="What must not be exceeded.")] = None


AccessMode = Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]


class PersistentVolumeClaimSpec(WireModel):
    """What a claim asks for."""

    access_modes: Annotated[
        tuple[AccessMode, ...],
        Field(max_length=4, description="How the volume may be mounted.", json_schema_extra=ATOMIC),
    ] = ()
    selector: Annotated[LabelSelector | None, Field(description="Labels of the volumes to choose from.")] = None
    resources: Annotated[VolumeResourceRequirements | None, Field(description="The size, in `requests.storage`.")] = (
        None
    )
    volume_name: Annotated[Line | None, Field(description="The volume to bind to.")] = None
    storage_class_name: Annotated[
        Line | None, Field(description="The storage class; absent: the cluster's default; empty: none.")
    ] = None
    volume_mode: Annotated[Literal["Filesystem"] | None, Field(description="Filesystem: a transfer writes files.")] = (
        None
    )
    data_source: Annotated[TypedObjectReference | None, Field(description="What the volume is filled from.")] = None
    data_source_ref: Annotated[
        TypedObjectReference | None, Field(description="What the volume is filled from, by a volume populator.")
    ] = None
    volume_attributes_class_name: Annotated[Line | None, Field(description="The VolumeAttributesClass.")] = None


class ClaimMetadata(WireModel):
    """Metadata of a claim to be created; its name is `pvc.name`."""

    labels: Annotated[Labels | None, Field(description="Labels of the new claim.")] = None
    annotations: Annotated[Annotations | None, Field(description="Annotations of the new claim.")] = None


class PersistentVolumeClaimTemplate(WireModel):
    """A claim to be created when there is none of that name."""

    metadata: Annotated[ClaimMetadata | None, Field(description="Labels and annotations of the new claim.")] = None
    spec: Annotated[PersistentVolumeClaimSpec, Field(description="What the new claim asks for.")]


class SELinuxOptions(WireModel):
    """The SELinux context of the containers."""

    user: Annotated[Line | None, Field(description="SELinux user label.")] = None
    role: Annotated[Line | None, Field(description="SELinux role label.")] = None
    type: Annotated[Line | None, Field(description="SELinux type label.")] = None
    level: Annotated[Line | None, Field(description="SELinux level label.")] = None


class WindowsOptions(WireModel):
    """Settings of Windows containers; a transfer runs on Linux, these are passed on as they are."""

    gmsa_credential_spec_name: Annotated[Line | None, Field(description="Name of the GMSA credential spec.")] = None
    gmsa_credential_spec: Annotated[
        Text | None, Field(max_length=4096, description="The GMSA credential spec itself.")
    ] = None
    run_as_user_name: Annotated[Line | None, Field(description="User that the process runs as.")] = None
    host_process: Annotated[Bool | None, Field(description="Whether it is a HostProcess container.")] = None


class Profile(WireModel):
    """A seccomp or AppArmor profile."""

    type: Annotated[
        Literal["Localhost", "RuntimeDefault", "Unconfined"], Field(description="Which kind of profile applies.")
    ]
    localhost_profile: Annotated[Line | None, Field(description="Profile on the node, when type is Localhost.")] = None


class Sysctl(WireModel):
    """A kernel parameter."""

    name: Annotated[Line, Field(description="Name of the parameter.")]
    value: Annotated[Line, Field(description="Value of the parameter.")]


class PodSecurityContext(WireModel):
    """Security settings of a pod."""

    se_linux_options: Annotated[SELinuxOptions | None, Field(description="SELinux context of the containers.")] = None
    windows_options: Annotated[WindowsOptions | None, Field(description="Settings of Windows containers.")] = None
    run_as_user: Annotated[Int64 | None, Field(ge=0, description="UID of the process.")] = None
    run_as_group: Annotated[Int64 | None, Field(ge=0, description="GID of the process.")] = None
    run_as_non_root: Annotated[Bool | None, Field(description="Whether UID 0 is refused.")] = None
    supplemental_groups: Annotated[
        tuple[Int64, ...], Field(max_length=64, description="Further groups of the process.", json_schema_extra=ATOMIC)
    ] = ()
    supplemental_groups_policy: Annotated[
        Literal["Merge", "Strict"] | None, Field(description="Whether the image's groups are merged in.")
    ] = None
    fs_group: Annotated[Int64 | None, Field(ge=0, description="Group that owns the volume.")] = None
    fs_group_change_policy: Annotated[
        Literal["OnRootMismatch", "Always"] | None, Field(description="When the volume's group is changed.")
    ] = None
    seccomp_profile: Annotated[Profile | None, Field(description="The seccomp profile.")] = None
    app_armor_profile: Annotated[Profile | None, Field(description="The AppArmor profile.")] = None
    se_linux_change_policy: Annotated[
        Literal["MountOption", "Recursive"] | None, Field(description="How volumes get their SELinux label.")
    ] = None
    sysctls: Annotated[
        tuple[Sysctl, ...], Field(max_length=32, description="Kernel parameters.", json_schema_extra=ATOMIC)
    ] = ()


class ResourceClaim(WireModel):
    """A claim of the pod that its container uses."""

    name: Annotated[Word, Field(description="Name of the entry in the pod's resourceClaims.")]
    request: Annotated[Word | None, Field(description="Name of the request in that claim; absent: all.")] = None


class ResourceRequirements(WireModel):
    """What a container may and will use."""

    limits: Annotated[Quantities | None, Field(description="The most that may be used.")] = None
    requests: Annotated[Quantities | None, Field(description="What is set aside.")] = None
    claims: Annotated[
        tuple[ResourceClaim, ...],
        Field(max_length=16, description="Claims that are used.", json_schema_extra=BY_NAME),
        ONCE_EACH,
    ] = ()


class Toleration(WireModel):
    """A taint that the pod tolerates."""

    key: Annotated[Line | None, Field(description="Key of the taint; absent: every key.")] = None
    operator: Annotated[Literal["Exists", "Equal"] | None, Field(description="How the value is compared.")] = None
    value: Annotated[Line | None, Field(description="Value of the taint.")] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None, Field(description="Effect; absent: every one.")
    ] = None
    toleration_seconds: Annotated[Int64 | None, Field(description="How long NoExecute is tolerated.")] = None
