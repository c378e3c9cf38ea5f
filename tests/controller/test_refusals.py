"""What is said where the API server refuses an object, and what is never repeated of its words."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator.errors import ApiError, Forbidden, Invalid, error_from_status
from datacube_operator.refusals import MAX_SAID, explain_refusal, is_of_ending_namespace

from datacube_flows.api.reasons import WAITING, Reason
from datacube_flows.core.plan import TransferPlan
from tests.canary import CANARY
from tests.controller.decision_objects import made, plan_of
from tests.controller.scenarios_documents import download, with_spec

pytestmark = pytest.mark.t0


def forbidden(message: str) -> ApiError:
    return Forbidden("create /apis/x", 403, "Forbidden", message)


def plan_with(**executor: Any) -> TransferPlan:
    document = download("cube")
    store = document["spec"]["source"]
    options = [o for o in store["options"] if o["name"] != "s3-secret-access-key"]
    written = {"name": "s3-secret-access-key", "value": f"{CANARY}/+key"}
    return plan_of(made(with_spec(document, source=store | {"options": [*options, written]}, executor=executor)))


QUOTA = 'workflows "cube-1" is forbidden: exceeded quota: small, requested: count/workflows=1, used: 2, limited: 2'
ENDING = 'workflows "cube-1" is forbidden: unable to create new content in namespace n because it is being terminated'


@pytest.mark.parametrize(
    ("error", "reason", "says"),
    [
        (forbidden(QUOTA), Reason.QUOTA_EXCEEDED, ("raise it", "used: 2, limited: 2")),
        (forbidden("rolebindings is forbidden: no"), Reason.ENGINE_UNAVAILABLE, ("refuses the operator", "no")),
        (Invalid("create x", 422, "Invalid", "spec.a: Required value"), Reason.ENGINE_UNAVAILABLE, ("too old", "spec")),
        (forbidden(""), Reason.ENGINE_UNAVAILABLE, ("403 Forbidden",)),
    ],
)
def test_refusal_is_waited_for_and_says_what_to_do(error: ApiError, reason: Reason, says: tuple[str, ...]) -> None:
    found, text = explain_refusal(error, plan_with())
    assert (found, found in WAITING) == (reason, True)
    assert [word for word in says if word not in text] == []


@pytest.mark.parametrize("form", ["{}", '"{}"', "https://user:{}@host/", "{}\\n"])
def test_refusal_repeats_no_credential_that_the_server_quotes(form: str) -> None:
    message = f"spec.templates[0].env[3]: Invalid value: {form.format(f'{CANARY}/+key')}"
    _, text = explain_refusal(Invalid("create x", 422, "Invalid", message), plan_with())
    assert CANARY not in text
    assert "spec.templates[0].env[3]" in text


def test_refusal_repeats_no_value_of_the_authors_variables() -> None:
    plan = plan_with(env=[{"name": "MY_PASS", "value": f"{CANARY}-word"}])
    _, text = explain_refusal(forbidden(f"denied by webhook: MY_PASS={CANARY}-word"), plan)
    assert CANARY not in text
    assert "MY_PASS" in text


def test_refusal_is_short_and_a_credential_is_not_cut_in_two() -> None:
    message = "x" * (MAX_SAID - 4) + f"{CANARY}/+key"
    _, text = explain_refusal(forbidden(message), plan_with())
    assert len(text) < MAX_SAID + 100
    assert CANARY[:4] not in text


@pytest.mark.parametrize(("message", "is_ending"), [(ENDING, True), (QUOTA, False), ("", False)])
def test_end_of_a_namespace_is_no_refusal(message: str, *, is_ending: bool) -> None:
    status = {"code": 403, "reason": "Forbidden", "message": message}
    assert is_of_ending_namespace(error_from_status("create x", status)) == is_ending
