"""Whether a run may begin as its claim stands."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator.claims import claim_problem, is_lost, lost_message

from datacube_flows.api.reasons import PERMANENT, WAITING, Reason
from tests.controller.decision_objects import made, plan_of
from tests.controller.scenarios_documents import CLAIM_SPEC, download, upload

pytestmark = pytest.mark.t0

Object = dict[str, Any]


def claim(phase: str | None = "Bound", **metadata: Any) -> Object:
    return {"metadata": {"name": "data", **metadata}, "status": {"phase": phase} if phase else {}}


DOWNLOAD, UPLOAD = download("cube"), upload("cube")
TEMPLATE = download("cube", template={"spec": CLAIM_SPEC})
GOING = claim(deletionTimestamp="2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("document", "found", "says"),
    [
        pytest.param(DOWNLOAD, claim(), None, id="bound"),
        pytest.param(DOWNLOAD, claim("Pending"), None, id="pending: a pod may be what it waits for"),
        pytest.param(DOWNLOAD, claim(None), None, id="no status yet"),
        pytest.param(DOWNLOAD, None, "no claim 'data': create it, or give sink.pvc.template", id="absent"),
        pytest.param(UPLOAD, None, "no claim 'data': create it", id="absent, nothing to upload"),
        pytest.param(TEMPLATE, None, None, id="absent, to be made"),
        pytest.param(TEMPLATE, GOING, "is being deleted", id="going, to be made"),
        pytest.param(DOWNLOAD, GOING, "is being deleted", id="going"),
    ],
)
def test_run_waits_for_a_claim_that_may_come(document: Object, found: Object | None, says: str | None) -> None:
    problem = claim_problem(plan_of(made(document)), found)
    if says is None:
        assert problem is None
        return
    assert problem is not None
    reason, text = problem
    assert reason is Reason.WAITING_FOR_VOLUME
    assert reason in WAITING
    assert says in text


def test_upload_is_not_told_of_a_template_that_it_may_not_have() -> None:
    problem = claim_problem(plan_of(made(UPLOAD)), None)
    assert problem is not None
    assert "template" not in problem[1]


@pytest.mark.parametrize(
    ("found", "lost"), [(claim("Lost"), True), (claim(), False), (claim("Pending"), False), (claim(None), False)]
)
def test_claim_whose_volume_is_gone_is_lost(found: Object, *, lost: bool) -> None:
    assert is_lost(found) == lost
    assert not is_lost(None)


def test_lost_volume_ends_the_run_and_says_how_to_go_on() -> None:
    reason, text = lost_message(plan_of(made(DOWNLOAD)))
    assert reason in PERMANENT
    assert "'data'" in text
    assert "re-run annotation" in text
