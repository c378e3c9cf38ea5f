from __future__ import annotations

from typing import Any

import pytest

from datacube_flows.pipelines.narrator import Narrator
from tests.pipelines.documents import condition, conditions, failed, running, status_of, succeeded

pytestmark = pytest.mark.t0


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def told(narrator: Narrator, status: dict[str, Any]) -> list[str]:
    return narrator.lines(status_of(status))


def test_narrator_tells_each_state_once() -> None:
    narrator = Narrator(Clock())
    said = condition("Initialized", "False", "WaitingForVolume", "there is no claim 'x'")
    waiting = {"phase": "Pending", "conditions": [said]}
    assert told(narrator, waiting) == ["Pending: WaitingForVolume: there is no claim 'x'"]
    assert told(narrator, waiting) == []
    assert told(narrator, running("r")) == ["Running: attempt 1 in pod r-1"]
    assert told(narrator, succeeded("r")) == [
        "Succeeded: 3 files, 2.0 kB moved, verified by git, revision aaaaaaaaaaaa; sets/repo"
    ]


def test_narrator_tells_progress_every_fifteen_seconds() -> None:
    clock = Clock()
    narrator = Narrator(clock)
    lines = []
    for second in range(31):
        clock.now = 100.0 + second
        progress = {"percent": second, "bytesDone": second * 1000, "bytesTotal": 100_000}
        lines += told(narrator, running("r", progress=progress))
    assert lines == [
        "Running: attempt 1 in pod r-1",
        "0 %, 0 bytes of 100.0 kB",
        "15 %, 15.0 kB of 100.0 kB",
        "30 %, 30.0 kB of 100.0 kB",
    ]


def test_narrator_tells_an_attempt_that_failed_once_also_when_the_next_one_runs() -> None:
    narrator = Narrator(Clock())
    first = {"number": 1, "pod": "r-1", "reason": "Stalled", "message": "no byte for 60 s", "finishTime": None}
    second = {"number": 2, "pod": "r-2", "startTime": "2026-01-01T00:00:00Z"}
    status = running("r") | {"attempts": [first, second]}
    assert told(narrator, status) == ["attempt 1 failed: Stalled: no byte for 60 s", "Running: attempt 2 in pod r-2"]
    assert told(narrator, status) == []


def test_narrator_tells_what_is_said_of_a_run_that_goes_on() -> None:
    narrator = Narrator(Clock())
    told(narrator, running("r"))
    limited = condition("Complete", "False", "RateLimited", "the hub limits the rate")
    status = running("r") | {"conditions": [condition("Initialized", "True"), limited]}
    assert told(narrator, status) == ["Running: attempt 1 in pod r-1: RateLimited: the hub limits the rate"]


def test_narrator_tells_why_a_run_failed() -> None:
    lines = told(Narrator(Clock()), failed("r"))
    assert lines[-1] == "Failed: AccessDenied: give a token that may read"


def test_narrator_tells_nothing_made_up_of_a_status_that_is_empty() -> None:
    assert told(Narrator(Clock()), {}) == ["no operator has looked at it yet"]
    assert told(Narrator(Clock()), {"phase": "Pending", "conditions": conditions()}) == ["Pending"]


def test_narrator_tells_trouble_once_a_minute() -> None:
    clock = Clock()
    narrator = Narrator(clock)
    lines = []
    for clock.now in (100.0, 130.0, 159.0, 160.0, 161.0):
        lines.append(narrator.trouble("away"))
    assert lines == [["away"], [], [], ["away"], []]
