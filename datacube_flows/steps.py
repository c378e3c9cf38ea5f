"""The three steps of a run (provision, attempt, report) against small protocols. Knows no engine, no cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from datacube_flows.core.manifests import require_claim
from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.core.retry import is_retried

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_flows.core.plan import TransferPlan


class Claims(Protocol):
    """Where claims are kept: a namespace, or a folder of volumes."""

    def has_claim(self, name: str) -> bool:
        """Whether the claim exists."""

    def make_claim(self, claim: dict[str, Any]) -> None:
        """Makes a claim; one that exists by now is left as it is."""


class AttemptRunner(Protocol):
    """Runs one attempt to its end: as a pod, or as a child process."""

    def run_attempt(
        self, plan: TransferPlan, number: int, on_progress: Callable[[dict[str, Any]], None]
    ) -> AttemptSeen:
        """Returns the attempt after its end."""


def provision(plan: TransferPlan, claims: Claims) -> str:
    """Makes sure that the claim exists, and returns what was done, "" for nothing. An existing claim is never touched.

    Raises:
        WaitingError: WaitingForVolume when there is no claim and no template.
    """
    if claims.has_claim(plan.claim.name):
        return ""
    claims.make_claim(require_claim(plan))
    return f"made claim {plan.claim.name}"


def is_followed(plan: TransferPlan, seen: AttemptSeen) -> bool:
    """Whether another attempt follows one that ended."""
    if seen.phase is not PodPhase.FAILED:
        return False
    reason, _ = seen.failure
    return is_retried(reason, attempts=seen.number, backoff_limit=plan.retries)
