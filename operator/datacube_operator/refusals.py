"""What it means where the API server refuses an object that a run needs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_operator.errors import Invalid

if TYPE_CHECKING:
    from datacube_operator.errors import ApiError

MAX_SAID: Final = 512


def explain_refusal(error: ApiError) -> tuple[Reason, str]:
    """Returns a waiting reason, and what to do: everything that refuses may be changed, and the run then begins.

    Args:
        error: of a request to create something.
    """
    said = error.message[:MAX_SAID] or str(error)
    if "exceeded quota" in error.message:
        return Reason.QUOTA_EXCEEDED, f"a quota of the namespace is used up: raise it or free something: {said}"
    if isinstance(error, Invalid):
        return Reason.ENGINE_UNAVAILABLE, f"the engine's kinds do not take what is rendered, is it too old?: {said}"
    return Reason.ENGINE_UNAVAILABLE, f"the cluster refuses the operator an object of the run: {said}"
