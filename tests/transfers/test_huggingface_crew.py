"""The threads of a download: order, errors, and an end in any case."""

from __future__ import annotations

import threading
import time

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.hf_crew import Crew

pytestmark = pytest.mark.t0


def test_crew_runs_what_was_begun_before_anything_new() -> None:
    done: list[str] = []
    with Crew(1, threading.Event()) as crew:

        def begin(name: str) -> None:
            done.append(name)
            crew.submit_next([lambda: done.append(name + "1"), lambda: done.append(name + "2")])

        for name in "ab":
            crew.submit(lambda name=name: begin(name))
    assert done == ["a", "a1", "a2", "b", "b1", "b2"]


def test_crew_raises_the_first_error_and_begins_nothing_more() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("first")

    def run() -> None:
        with Crew(1, threading.Event()) as crew:
            crew.submit(fail)
            for number in range(5):
                crew.submit(lambda number=number: done.append(number))

    with pytest.raises(ValueError, match="first"):
        run()
    assert done == []


def test_crew_raises_when_it_is_stopped_before_it_is_done() -> None:
    stop = threading.Event()

    def run() -> None:
        with Crew(2, stop) as crew:
            crew.submit(stop.set)
            crew.submit(lambda: time.sleep(0.05))
            for _number in range(100):
                crew.submit(lambda: time.sleep(0.05))

    with pytest.raises(TransferError) as caught:
        run()
    assert caught.value.reason is Reason.TRANSFER_ERROR


def test_crew_does_not_wait_for_a_thread_that_hangs() -> None:
    release = threading.Event()

    def run() -> None:
        with Crew(2, threading.Event()) as crew:
            crew.submit(release.wait)
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run()
    release.set()
    assert time.monotonic() - start < 3


def test_crew_without_tasks_ends() -> None:
    with Crew(3, threading.Event()):
        pass
