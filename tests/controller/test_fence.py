"""The question that every write asks."""

from __future__ import annotations

import math

import pytest
from datacube_operator.errors import NotLeader
from datacube_operator.fence import Fence

from tests.controller.fake_clock import FakeClock

pytestmark = pytest.mark.t0


def test_fence_is_closed_from_the_start(clock: FakeClock) -> None:
    fence = Fence(clock)
    assert not fence.is_open
    with pytest.raises(NotLeader):
        fence.remaining()


def test_fence_closes_by_itself_when_its_time_is_over(clock: FakeClock) -> None:
    fence = Fence(clock)
    fence.extend(10)
    clock.move(9)
    assert fence.remaining() == 1
    clock.move(1)
    with pytest.raises(NotLeader):
        fence.remaining()


def test_fence_that_was_closed_is_closed_though_time_was_left(clock: FakeClock) -> None:
    fence = Fence(clock)
    fence.extend(10)
    fence.close()
    assert not fence.is_open


def test_no_fence_lets_everything_pass(clock: FakeClock) -> None:
    assert Fence.none(clock).remaining() == math.inf
