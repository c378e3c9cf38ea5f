"""Fixtures of the controller runtime's tests: coroutines run on asyncio; the API server is that of tests/cluster."""

from __future__ import annotations

import pytest

from tests.controller.fake_clock import FakeClock


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
