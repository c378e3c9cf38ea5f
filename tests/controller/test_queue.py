"""The queue, against client-go's semantics, by example and against a simple model."""

from __future__ import annotations

import asyncio

import pytest
from datacube_operator.backoff import Backoff
from datacube_operator.queue import Queue
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.controller.fake_clock import FakeClock, settle

pytestmark = [pytest.mark.t0, pytest.mark.anyio]


@pytest.fixture
def queue(clock: FakeClock) -> Queue:
    return Queue(clock, Backoff(first=1, cap=8, jitter=0), lambda: 0.5)


async def test_queue_hands_out_in_the_order_of_adding(queue: Queue) -> None:
    for key in "abc":
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]


async def test_queue_hands_out_once_what_was_added_twice(queue: Queue) -> None:
    queue.add("a")
    queue.add("a")
    assert len(queue) == 1
    await queue.get()
    assert len(queue) == 0


async def test_queue_hands_out_again_after_done_what_was_added_meanwhile(queue: Queue) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")
    waiting = asyncio.create_task(queue.get())
    await settle()
    assert not waiting.done()
    queue.done("a")
    assert await waiting == "a"


async def test_queue_lets_no_busy_key_go_before_others(queue: Queue) -> None:
    queue.add("busy")
    await queue.get()
    queue.add("busy")
    queue.add("other")
    queue.done("busy")
    assert [await queue.get(), await queue.get()] == ["other", "busy"]


async def test_queue_wakes_one_worker_for_one_key(queue: Queue) -> None:
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settle()
    queue.add("a")
    await settle()
    assert [w.done() for w in workers] == [True, False, False]
    queue.close()
    assert [await w for w in workers] == ["a", None, None]


async def test_queue_loses_no_key_to_a_worker_that_is_cancelled(queue: Queue) -> None:
    worker = asyncio.create_task(queue.get())
    await settle()
    queue.add("a")
    worker.cancel()
    await settle()
    assert len(queue) == 1
    assert await queue.get() == "a"


async def test_queue_delivers_a_delayed_key_at_the_earliest_time_asked_for(queue: Queue, clock: FakeClock) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 3)
    queue.add_after("a", 20)
    clock.move(2.9)
    assert len(queue) == 0
    clock.move(0.1)
    assert await queue.get() == "a"
    queue.done("a")
    clock.move(30)
    assert len(queue) == 0


async def test_queue_waits_longer_after_each_failure_until_forgotten(queue: Queue) -> None:
    assert [queue.add_failed("a") for _ in range(5)] == [1, 2, 4, 8, 8]
    assert queue.add_failed("b") == 1
    queue.forget("a")
    assert queue.add_failed("a") == 1


async def test_queue_waits_at_least_as_long_as_the_server_asked(queue: Queue) -> None:
    assert queue.add_failed("a", 7) == 7


@pytest.mark.parametrize("is_added_meanwhile", [True, False])
async def test_queue_leaves_a_key_alone_as_long_as_a_server_asked_whoever_else_adds_it(
    queue: Queue, clock: FakeClock, *, is_added_meanwhile: bool
) -> None:
    queue.add("a")
    await queue.get()
    if is_added_meanwhile:
        queue.add("a")
    queue.add_failed("a", 7)
    queue.done("a")
    queue.add("a")
    assert len(queue) == 0
    clock.move(6.9)
    assert len(queue) == 0
    clock.move(0.2)
    assert await queue.get() == "a"
    queue.forget("a")
    queue.done("a")
    queue.add("a")
    assert len(queue) == 1


async def test_queue_keeps_a_delayed_key_apart_from_the_same_key_added_now(queue: Queue, clock: FakeClock) -> None:
    queue.add_after("a", 5)
    queue.add("a")
    await queue.get()
    queue.done("a")
    clock.move(5)
    assert await queue.get() == "a"


async def test_queue_hands_out_nothing_after_close(queue: Queue, clock: FakeClock) -> None:
    queue.add("a")
    queue.add_after("b", 1)
    queue.close()
    queue.close()
    queue.add("c")
    queue.add_after("d", 1)
    clock.move(10)
    assert [await queue.get(), await queue.get()] == [None, None]
    assert not clock.timers


KEYS = st.sampled_from("abcd")


class QueueMachine(RuleBasedStateMachine):
    """Any order of calls, beside a model: who asked for what, who has what, what is due when."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.queue = Queue(self.clock, Backoff(first=1, cap=8, jitter=0), lambda: 0.5)
        self.runner = asyncio.Runner()
        self.wanted: list[str] = []
        """Keys to be handed out, in the order in which they became so, without those held."""
        self.held: dict[str, bool] = {}
        """Keys that workers have -> whether they were added meanwhile."""
        self.due: dict[str, float] = {}

    def teardown(self) -> None:
        self.runner.close()

    def model_add(self, key: str) -> None:
        if key in self.held:
            self.held[key] = True
        elif key not in self.wanted:
            self.wanted.append(key)

    def model_add_after(self, key: str, seconds: float) -> None:
        due = self.clock.now() + seconds
        if due < self.due.get(key, 1e9):
            self.due.pop(key, None)  # equal times come in the order of asking, which a dict keeps
            self.due[key] = due

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.model_add(key)

    @rule(key=KEYS, seconds=st.integers(1, 9))
    def add_after(self, key: str, seconds: int) -> None:
        self.queue.add_after(key, seconds)
        self.model_add_after(key, seconds)

    @rule(key=KEYS)
    def fail(self, key: str) -> None:
        self.model_add_after(key, self.queue.add_failed(key))

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)

    @precondition(lambda self: self.wanted)
    @rule()
    def get(self) -> None:
        key = self.runner.run(asyncio.wait_for(self.queue.get(), 1))
        assert key == self.wanted.pop(0)
        assert key not in self.held
        self.held[key] = False

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.queue.done(key)
        if self.held.pop(key):
            self.wanted.append(key)

    @rule(seconds=st.integers(1, 9))
    def move(self, seconds: int) -> None:
        self.clock.move(seconds)
        for key in sorted(self.due, key=lambda k: self.due[k]):
            if self.due[key] <= self.clock.now():
                del self.due[key]
                self.model_add(key)

    @invariant()
    def has_what_is_wanted(self) -> None:
        assert len(self.queue) == len(self.wanted)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestQueueMachine.pytestmark = [pytest.mark.t0]
