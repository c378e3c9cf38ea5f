"""What a failed request is called."""

from __future__ import annotations

from typing import Any

import pytest
from datacube_operator import errors

from tests.canary import CANARY

pytestmark = pytest.mark.t0


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        pytest.param(401, {}, errors.Unauthorized, id="401"),
        pytest.param(403, {"reason": "Forbidden"}, errors.Forbidden, id="403"),
        pytest.param(404, {"reason": "NotFound"}, errors.NotFound, id="404"),
        pytest.param(409, {"reason": "Conflict"}, errors.Conflict, id="409-conflict"),
        pytest.param(409, {"reason": "AlreadyExists"}, errors.AlreadyExists, id="409-exists"),
        pytest.param(410, {"reason": "Expired"}, errors.Gone, id="410-expired"),
        pytest.param(410, {"reason": "Gone"}, errors.Gone, id="410-gone"),
        pytest.param(0, {"code": 410, "reason": "Expired"}, errors.Gone, id="410-in-a-stream"),
        pytest.param(422, {"reason": "Invalid"}, errors.Invalid, id="422"),
        pytest.param(429, {"reason": "TooManyRequests"}, errors.TooManyRequests, id="429"),
        pytest.param(500, {"reason": "InternalError"}, errors.Unavailable, id="500"),
        pytest.param(503, {}, errors.Unavailable, id="503-of-a-proxy"),
        pytest.param(400, {"reason": "BadRequest"}, errors.ApiError, id="400"),
    ],
)
def test_error_is_named_after_the_servers_reason(code: int, status: dict[str, Any], kind: type[Exception]) -> None:
    assert type(errors.error_from_status("get x", status, code=code)) is kind


@pytest.mark.parametrize(
    ("header", "details", "seconds"), [(7.0, {}, 7), (0.0, {"retryAfterSeconds": 3}, 3), (0, {}, 0)]
)
def test_error_says_when_to_come_again(header: float, details: dict[str, Any], seconds: float) -> None:
    error = errors.error_from_status("get x", {"details": details}, code=429, retry_after=header)
    assert error.retry_after == seconds


def test_error_does_not_repeat_what_the_server_quotes() -> None:
    error = errors.error_from_status("patch x", {"code": 422, "reason": "Invalid", "message": f'"{CANARY}": no'})
    assert str(error) == "patch x: 422 Invalid"
    assert CANARY in error.message
