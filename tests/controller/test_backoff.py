"""Pauses after failures."""

from __future__ import annotations

import pytest
from datacube_operator.backoff import Backoff, Failures
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.t0
MIDDLE = 0.5


def test_backoff_doubles_up_to_its_cap() -> None:
    backoff = Backoff(first=1, cap=10, jitter=0.5)
    assert [backoff.seconds(n, MIDDLE) for n in (1, 2, 3, 4, 5, 6)] == [1, 2, 4, 8, 10, 10]


@given(failures=st.integers(1, 10_000), number=st.floats(0, 1, exclude_max=True))
def test_backoff_stays_within_its_spread_however_many_failures(failures: int, number: float) -> None:
    backoff = Backoff(first=0.5, cap=30, jitter=0.5)
    assert 0.25 <= backoff.seconds(failures, number) <= 45


def test_failures_begin_anew_after_reset() -> None:
    failures = Failures(Backoff(first=1, cap=10, jitter=0), lambda: MIDDLE)
    assert [failures.pause(), failures.pause()] == [1, 2]
    failures.reset()
    assert failures.pause() == 1
