"""What is done about a flow run: each row is one way in which the server and a DataCube can stand to each other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from datacube_operator.cube import Cube, read_status
from datacube_operator.prefect_decisions import Deed, asks_for, decide, place_told, rerun_for

from datacube_flows.core import labels
from datacube_flows.engines.prefect_server import RunSeen

pytestmark = pytest.mark.t0

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OLD = NOW - timedelta(hours=1)
ID = "0f0e0d0c-0000-4000-8000-000000000001"
OTHER = "0f0e0d0c-0000-4000-8000-000000000002"


def seen(state: str = "RUNNING", name: str = "", *, created: datetime = OLD) -> RunSeen:
    return RunSeen(ID, "team/cube", "uid", "cube-1", state, name or state.title(), "", created, 2)


def cube(phase: str = "Running", *, run: str = "cube-1", uid: str = ID, rerun: str = "", going: bool = False) -> Cube:
    about: dict[str, Any] = {"namespace": "team", "name": "cube", "uid": "uid", "annotations": {labels.RERUN: rerun}}
    about |= {"deletionTimestamp": "2030-01-01T00:00:00Z"} if going else {}
    workflow = {"engine": "prefect", "name": run, "uid": uid} if run else None
    document = {"metadata": about, "spec": {}, "status": {"phase": phase, "workflow": workflow}}
    return Cube(document, read_status(document))


HELD = cube("Suspended", run="")

ROWS = {
    "executed here": (seen(), cube(), True, Deed.NOTHING),
    "cancelled while executed here": (seen("CANCELLING"), cube(), True, Deed.CANCEL),
    "cancelled at once, since it was in the queue": (seen("CANCELLED"), cube(), True, Deed.CANCEL),
    "taken up again, here": (seen("SCHEDULED", "AwaitingRetry"), cube(), True, Deed.NOTHING),
    "lost by a process that died": (seen(), cube(), False, Deed.WAKE),
    "cancelled while nobody executed it": (seen("CANCELLING"), cube(), False, Deed.CANCEL),
    "begun, and not named by its status yet": (seen(), cube(uid=""), False, Deed.WAKE),
    "ended, and says so": (seen("COMPLETED"), cube("Succeeded"), False, Deed.NOTHING),
    "ended, and does not say so": (seen(), cube("Succeeded"), False, Deed.COMPLETE),
    "failed, and somebody retries it": (seen("SCHEDULED", "AwaitingRetry"), cube("Failed"), False, Deed.RUN_AGAIN),
    "retried, and the annotation says so": (
        seen("SCHEDULED", "AwaitingRetry"),
        cube("Failed", run="cube-2", uid=OTHER, rerun=f"prefect/{ID}/2"),
        False,
        Deed.WAKE,
    ),
    "of a run before the last": (seen(), cube("Succeeded", run="cube-2", uid=OTHER), False, Deed.DROP),
    "made a moment ago": (seen(created=NOW), cube("Pending", run="cube-2", uid=OTHER), False, Deed.NOTHING),
    "of a DataCube that is gone": (seen(), None, False, Deed.DROP),
    "of a DataCube that is gone, ended": (seen("FAILED"), None, False, Deed.NOTHING),
    "of a DataCube that no cache shows yet": (seen(created=NOW), None, False, Deed.NOTHING),
    "of a DataCube that is going": (seen(created=NOW), cube(going=True), False, Deed.DROP),
    "of nobody's DataCube": (replace(seen(created=NOW), uid=""), None, False, Deed.REFUSE),
    "of a DataCube that is held": (seen(), HELD, False, Deed.HOLD),
    "held": (seen("PAUSED", "Suspended"), HELD, False, Deed.NOTHING),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=[name.replace(" ", "-") for name in ROWS])
def test_deed_follows_from_server_and_status(row: tuple[RunSeen, Cube | None, bool, Deed]) -> None:
    run, about, is_ours, deed = row
    assert decide(run, about, NOW, is_ours=is_ours) is deed


def test_annotation_of_a_retry_names_the_flow_run_and_differs_each_time() -> None:
    first, second = rerun_for(seen()), rerun_for(replace(seen(), count=3))
    assert first != second
    assert asks_for(first) == asks_for(second) == ID


@pytest.mark.parametrize("value", ["", "1", "prefect", "again/prefect", "2030-01-01"])
def test_other_annotation_asks_for_no_flow_run(value: str) -> None:
    assert asks_for(value) == ""


def test_places_in_a_long_queue_are_told_so_that_few_change_when_one_run_goes() -> None:
    told = [place_told(number) for number in range(1, 2001)]
    assert (told[0], told[8], told[9], told[41], told[1233]) == (
        "place 1",
        "place 9",
        "about place 10",
        "about place 40",
        "about place 1000",
    )
    assert sum(now != then for then, now in pairwise(told)) <= 9 * 4
