"""Retries: every reason has a class, codes carry it, pauses grow and are bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.reasons import PERMANENT, RETRIED, SUCCEEDED, WAITING, Reason
from datacube_flows.core.retry import EXIT_OK, EXIT_PERMANENT, EXIT_RETRYABLE, backoff_seconds, exit_code, is_retried

pytestmark = pytest.mark.t0


def test_every_reason_is_in_exactly_one_class_but_the_running_ones() -> None:
    running = {Reason.TRANSFERRING, Reason.RATE_LIMITED, Reason.ENGINE_UNRESPONSIVE, Reason.RETRIES_EXHAUSTED}
    for reason in Reason:
        classes = [c for c in (WAITING, RETRIED, PERMANENT, SUCCEEDED, running) if reason in c]
        assert len(classes) == 1, reason


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.TRANSFER_COMPLETE, EXIT_OK),
        (Reason.UP_TO_DATE, EXIT_OK),
        (Reason.ACCESS_DENIED, EXIT_PERMANENT),
        (Reason.DISK_FULL, EXIT_PERMANENT),
        (Reason.SERVER_ERROR, EXIT_RETRYABLE),
        (Reason.INTEGRITY_MISMATCH, EXIT_RETRYABLE),
    ],
)
def test_exit_code_tells_the_class(reason: Reason, code: int) -> None:
    assert exit_code(reason) == code


def test_attempts_are_limit_plus_one() -> None:
    made = 1
    while is_retried(Reason.SERVER_ERROR, attempts=made, backoff_limit=2):
        made += 1
    assert made == 3


def test_permanent_failure_is_not_retried() -> None:
    assert not is_retried(Reason.NOT_FOUND, attempts=1, backoff_limit=5)


def test_pauses_double_from_ten_seconds_to_six_minutes() -> None:
    assert [backoff_seconds(n, jitter=0.5) for n in range(1, 8)] == [10, 20, 40, 80, 160, 320, 360]


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_pause_is_bounded_for_any_number_of_failures(failures: int, jitter: float) -> None:
    assert 8 <= backoff_seconds(failures, jitter=jitter) <= 360 * 1.2
