"""Which changes of a status are worth an event: few, and none twice for the same thing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from datacube_operator.announce import MAX_NOTICES, announce
from datacube_operator.events import Words

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import TransferReport
from datacube_flows.api.status import DataCubeStatus
from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.observation import AttemptSeen, Observation, PodPhase
from tests.controller.fake_clock import START

pytestmark = pytest.mark.t0

NEW = initial_status(START)


def attempt(
    number: int, phase: PodPhase, reason: Reason | None = None, *, notices: tuple[str, ...] = ()
) -> AttemptSeen:
    report = TransferReport(reason or Reason.TRANSFER_COMPLETE, message="as it says", files=3, bytes=9, notices=notices)
    is_over = phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)
    return AttemptSeen(number, f"pod-{number}", phase, "", started=START, report=report if is_over else None)


def running(*failed: Reason) -> Observation:
    seen = tuple(attempt(number, PodPhase.FAILED, reason) for number, reason in enumerate(failed, 1))
    return Observation((*seen, attempt(len(failed) + 1, PodPhase.RUNNING)))


def waiting(reason: Reason, text: str = "why") -> Observation:
    return Observation(waiting=(reason, text))


def saying(reason: Reason, text: str = "why") -> Observation:
    return replace(running(), said=(reason, text))


def story(*seen: Observation, before: DataCubeStatus = NEW) -> list[Words]:
    """Returns what is said while one thing after another is seen."""
    said: list[Words] = []
    for number, one in enumerate(seen):
        after = fold(before, one, START + timedelta(seconds=number))
        said += announce(before, after, one)
        before = after
    return said


def told(*seen: Observation) -> list[tuple[str, str]]:
    return [(words.type, words.reason) for words in story(*seen)]


SUCCESS = Observation((attempt(1, PodPhase.SUCCEEDED),))
FLAKY = replace(running(), attempts=(attempt(1, PodPhase.FAILED, Reason.SERVER_ERROR),), will_retry=True)
MISSING = Observation((attempt(1, PodPhase.FAILED, Reason.NOT_FOUND),))


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        pytest.param((Observation(), running(), running()), [], id="begins and runs"),
        pytest.param((running(), SUCCESS, SUCCESS), [("Normal", "TransferComplete")], id="ends well"),
        pytest.param((running(), MISSING), [("Warning", "NotFound")], id="ends"),
        pytest.param(
            (running(), FLAKY, running(Reason.SERVER_ERROR), running(Reason.SERVER_ERROR)),
            [("Warning", "ServerError")],
            id="is tried again",
        ),
        pytest.param(
            (FLAKY, replace(FLAKY, said=(Reason.SERVER_ERROR, "the next one follows"))),
            [("Warning", "ServerError")],
            id="is tried again, and says so",
        ),
        pytest.param((waiting(Reason.PATH_BUSY),) * 2, [("Normal", "PathBusy")], id="waits for a path"),
        pytest.param(
            (waiting(Reason.PATH_BUSY, "for a"), waiting(Reason.PATH_BUSY, "for b")),
            [("Normal", "PathBusy")],
            id="waits for one after the other",
        ),
        pytest.param(
            (waiting(Reason.WAITING_FOR_SECRET, "a"), waiting(Reason.WAITING_FOR_SECRET, "b")),
            [("Warning", "WaitingForSecret")] * 2,
            id="lacks one thing, then another",
        ),
        pytest.param(
            (waiting(Reason.WAITING_FOR_VOLUME), waiting(Reason.QUOTA_EXCEEDED)),
            [("Warning", "WaitingForVolume"), ("Warning", "QuotaExceeded")],
            id="waits for one reason, then another",
        ),
        pytest.param((waiting(Reason.SUSPENDED),), [("Normal", "Suspended")], id="held"),
        pytest.param(
            (saying(Reason.RATE_LIMITED, "until 1"), saying(Reason.RATE_LIMITED, "until 2")),
            [("Normal", "RateLimited")],
            id="the store asks to wait, again and again",
        ),
        pytest.param((saying(Reason.STALLED),), [("Warning", "Stalled")], id="nothing moves"),
        pytest.param((waiting(Reason.PATH_BUSY), Observation()), [("Normal", "PathBusy")], id="the path is free"),
        pytest.param((Observation(ended=(Reason.RUN_DELETED, "gone")),), [("Warning", "RunDeleted")], id="deleted"),
    ],
)
def test_change_is_announced_once(seen: tuple[Observation, ...], said: list[tuple[str, str]]) -> None:
    assert told(*seen) == said


def test_end_says_what_was_moved_and_what_the_attempt_had_to_say() -> None:
    notices = tuple(f"notice {number}" for number in range(MAX_NOTICES + 2))
    seen = Observation((attempt(1, PodPhase.SUCCEEDED, notices=notices),))
    end, *more = story(seen)
    assert (end.note, end.action) == ("3 files, 9 bytes moved", "Complete")
    assert [words.note for words in more] == list(notices[:MAX_NOTICES])
    assert {(words.type, words.reason) for words in more} == {("Normal", "Notice")}


def test_end_without_result_is_said_all_the_same() -> None:
    seen = Observation((replace(attempt(1, PodPhase.SUCCEEDED), report=None),))
    assert [words.note for words in story(seen)] == ["the transfer is complete"]


def test_failure_says_why_and_which_attempt_it_was() -> None:
    (retry,) = story(FLAKY)
    assert retry.note == "attempt 1 failed and is followed by another: as it says"
    (end,) = story(replace(FLAKY, will_retry=False))
    assert (end.reason, end.action) == ("RetriesExhausted", "Fail")
    assert "ServerError: as it says" in end.note


def test_next_run_has_events_of_its_own() -> None:
    ended = fold(NEW, MISSING, START)
    seen = replace(FLAKY, attempts=(replace(FLAKY.attempts[0], pod="pod-of-the-next-run"),))
    after = fold(initial_status(START), seen, START)
    assert [words.reason for words in announce(ended, after, seen)] == ["ServerError"]


def test_second_failure_in_a_row_is_said_too() -> None:
    ended = fold(NEW, MISSING, START)
    seen = Observation(ended=(Reason.VOLUME_LOST, "gone"))
    after = fold(initial_status(START), seen, START + timedelta(seconds=9))
    assert [words.reason for words in announce(ended, after, seen)] == ["VolumeLost"]
    assert list(announce(after, after, seen)) == []
