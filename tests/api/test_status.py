"""The status goes onto the wire exactly as SPEC section 5 shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import (
    AttemptStatus,
    Condition,
    ConditionType,
    DataCubeStatus,
    Phase,
    PodReference,
    PodStatus,
    ResultStatus,
)

pytestmark = pytest.mark.t0

NOW = datetime(2024, 4, 25, 6, 28, 45, 999_999, tzinfo=UTC)


def test_status_writes_wire_names_in_wire_order() -> None:
    assert [f.alias for f in DataCubeStatus.model_fields.values()] == [
        "observedGeneration",
        "phase",
        "startTime",
        "completionTime",
        "pod",
        "conditions",
        "progress",
        "attempts",
        "result",
        "workflow",
        "plan",
    ]


def test_status_leaves_out_what_is_absent() -> None:
    status = DataCubeStatus(
        phase=Phase.RUNNING,
        start_time=NOW,
        pod=PodStatus(phase="Running", reference=PodReference(name="p", uid="u"), status="Running"),
        attempts=(AttemptStatus(number=1, reason=Reason.OOM_KILLED, exit_code=137),),
        result=ResultStatus(files=0, verified="git"),
    )
    assert status.to_wire() == {
        "phase": "Running",
        "startTime": "2024-04-25T06:28:45Z",
        "pod": {"phase": "Running", "reference": {"name": "p", "uid": "u"}, "status": "Running"},
        "attempts": [{"number": 1, "reason": "OOMKilled", "exitCode": 137}],
        "result": {"files": 0, "verified": "git"},
    }


def test_status_reads_back_what_it_wrote() -> None:
    conditions = tuple(Condition(type=t, status="False", last_probe_time=NOW) for t in ConditionType)
    status = DataCubeStatus(conditions=conditions, start_time=NOW)
    assert DataCubeStatus.model_validate(status.to_wire()) == status


def test_status_ignores_fields_of_a_newer_writer() -> None:
    assert DataCubeStatus.model_validate({"phase": "Failed", "news": 1}) == DataCubeStatus(phase=Phase.FAILED)


def test_time_is_written_in_utc() -> None:
    moment = NOW.astimezone(timezone(timedelta(hours=8)))
    assert DataCubeStatus(start_time=moment).to_wire() == {"startTime": "2024-04-25T06:28:45Z"}


def test_conditions_are_three_in_a_fixed_order() -> None:
    assert [str(t) for t in ConditionType] == ["Initialized", "Complete", "Failed"]


def test_status_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DataCubeStatus().phase = Phase.FAILED  # type: ignore[misc]


def test_verified_is_a_closed_list() -> None:
    with pytest.raises(ValidationError, match="checksum"):
        ResultStatus.model_validate({"verified": "md5"})
