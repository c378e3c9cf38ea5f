"""How the end of a reconcile decides when its key comes again."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from datacube_operator.backoff import Backoff
from datacube_operator.controller import Controller, Pace, Result
from datacube_operator.errors import Conflict, NotLeader, PermanentError, TemporaryError, TooManyRequests
from datacube_operator.metrics import Metrics
from datacube_operator.queue import Queue

from tests.canary import CANARY
from tests.controller.fake_clock import FakeClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.t0, pytest.mark.anyio]


class Desk:
    """A controller at work on a fake clock; a reconcile ends as its key's script says, then well."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.metrics = clock, Metrics()
        self.queue = Queue(clock, Backoff(first=1, cap=60, jitter=0), lambda: 0.5)
        self.scripts: dict[str, list[Exception | Result]] = {}
        self.calls: list[tuple[str, float]] = []
        self.blocked: dict[str, asyncio.Event] = {}
        self.running: list[str] = []
        self.keys: list[str] = []
        self.controller = Controller(
            "cubes",
            self.queue,
            self.reconcile,
            keys=lambda: self.keys,
            clock=clock,
            metrics=self.metrics,
            pace=Pace(workers=3),
        )
        self.task = asyncio.create_task(self.controller.run())

    async def reconcile(self, key: str) -> Result:
        assert key not in self.running
        self.calls.append((key, self.clock.now()))
        self.running.append(key)
        try:
            if key in self.blocked:
                await self.blocked[key].wait()
            script = self.scripts.get(key)
            end = script.pop(0) if script else Result()
            if isinstance(end, Exception):
                raise end
            return end
        finally:
            self.running.remove(key)

    def outcome(self, name: str) -> float | None:
        labels = {"controller": "cubes", "outcome": name}
        return self.metrics.registry.get_sample_value("datacube_reconcile_seconds_count", labels)


@pytest.fixture
async def desk(clock: FakeClock) -> AsyncIterator[Desk]:
    made = Desk(clock)
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def times_of(desk: Desk, *ends: Exception | Result, seconds: float = 100) -> list[float]:
    """When a key that ends so is reconciled."""
    desk.scripts["k"] = list(ends)
    desk.queue.add("k")
    await desk.clock.pass_(seconds)
    return [time for _, time in desk.calls]


async def test_reconcile_that_ended_well_is_not_repeated(desk: Desk) -> None:
    assert await times_of(desk, Result()) == [0]
    assert desk.outcome("ok") == 1


async def test_reconcile_comes_again_when_it_asks_to(desk: Desk) -> None:
    assert await times_of(desk, Result(requeue_after=30)) == [0, 30]


async def test_bug_is_retried_with_growing_pauses_and_logged_without_values(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    bug = ValueError(f"cannot read {CANARY}")
    assert await times_of(desk, bug, bug, bug) == [0, 1, 3, 7]
    entries = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [e["seconds"] for e in entries] == [1, 2, 4]
    assert {e["error"] for e in entries} == {"ValueError"}
    assert all(any(frame.startswith("test_controller.py:") for frame in e["trace"]) for e in entries)
    assert CANARY not in json.dumps(entries)


async def test_permanent_error_waits_for_a_change(desk: Desk) -> None:
    assert await times_of(desk, PermanentError("its spec cannot be read")) == [0]
    assert desk.outcome("permanent") == 1
    desk.queue.add("k")
    await desk.clock.pass_(1)
    assert len(desk.calls) == 2


async def test_temporary_error_comes_again_after_its_delay(desk: Desk) -> None:
    wait = TemporaryError("no volume yet", 20)
    assert await times_of(desk, wait, wait) == [0, 20, 40]


async def test_conflict_is_retried_with_back_off(desk: Desk) -> None:
    assert await times_of(desk, Conflict("patch x", 409, "Conflict")) == [0, 1]


async def test_server_that_is_busy_is_left_alone_as_long_as_it_asks(desk: Desk) -> None:
    busy = TooManyRequests("patch x", 429, "TooManyRequests", retry_after=17)
    assert await times_of(desk, busy) == [0, 17]


async def test_reconcile_that_the_fence_stopped_comes_again_in_case_the_lease_is_renewed(desk: Desk) -> None:
    assert await times_of(desk, NotLeader("stopped")) == [0, 1]
    assert desk.outcome("stopped") == 1


async def test_success_makes_the_next_pause_short_again(desk: Desk) -> None:
    bug = ValueError()
    assert await times_of(desk, bug, bug, Result(requeue_after=10), bug) == [0, 1, 3, 13, 14]


async def test_key_is_never_with_two_workers_and_is_seen_again_after_a_change(desk: Desk) -> None:
    desk.blocked["k"] = asyncio.Event()
    for _ in range(3):
        desk.queue.add("k")
        await settle()
    assert len(desk.calls) == 1
    desk.blocked["k"].set()
    await settle()
    assert len(desk.calls) == 2


async def test_one_slow_key_does_not_hold_the_others(desk: Desk) -> None:
    desk.blocked["slow"] = asyncio.Event()
    for key in ("slow", "a", "b", "c", "d"):
        desk.queue.add(key)
    await settle()
    assert [key for key, _ in desk.calls] == ["slow", "a", "b", "c", "d"]


async def test_no_more_than_the_workers_run_at_once(desk: Desk) -> None:
    for key in "abcde":
        desk.blocked[key] = asyncio.Event()
        desk.queue.add(key)
    await settle()
    assert sorted(desk.running) == ["a", "b", "c"]


async def test_resync_looks_at_every_key(desk: Desk) -> None:
    desk.keys = ["a", "b"]
    await desk.clock.pass_(1250, step=50)
    assert desk.calls == [("a", 600), ("b", 600), ("a", 1200), ("b", 1200)]


async def test_stop_lets_what_runs_end_and_starts_nothing(desk: Desk) -> None:
    desk.blocked["a"] = asyncio.Event()
    for key in ("a", "b", "c"):
        desk.queue.add(key)
    await settle()
    desk.queue.add("a")
    desk.controller.stop()
    desk.queue.add("d")
    await settle()
    assert not desk.task.done()
    desk.blocked["a"].set()
    await desk.task
    assert [key for key, _ in desk.calls] == ["a", "b", "c"]
