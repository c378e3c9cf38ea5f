from __future__ import annotations

import pickle

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.pipelines.results import TransferFailed, TransferResult, result_of
from tests.pipelines.documents import conditions, failed, status_of, succeeded

pytestmark = pytest.mark.t0


def test_result_tells_what_was_moved_and_where_it_is() -> None:
    found = result_of("team/data", "claim", status_of(succeeded("run")))
    assert found == TransferResult("sets/repo", "a" * 40, 3, 2048, "claim")


def test_result_of_a_dry_run_is_empty() -> None:
    status = succeeded("run") | {"plan": {"add": 3}}
    del status["result"]
    assert result_of("team/data", "claim", status_of(status)) == TransferResult("", "", 0, 0, "claim")


def test_failure_carries_the_typed_reason() -> None:
    with pytest.raises(TransferFailed) as caught:
        result_of("team/data", "claim", status_of(failed("run")))
    error = caught.value
    assert (error.name, error.reason, error.attempt_reason) == ("team/data", Reason.ACCESS_DENIED, Reason.ACCESS_DENIED)
    assert str(error) == "DataCube 'team/data' failed: AccessDenied: give a token that may read"


def test_failure_tells_why_the_last_attempt_failed_when_none_is_left() -> None:
    said = conditions("Failed", "RetriesExhausted", "the only attempt failed: OOMKilled: raise it")
    with pytest.raises(TransferFailed) as caught:
        result_of("team/data", "claim", status_of(failed("run", "OOMKilled") | {"conditions": said}))
    assert (caught.value.reason, caught.value.attempt_reason) == (Reason.RETRIES_EXHAUSTED, Reason.OOM_KILLED)


def test_failure_before_any_attempt_has_no_attempts_reason() -> None:
    status = failed("", "InvalidSpec", "spec.source: missing") | {"attempts": []}
    with pytest.raises(TransferFailed) as caught:
        result_of("team/data", "claim", status_of(status))
    assert (caught.value.reason, caught.value.attempt_reason) == (Reason.INVALID_SPEC, None)


def test_failure_for_a_reason_of_a_newer_operator_is_a_failure_still() -> None:
    with pytest.raises(TransferFailed) as caught:
        result_of("team/data", "claim", status_of(failed("run", "SunWentOut")))
    assert caught.value.reason is Reason.TRANSFER_ERROR


def test_failure_crosses_from_one_process_to_another() -> None:
    error = TransferFailed("team/data", Reason.NOT_FOUND, "create it", Reason.NOT_FOUND)
    found = pickle.loads(pickle.dumps(error))  # noqa: S301 - made a line above
    assert (str(found), found.reason, found.attempt_reason) == (str(error), error.reason, error.attempt_reason)
