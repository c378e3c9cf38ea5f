"""From a DataCube to the frozen decision that every engine executes. Holds no secret value; JSON round-trips."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator

from datacube_flows.api import quantity
from datacube_flows.api.corev1 import (
    Affinity,
    EnvVar,
    LocalObjectReference,
    PodSecurityContext,
    ResourceRequirements,
    Toleration,
    WireModel,
)
from datacube_flows.api.datacube import DataCube, DataReference, Executor, ExecutorOptions, PVCReference
from datacube_flows.api.ends import EndType
from datacube_flows.core import labels
from datacube_flows.core.expansion import order_env
from datacube_flows.core.kinds import Direction, TransferKind, kind_named, kind_of
from datacube_flows.core.path_use import PathUse
from datacube_flows.core.rules import check_rules
from datacube_flows.errors import InvalidDataCube

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_IN_RUN: Final = 40
"""So much of a DataCube's name stands in the names of its runs."""

Tuple = BeforeValidator(lambda value: tuple(value or ()))


@dataclass(frozen=True, slots=True)
class Policy:
    """What whoever runs DataCube allows; never part of a document.

    Attributes:
        env_policy: `deny` refuses dangerous names in `executor.env`, `allowlist` all but the known good ones.
        allowed_schemes: URL schemes that may be spoken.
    """

    env_policy: Literal["deny", "allowlist"] = "deny"
    allowed_schemes: tuple[str, ...] = ("https",)


class ClaimPlan(WireModel):
    """The volume's side of the transfer.

    Attributes:
        sub_path: normalised: no trailing `/`, "" for the root.
        template: the claim to create when it is missing, as a plain object; None where it must exist.
    """

    name: str
    sub_path: str = ""
    template: dict[str, Any] | None = None


class PodSettings(WireModel):
    """What `executor` says of the pod."""

    security_context: PodSecurityContext | None = None
    resources: ResourceRequirements | None = None
    node_selector: dict[str, str] | None = None
    tolerations: Annotated[tuple[Toleration, ...], Tuple] = ()
    affinity: Affinity | None = None
    priority_class_name: str | None = None
    service_account_name: str | None = None
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], Tuple] = ()


class TransferPlan(WireModel):
    """The whole input of every engine.

    Attributes:
        kind_name: the row of `core/kinds.py`.
        env: options under their environment names and the user's variables, each reference after what it names.
        secret_env: names whose values must never be shown.
        user_env: names that come from `executor.env`.
        retries: attempts after the first one.
        deadline_seconds: what one attempt may take; None is no limit.
        run_id: hash of uid and re-run annotation: one run has one id (SPEC section 5).
        bandwidth_limit: bytes per second.
    """

    name: str
    namespace: str
    uid: str
    run_id: str
    kind_name: str
    claim: ClaimPlan
    env: tuple[EnvVar, ...]
    secret_env: tuple[str, ...]
    user_env: tuple[str, ...]
    extra_args: tuple[str, ...] = ()
    retries: int = 0
    deadline_seconds: int | None = None
    sync: bool = False
    verify: Literal["checksum", "size", "none"] = "checksum"
    max_delete: int | None = None
    dry_run: bool = False
    stall_timeout_seconds: int | None = None
    bandwidth_limit: int | None = None
    engine: Literal["argo", "prefect"] | None = None
    pod: PodSettings = PodSettings()

    @property
    def kind(self) -> TransferKind:
        """The row that this plan executes."""
        return kind_named(self.kind_name)

    @property
    def attempts(self) -> int:
        """How many attempts there may be."""
        return self.retries + 1

    @property
    def run_name(self) -> str:
        """What the run's objects are called: short enough for the pods' names to show it, and told apart by the run."""
        return f"{self.name[:MAX_IN_RUN].rstrip('-.')}-{self.run_id}"

    def attempt_name(self, number: int) -> str:
        """Returns what an attempt's pod is called, or what stands for it on one machine; Argo has names of its own."""
        return f"{self.run_name}-{number}"

    @property
    def path_use(self) -> PathUse:
        """What of the volume it uses."""
        return PathUse(self.name, self.claim.name, self.claim.sub_path, writes=not self.kind.is_upload)

    @property
    def hash(self) -> str:
        """Twelve hex digits that differ when anything that is to be done differs; a label of what is submitted.

        The run is left out: a re-run does the same, and finds the same template.
        """
        return _digest(self.model_dump_json(exclude={"run_id"}), length=12)


def make_plan(cube: DataCube, policy: Policy | None = None) -> TransferPlan:
    """Returns what has to be done for a DataCube.

    Raises:
        InvalidDataCube: with every rule that the document breaks.
    """
    policy = policy or Policy()
    violations = check_rules(cube, env_policy=policy.env_policy, allowed_schemes=policy.allowed_schemes)
    if violations:
        raise InvalidDataCube(violations)
    kind, store, pvc = _ends(cube)
    executor = cube.spec.executor or Executor()
    options = executor.options or ExecutorOptions()
    option_env = [_as_variable(o, kind) for o in store.options]
    meta = cube.metadata
    return TransferPlan(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        run_id=run_id(meta.uid, (meta.annotations or {}).get(labels.RERUN, "")),
        kind_name=kind.name,
        claim=_claim(pvc),
        env=order_env([*option_env, *executor.env]),
        secret_env=_secret_names(kind, option_env, executor.env),
        user_env=tuple(v.name for v in executor.env),
        extra_args=options.extra_args,
        retries=options.backoff_limit or 0,
        deadline_seconds=options.active_deadline_seconds,
        sync=bool(options.sync),
        verify=options.verify or "checksum",
        max_delete=options.max_delete,
        dry_run=bool(options.dry_run),
        stall_timeout_seconds=options.stall_timeout_seconds,
        bandwidth_limit=_bytes(options.bandwidth_limit),
        engine=executor.engine,
        pod=PodSettings(**{name: getattr(executor, name) for name in PodSettings.model_fields}),
    )


def run_id(uid: str, rerun: str) -> str:
    """Returns the id of a run: eight hex digits of uid and re-run annotation (SPEC section 5, life cycle)."""
    return _digest(f"{uid}/{rerun}", length=8)


def _digest(text: str, *, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _ends(cube: DataCube) -> tuple[TransferKind, DataReference, PVCReference]:
    """The kind, the store's end and the claim of a valid cube."""
    source, sink = cube.spec.source, cube.spec.sink
    if sink.type is EndType.PVC:
        store, volume, direction = source, sink, Direction.DOWNLOAD
    else:
        store, volume, direction = sink, source, Direction.UPLOAD
    assert volume.pvc is not None  # noqa: S101 - a rule of core/rules.py says so
    return kind_of(store.type, direction), store, volume.pvc


def _claim(pvc: PVCReference) -> ClaimPlan:
    template = pvc.template.model_dump(by_alias=True, exclude_defaults=True, mode="json") if pvc.template else None
    return ClaimPlan(name=pvc.name, sub_path=(pvc.sub_path or "").strip("/"), template=template)


def _as_variable(option: EnvVar, kind: TransferKind) -> EnvVar:
    row = kind.option(option.name)
    assert row is not None  # noqa: S101 - a rule of core/rules.py says so
    return option.model_copy(update={"name": row.env_name})


def _secret_names(kind: TransferKind, options: Sequence[EnvVar], env: Sequence[EnvVar]) -> tuple[str, ...]:
    marked = {o.env_name for o in kind.options if o.secret}
    return tuple(v.name for v in (*options, *env) if v.name in marked or (v.value_from and v.value_from.secret_key_ref))


def _bytes(value: int | str | None) -> int | None:
    return None if value is None else quantity.whole(value)
