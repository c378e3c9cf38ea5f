"""Status folding: what a run's observations become, one rule of SPEC section 5 a test."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan, TransferReport, parse_report
from datacube_flows.api.status import ConditionType, DataCubeStatus, Phase
from datacube_flows.core.fold import FINAL_PHASES, fold, initial_status
from datacube_flows.core.observation import AttemptSeen, Observation, PodPhase

pytestmark = pytest.mark.t0

T0 = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return T0 + timedelta(seconds=seconds)


def running(number: int = 1) -> AttemptSeen:
    return AttemptSeen(number, f"p-{number}", PodPhase.RUNNING, "Running", uid="u", started=at(1))


def failed(number: int = 1, reason: Reason = Reason.SERVER_ERROR, text: str = "503 from the store") -> AttemptSeen:
    report = TransferReport(reason, text)
    return AttemptSeen(
        number, f"p-{number}", PodPhase.FAILED, "Error", started=at(1), finished=at(9), exit_code=75, report=report
    )


def succeeded(number: int = 1, report: TransferReport | None = None) -> AttemptSeen:
    report = report or TransferReport(
        Reason.TRANSFER_COMPLETE, listed=5, files=3, skipped=2, bytes=10, verified="checksum", path="dev"
    )
    return AttemptSeen(
        number,
        f"p-{number}",
        PodPhase.SUCCEEDED,
        "Completed",
        started=at(1),
        finished=at(9),
        exit_code=0,
        report=report,
    )


def condition(status: DataCubeStatus, kind: ConditionType) -> tuple[str, str | None, str | None]:
    found = next(c for c in status.conditions or () if c.type is kind)
    return found.status, found.reason, found.message


def test_first_status_has_all_three_conditions_in_order() -> None:
    wire = initial_status(T0, generation=1).to_wire()
    assert [c["type"] for c in wire["conditions"]] == ["Initialized", "Complete", "Failed"]
    assert {c["status"] for c in wire["conditions"]} == {"False"}
    assert wire["phase"] == "Pending"
    assert wire["conditions"][0]["lastTransitionTime"] == "2026-01-01T12:00:00Z"


def test_initialized_turns_true_when_the_attempt_started() -> None:
    status = fold(initial_status(T0), Observation((running(),)), at(2))
    assert condition(status, ConditionType.INITIALIZED) == ("True", None, "The DataCube is initialized")
    assert status.phase is Phase.RUNNING


def test_initialized_stays_true_after_the_end() -> None:
    status = fold(initial_status(T0), Observation((running(),)), at(2))
    status = fold(status, Observation((failed(),)), at(10))
    assert condition(status, ConditionType.INITIALIZED)[0] == "True"


def test_waiting_is_told_in_initialized_and_spends_nothing() -> None:
    waiting = Observation(waiting=(Reason.WAITING_FOR_SECRET, "Secret 's' has no key 'k'"))
    status = fold(initial_status(T0), waiting, at(2))
    assert status.phase is Phase.PENDING
    assert condition(status, ConditionType.INITIALIZED) == ("False", "WaitingForSecret", "Secret 's' has no key 'k'")
    assert status.attempts is None or status.attempts == ()
    assert status.completion_time is None


def test_suspended_before_the_start_is_its_own_phase() -> None:
    status = fold(initial_status(T0), Observation(waiting=(Reason.SUSPENDED, "held")), at(2))
    assert status.phase is Phase.SUSPENDED


def test_success_completes_and_carries_the_result() -> None:
    wire = fold(initial_status(T0), Observation((succeeded(),)), at(10)).to_wire()
    assert wire["phase"] == "Succeeded"
    assert wire["conditions"][1] | {"lastProbeTime": 0, "lastTransitionTime": 0} == {
        "type": "Complete",
        "status": "True",
        "reason": "TransferComplete",
        "message": "The DataCube is complete",
        "lastProbeTime": 0,
        "lastTransitionTime": 0,
    }
    assert wire["result"] == {"files": 3, "bytes": 10, "skipped": 2, "verified": "checksum", "path": "dev"}
    assert wire["pod"] == {"phase": "Succeeded", "reference": {"name": "p-1"}, "status": "Completed"}
    assert wire["startTime"] == "2026-01-01T12:00:01Z"
    assert wire["completionTime"] == "2026-01-01T12:00:09Z"


def test_up_to_date_is_a_success_with_its_own_reason() -> None:
    report = TransferReport(Reason.UP_TO_DATE, listed=2, skipped=2, verified="checksum")
    status = fold(initial_status(T0), Observation((succeeded(report=report),)), at(10))
    assert condition(status, ConditionType.COMPLETE)[:2] == ("True", "UpToDate")


def test_failed_attempt_that_is_retried_is_no_failure() -> None:
    status = fold(initial_status(T0), Observation((failed(),), will_retry=True), at(10))
    assert status.phase is Phase.RUNNING
    assert condition(status, ConditionType.FAILED) == ("False", None, None)


def test_what_is_said_of_a_run_that_goes_on_stands_at_complete_and_moves_no_transition() -> None:
    before = fold(initial_status(T0), Observation((failed(),), will_retry=True), at(10))
    said = (Reason.SERVER_ERROR, "attempt 1 of 2 failed, the next one follows")
    status = fold(before, Observation((failed(),), will_retry=True, said=said), at(20))
    assert status.phase is Phase.RUNNING
    assert condition(status, ConditionType.COMPLETE) == ("False", *said)
    assert [c.last_transition_time for c in status.conditions or ()] == [
        c.last_transition_time for c in before.conditions or ()
    ]
    after = fold(status, Observation((failed(), running(2))), at(30))
    assert condition(after, ConditionType.COMPLETE) == ("False", None, None)


def test_waiting_is_told_of_a_run_that_has_started_too() -> None:
    pending = AttemptSeen(2, "p-2", PodPhase.PENDING, "ErrImagePull")
    waiting = (Reason.IMAGE_PULL_ERROR, "no such image")
    said = (Reason.SERVER_ERROR, "attempt 1 of 2 failed")
    status = fold(initial_status(T0), Observation((failed(), pending), waiting=waiting, said=said), at(10))
    assert status.phase is Phase.RUNNING
    assert condition(status, ConditionType.INITIALIZED)[0] == "True"
    assert condition(status, ConditionType.COMPLETE) == ("False", *waiting)


def test_attempt_that_never_started_is_told_at_initialized() -> None:
    lost = AttemptSeen(1, "", PodPhase.FAILED, "Error", reason=Reason.TRANSFER_ERROR, message="no account")
    said = (Reason.TRANSFER_ERROR, "attempt 1 of 2 failed: no account")
    status = fold(initial_status(T0), Observation((lost,), will_retry=True, said=said), at(10))
    assert condition(status, ConditionType.INITIALIZED) == ("False", *said)
    assert condition(status, ConditionType.COMPLETE) == ("False", None, None)
    assert status.to_wire()["pod"] == {"phase": "Failed", "status": "Error"}


def test_run_does_not_fall_back_to_pending_while_its_pod_is_not_to_be_seen() -> None:
    started = fold(initial_status(T0), Observation((running(),)), at(2))
    status = fold(started, Observation(), at(4))
    assert (status.phase, status.attempts, status.pod) == (Phase.RUNNING, started.attempts, started.pod)


def test_start_of_an_attempt_is_remembered_when_its_pod_is_gone() -> None:
    started = fold(initial_status(T0), Observation((running(),)), at(2))
    gone = AttemptSeen(1, "p-1", PodPhase.FAILED, "Error", finished=at(5), reason=Reason.POD_DELETED, message="gone")
    status = fold(started, Observation((gone,), will_retry=True), at(6))
    assert [a.start_time for a in status.attempts or ()] == [at(1).replace(microsecond=0)]


def test_attempt_whose_pod_is_made_anew_starts_anew() -> None:
    lost = AttemptSeen(1, "p-1", PodPhase.FAILED, "Error", uid="u", started=at(1), reason=Reason.POD_DELETED)
    anew = AttemptSeen(1, "p-1", PodPhase.PENDING, "Pending", uid="v")
    status = fold(initial_status(T0), Observation((lost,), will_retry=True), at(2))
    (attempt,) = fold(status, Observation((anew,)), at(9)).attempts or ()
    assert (attempt.start_time, attempt.reason) == (None, None)


def test_failure_that_a_pod_told_is_remembered_when_the_pod_is_gone() -> None:
    evicted = AttemptSeen(1, "p-1", PodPhase.FAILED, "Error", uid="u", reason=Reason.EVICTED, message="drained")
    gone = AttemptSeen(1, "p-1", PodPhase.FAILED, "Error", reason=Reason.POD_DELETED, message="gone")
    status = fold(initial_status(T0), Observation((evicted,), will_retry=True), at(2))
    assert fold(status, Observation((gone,), will_retry=True), at(9)).attempts == status.attempts


def test_exhausted_retries_tell_the_last_attempts_reason_and_text() -> None:
    seen = Observation((failed(1), failed(2, Reason.DEADLINE_EXCEEDED, "active for 60 s")))
    status = fold(initial_status(T0), seen, at(20))
    holds, reason, message = condition(status, ConditionType.FAILED)
    assert (holds, reason) == ("True", "RetriesExhausted")
    assert message == "the last of 2 attempts failed: DeadlineExceeded: active for 60 s"


def test_permanent_failure_keeps_its_own_reason() -> None:
    status = fold(initial_status(T0), Observation((failed(reason=Reason.ACCESS_DENIED, text="wrong key"),)), at(20))
    assert condition(status, ConditionType.FAILED) == ("True", "AccessDenied", "wrong key")


def test_runners_word_goes_before_the_attempts_own() -> None:
    late = AttemptSeen(
        1,
        "p-1",
        PodPhase.FAILED,
        "DeadlineExceeded",
        started=at(1),
        finished=at(5),
        exit_code=143,
        reason=Reason.DEADLINE_EXCEEDED,
        message="longer than 4 s",
        report=TransferReport(Reason.TRANSFER_ERROR, "told to end"),
    )
    status = fold(initial_status(T0), Observation((late,)), at(6))
    assert status.attempts is not None
    assert status.attempts[0].reason == "DeadlineExceeded"


def test_only_the_newest_ten_attempts_are_kept() -> None:
    seen = Observation(tuple(failed(n) for n in range(1, 14)), will_retry=True)
    status = fold(initial_status(T0), seen, at(20))
    assert [a.number for a in status.attempts or ()] == list(range(4, 14))


def test_transition_time_moves_only_when_the_condition_flips() -> None:
    status = fold(initial_status(T0), Observation((running(),)), at(2))
    status = fold(status, Observation((succeeded(),)), at(10))
    times = {c["type"]: c["lastTransitionTime"][-3:] for c in status.to_wire()["conditions"]}
    assert times == {"Initialized": "02Z", "Complete": "10Z", "Failed": "00Z"}


def test_probe_time_of_all_three_moves_together() -> None:
    status = fold(initial_status(T0), Observation((running(),)), at(2))
    assert len({c.last_probe_time for c in status.conditions or ()}) == 1
    assert status.conditions is not None
    assert status.conditions[2].last_probe_time == at(2).replace(microsecond=0)


def test_nothing_changes_when_the_same_is_seen_again() -> None:
    seen = Observation((running(),))
    status = fold(initial_status(T0), seen, at(2))
    assert fold(status, seen, at(60)) == status


def test_success_of_which_no_start_was_seen_has_started_all_the_same() -> None:
    status = fold(initial_status(T0), Observation((replace(succeeded(), started=None),)), at(10))
    assert [c.status for c in status.conditions or ()] == ["True", "True", "False"]


def test_condition_that_somebody_took_away_is_there_again() -> None:
    whole = initial_status(T0)
    torn = whole.model_copy(update={"conditions": (whole.conditions or ())[2:]})
    mended = fold(torn, Observation(), T0)
    assert mended.conditions == whole.conditions


def test_dry_run_fills_the_plan_and_no_result() -> None:
    report = TransferReport(Reason.TRANSFER_COMPLETE, plan=ChangePlan(add=1, update=2, delete=3, bytes=4))
    wire = fold(initial_status(T0), Observation((succeeded(report=report),)), at(10)).to_wire()
    assert wire["plan"] == {"add": 1, "update": 2, "delete": 3, "bytes": 4}
    assert "result" not in wire


@pytest.mark.parametrize("text", ['{"reason":"UpToDate","files":-1}', '{"reason":"UpToDate","verified":"trust me"}'])
def test_report_that_no_attempt_writes_is_none(text: str) -> None:
    assert parse_report(text) is None


@pytest.mark.parametrize("progress", [{"bytesDone": -1}, {"percent": "half"}, {"filesDone": []}])
def test_counters_that_no_attempt_prints_are_ignored(progress: dict[str, object]) -> None:
    status = fold(initial_status(T0), Observation((running(),), progress=progress), at(2))
    assert status.progress is None


ATTEMPTS = st.lists(st.sampled_from([running, failed, succeeded]), min_size=0, max_size=4).map(
    lambda makers: tuple(make(number) for number, make in enumerate(makers, 1))
)
OBSERVATIONS = st.builds(
    Observation,
    attempts=ATTEMPTS,
    waiting=st.none() | st.just((Reason.QUEUED, "third in line")),
    said=st.none() | st.just((Reason.ENGINE_UNRESPONSIVE, "nothing happens")),
    ended=st.none() | st.just((Reason.CANCELLED, "by hand")),
    will_retry=st.booleans(),
)


@given(st.lists(OBSERVATIONS, min_size=1, max_size=6))
def test_any_history_keeps_the_promises_of_the_status(history: list[Observation]) -> None:
    status = initial_status(T0)
    for second, seen in enumerate(history):
        before, status = status, fold(status, seen, at(second))
        holds = {c.type: c.status for c in status.conditions or ()}
        assert list(holds) == list(ConditionType)
        assert not (holds[ConditionType.COMPLETE] == holds[ConditionType.FAILED] == "True")
        assert (status.phase in FINAL_PHASES) == (
            "True" in (holds[ConditionType.COMPLETE], holds[ConditionType.FAILED])
        )
        if before.phase in FINAL_PHASES:
            assert status == before
        if next(c.status for c in before.conditions or () if c.type is ConditionType.INITIALIZED) == "True":
            assert holds[ConditionType.INITIALIZED] == "True"
