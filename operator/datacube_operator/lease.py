"""What a Lease says, and what a replica does about it. Pure: time comes in as arguments.

Whether a lease has run out is decided by how long *this* process has seen it unchanged, on its own clock: the times
that stand in it come from other machines' clocks and are for people.
https://kubernetes.io/docs/concepts/architecture/leases/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datacube_operator.clock import micro_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    Object = dict[str, Any]

RELEASED_SECONDS: Final = 1
"""The duration that a released lease names, as client-go has it; the API wants one above 0."""


@dataclass(frozen=True)
class LeaseTiming:
    """How long a lease stands, until when its holder may write, and how often it is looked at.

    The holder counts from before it sent the renewal, the others from after they saw it: with `write_seconds` below
    `duration_seconds` the holder always stops before another starts, whatever the clocks of their machines say.
    """

    duration_seconds: int = 15
    write_seconds: float = 10.0
    retry_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_seconds < self.write_seconds < self.duration_seconds:
            raise ValueError("a lease needs retry_seconds < write_seconds < duration_seconds")


@dataclass(frozen=True)
class Seen:
    """A Lease as the API server gave it, and since when this process knows it so."""

    lease: Object
    since: float

    @property
    def holder(self) -> str:
        """Who holds it; empty where it was released."""
        return (self.lease.get("spec") or {}).get("holderIdentity") or ""

    def is_free(self, now: float) -> bool:
        """Whether nobody holds it, or its holder has not renewed it for as long as it stands."""
        seconds = (self.lease.get("spec") or {}).get("leaseDurationSeconds") or 0
        return not self.holder or now - self.since >= seconds


def look(before: Seen | None, lease: Object, now: float) -> Seen:
    """Returns what is known after a look at the lease: an unchanged one is known for as long as before."""
    if before is not None and _version(before.lease) == _version(lease):
        return before
    return Seen(lease, now)


def make_lease(namespace: str, name: str, identity: str, timing: LeaseTiming, utc: datetime) -> Object:
    """Returns a first lease, held by `identity`."""
    moment = micro_time(utc)
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": timing.duration_seconds,
            "acquireTime": moment,
            "renewTime": moment,
            "leaseTransitions": 0,
        },
    }


def take(lease: Mapping[str, Any], identity: str, timing: LeaseTiming, utc: datetime) -> Object:
    """Returns the lease as `identity` takes or renews it; a change of hands is counted, a renewal is none."""
    spec = dict(lease.get("spec") or {})
    moment = micro_time(utc)
    if spec.get("holderIdentity") != identity:
        spec |= {"acquireTime": moment, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
    spec |= {"holderIdentity": identity, "leaseDurationSeconds": timing.duration_seconds, "renewTime": moment}
    return {**lease, "spec": spec}


def release(lease: Mapping[str, Any], utc: datetime) -> Object:
    """Returns the lease as its holder leaves it: free for whoever looks next."""
    spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": RELEASED_SECONDS}
    return {**lease, "spec": {**spec, "renewTime": micro_time(utc)}}


def _version(lease: Mapping[str, Any]) -> tuple[str, str]:
    about = lease["metadata"]
    return about["uid"], about["resourceVersion"]
