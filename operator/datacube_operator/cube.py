"""What the operator reads of a DataCube as the API shows it, and the indexes by which it finds one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from datacube_flows.api.ends import EndType
from datacube_flows.api.status import ConditionType, DataCubeStatus
from datacube_flows.core import labels
from datacube_flows.core.fold import FINAL_PHASES
from datacube_flows.core.path_use import PathUse
from datacube_operator.store import object_key

Object = dict[str, Any]

BY_UID: Final = "uid"
BY_CLAIM: Final = "claim"
BY_OWNER: Final = "owner"


@dataclass(frozen=True)
class Cube:
    """A DataCube, its status as last written, and what of it every decision needs.

    Attributes:
        document: the object, shared with the store: read it, do not change it.
        status: what this process knows last, which may be newer than the document.
    """

    document: Object
    status: DataCubeStatus

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return object_key(self.document)

    @property
    def namespace(self) -> str:
        """Where it lives."""
        return str(self.document["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.document["metadata"]["name"])

    @property
    def uid(self) -> str:
        """Tells it apart from another that has had its name."""
        return str(self.document["metadata"]["uid"])

    @property
    def generation(self) -> int:
        """Counts changes of its spec."""
        return int(self.document["metadata"].get("generation") or 0)

    @property
    def rerun(self) -> str:
        """The re-run annotation's value."""
        return str((self.document["metadata"].get("annotations") or {}).get(labels.RERUN, ""))

    @property
    def is_suspended(self) -> bool:
        """Whether its author holds it."""
        return self.document["spec"].get("suspend") is True

    @property
    def ttl_seconds(self) -> int | None:
        """How long it stays after its end; None is for good."""
        seconds = self.document["spec"].get("ttlSecondsAfterFinished")
        return None if seconds is None else int(seconds)

    @property
    def is_final(self) -> bool:
        """Whether its status speaks of a run that ended."""
        return self.status.phase in FINAL_PHASES

    @property
    def run(self) -> str:
        """The run that its status speaks of; empty where none was begun."""
        return (self.status.workflow and self.status.workflow.name) or ""

    @property
    def run_uid(self) -> str:
        """The uid of that run; empty while it is not known to exist."""
        return (self.status.workflow and self.status.workflow.uid) or ""

    @property
    def is_active(self) -> bool:
        """Whether a run was begun that has not ended; of one that is held, the status names no run."""
        return bool(self.run) and not self.is_final

    @property
    def is_going(self) -> bool:
        """Whether it is being deleted: it may stay for long, but begins nothing any more."""
        return bool(self.document["metadata"].get("deletionTimestamp"))

    @property
    def waits_for(self) -> str:
        """Why no run begins; empty where one is under way or has ended."""
        return "" if self.is_active or self.is_final else self.trouble

    @property
    def trouble(self) -> str:
        """Why nothing goes on, as its status says it, also of a run that was begun; empty where it says nothing."""
        said = {c.type: c.reason for c in self.status.conditions or () if c.status == "False" and c.reason}
        return said.get(ConditionType.INITIALIZED) or said.get(ConditionType.COMPLETE) or ""

    @property
    def order(self) -> tuple[str, str]:
        """Who comes first: the older one."""
        return str(self.document["metadata"].get("creationTimestamp", "")), self.uid


def read_status(document: Mapping[str, Any]) -> DataCubeStatus:
    """Returns the status of a DataCube; an empty one where it has none that can be read."""
    try:
        return DataCubeStatus.model_validate(document.get("status") or {})
    except ValidationError:
        return DataCubeStatus()


def path_use_of(document: Mapping[str, Any]) -> PathUse | None:
    """Returns which path a DataCube uses, as far as its document says; also of one that breaks rules."""
    spec, name = document["spec"], str(document["metadata"]["name"])
    for end, writes in (("sink", True), ("source", False)):
        reference = spec.get(end) or {}
        pvc = reference.get("pvc") or {}
        if reference.get("type") == EndType.PVC and pvc.get("name"):
            return PathUse(name, str(pvc["name"]), str(pvc.get("subPath") or "").strip("/"), writes)
    return None


def claim_key(namespace: str, claim: str) -> str:
    """Returns the key of a claim, which is what DataCubes and pods are found by."""
    return f"{namespace}/{claim}"


def uid_key(namespace: str, uid: str) -> str:
    """Returns what objects are found by that bear the uid of a DataCube, or of their owner; in one namespace alone.

    Whoever may make pods in another namespace tells nothing about a DataCube (SECURITY S20).
    """
    return f"{namespace}/{uid}"


def uid_keys(obj: Object) -> list[str]:
    """The DataCube that an object bears the uid of."""
    about = obj["metadata"]
    uid = (about.get("labels") or {}).get(labels.UID)
    return [uid_key(about["namespace"], uid)] if uid else []


def _claim_index(document: Object) -> list[str]:
    use = path_use_of(document)
    return [claim_key(document["metadata"]["namespace"], use.claim)] if use else []


def _uid_index(document: Object) -> list[str]:
    return [uid_key(document["metadata"]["namespace"], document["metadata"]["uid"])]


CUBE_INDEXES: Final = {BY_UID: _uid_index, BY_CLAIM: _claim_index}


def _pod_claim_index(pod: Object) -> list[str]:
    use = path_use_of_pod(pod)
    return [claim_key(pod["metadata"]["namespace"], use.claim)] if use else []


def _owner_index(pod: Object) -> list[str]:
    about = pod["metadata"]
    return [uid_key(about["namespace"], owner["uid"]) for owner in about.get("ownerReferences") or ()]


POD_INDEXES: Final = {BY_UID: uid_keys, BY_CLAIM: _pod_claim_index, BY_OWNER: _owner_index}


def path_use_of_pod(pod: Mapping[str, Any]) -> PathUse | None:
    """Returns which path an attempt's pod uses, from its volume and where that is mounted; None of another pod."""
    spec = pod.get("spec") or {}
    about = pod["metadata"]
    volume = next((v for v in spec.get("volumes") or () if v.get("name") == "data"), None)
    claim = ((volume or {}).get("persistentVolumeClaim") or {}).get("claimName")
    main = next((c for c in spec.get("containers") or () if c.get("name") == "main"), None)
    if not claim or main is None:
        return None
    mount: Mapping[str, Any] = next((m for m in main.get("volumeMounts") or () if m.get("name") == "data"), {})
    within = next((a for a in main.get("args") or () if str(a).startswith("--sub-path=")), "")
    is_upload = bool(mount.get("readOnly"))
    sub_path = str(within).removeprefix("--sub-path=") if is_upload else mount.get("subPath") or ""
    cube = (about.get("labels") or {}).get(labels.NAME) or about["name"]
    return PathUse(str(cube), str(claim), str(sub_path), writes=not is_upload)
