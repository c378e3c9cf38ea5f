"""Whether a run may begin as its claim stands. Pure. A claim is never touched from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datacube_flows.api.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_flows.core.plan import TransferPlan


def is_lost(claim: Mapping[str, Any] | None) -> bool:
    """Whether the volume behind a claim is gone for good."""
    return claim is not None and (claim.get("status") or {}).get("phase") == "Lost"


def lost_message(plan: TransferPlan) -> tuple[Reason, str]:
    """Why a run ends whose claim is lost."""
    text = f"claim '{plan.claim.name}' has lost its volume: make a new claim, then set a new re-run annotation"
    return Reason.VOLUME_LOST, text


def claim_problem(plan: TransferPlan, claim: Mapping[str, Any] | None) -> tuple[Reason, str] | None:
    """Returns what a run waits for; a claim that is not bound is no problem, since a pod may be what it waits for."""
    name = plan.claim.name
    if claim is not None and claim["metadata"].get("deletionTimestamp"):
        text = f"claim '{name}' is being deleted: the transfer starts when there is another"
        return Reason.WAITING_FOR_VOLUME, text
    if claim is None and plan.claim.template is None:
        more = "" if plan.kind.is_upload else ", or give sink.pvc.template"
        return Reason.WAITING_FOR_VOLUME, f"there is no claim '{name}': create it{more}"
    return None
