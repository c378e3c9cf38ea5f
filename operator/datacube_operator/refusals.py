"""What it means where the API server refuses an object that a run needs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core.pod_waiting import refused_reason
from datacube_flows.transfers.redact import Redactor
from datacube_operator.errors import Forbidden, Invalid

if TYPE_CHECKING:
    from datacube_flows.core.plan import TransferPlan
    from datacube_operator.errors import ApiError

MAX_SAID: Final = 512


def is_of_ending_namespace(error: ApiError) -> bool:
    """Whether nothing more can be made since the whole namespace is being deleted, the DataCube with it."""
    return "because it is being terminated" in error.message


def refuses_pod(error: ApiError, plan: TransferPlan) -> tuple[Reason, str] | None:
    """Returns why an attempt ends whose pod the cluster does not admit; None where it may be admitted later."""
    is_for_later = "exceeded quota" in error.message or "cannot create resource" in error.message
    if not isinstance(error, Forbidden | Invalid) or is_for_later or is_of_ending_namespace(error):
        return None
    if (found := refused_reason(error.message)) is None:
        return None
    said = _hide_values(plan)(error.message)[:MAX_SAID]
    return found[0], f"the pod could not be made: {said} ({found[1]})"


def explain_refusal(error: ApiError, plan: TransferPlan) -> tuple[Reason, str]:
    """Returns a waiting reason, and what to do: everything that refuses may be changed, and the run then begins.

    Args:
        error: of a request to create something.
        plan: what was to run; the server quotes what it refuses, and of that no credential may be repeated.
    """
    said = _hide_values(plan)(error.message)[:MAX_SAID] or str(error)
    if "exceeded quota" in error.message:
        return Reason.QUOTA_EXCEEDED, f"a quota of the namespace is used up: raise it or free something: {said}"
    if isinstance(error, Invalid):
        return Reason.ENGINE_UNAVAILABLE, f"the engine's kinds do not take what is rendered, is it too old?: {said}"
    return Reason.ENGINE_UNAVAILABLE, f"the cluster refuses the operator an object of the run: {said}"


def _hide_values(plan: TransferPlan) -> Redactor:
    """Masks what an author wrote out in place of a reference to a Secret, and all that `executor.env` holds."""
    names = {*plan.secret_env, *plan.user_env}
    return Redactor(variable.value for variable in plan.env if variable.value and variable.name in names)
