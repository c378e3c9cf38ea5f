"""What a Lease says, and what is made of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from datacube_operator.clock import micro_time
from datacube_operator.lease import LeaseTiming, Seen, look, make_lease, release, take

pytestmark = pytest.mark.t0
TIMING = LeaseTiming()
NOW = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)


def lease_of(holder: str, *, version: str = "1", uid: str = "u") -> dict[str, Any]:
    lease = make_lease("default", "leader", holder, TIMING, NOW)
    lease["metadata"] |= {"uid": uid, "resourceVersion": version}
    return lease


def test_micro_time_is_utc_with_six_digits_wherever_the_clock_hangs() -> None:
    east = datetime(2026, 3, 1, 20, 0, 0, 250, tzinfo=timezone(timedelta(hours=8)))
    assert micro_time(east) == micro_time(NOW) == "2026-03-01T12:00:00.000250Z"


def test_lease_is_free_only_when_seen_unchanged_for_its_duration() -> None:
    seen = look(None, lease_of("other"), now=100.0)
    assert not seen.is_free(114.9)
    assert seen.is_free(115.0)


def test_lease_that_was_renewed_is_known_anew() -> None:
    seen = look(look(None, lease_of("other"), 100.0), lease_of("other", version="2"), 110.0)
    assert seen.since == 110.0


def test_lease_that_did_not_change_is_known_as_long_as_before() -> None:
    assert look(look(None, lease_of("other"), 100.0), lease_of("other"), 110.0).since == 100.0


def test_lease_that_was_made_anew_is_known_anew_even_under_an_old_version() -> None:
    assert look(look(None, lease_of("other"), 100.0), lease_of("other", uid="v"), 110.0).since == 110.0


def test_lease_with_a_renew_time_long_ago_is_not_free_at_first_sight() -> None:
    lease = lease_of("other")
    lease["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z"
    assert not look(None, lease, 100.0).is_free(100.0)


def test_lease_without_a_holder_is_free_at_once() -> None:
    assert Seen(release(lease_of("other"), NOW), 100.0).is_free(100.0)


def test_lease_without_a_spec_is_free() -> None:
    assert Seen({"metadata": {}}, 100.0).is_free(100.0)


def test_take_counts_a_change_of_hands_and_no_renewal() -> None:
    taken = take(lease_of("other"), "me", TIMING, NOW + timedelta(seconds=20))
    renewed = take(taken, "me", TIMING, NOW + timedelta(seconds=22))
    assert taken["spec"]["leaseTransitions"] == renewed["spec"]["leaseTransitions"] == 1
    assert taken["spec"]["acquireTime"] == renewed["spec"]["acquireTime"] == "2026-03-01T12:00:20.000250Z"
    assert renewed["spec"]["renewTime"] == "2026-03-01T12:00:22.000250Z"


def test_take_keeps_the_version_that_it_is_based_on() -> None:
    assert take(lease_of("other", version="7"), "me", TIMING, NOW)["metadata"]["resourceVersion"] == "7"


def test_take_leaves_what_it_was_given_as_it_is() -> None:
    lease = lease_of("other")
    take(lease, "me", TIMING, NOW)
    assert lease == lease_of("other")


@pytest.mark.parametrize(("duration", "write", "retry"), [(10, 10.0, 2.0), (15, 2.0, 2.0), (15, 10.0, 0.0)])
def test_lease_timing_is_refused_when_two_could_write(duration: int, write: float, retry: float) -> None:
    with pytest.raises(ValueError, match=re.escape("retry_seconds < write_seconds < duration_seconds")):
        LeaseTiming(duration, write, retry)
