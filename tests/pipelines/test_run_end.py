"""The rule that tells the end of one run from that of another, alone and held against the operator's own."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from datacube_operator.cube import Cube
from datacube_operator.runs import Course, choose_run

from datacube_flows.cluster.errors import ClusterError
from datacube_flows.cluster.run_end import is_run_over, read_status
from datacube_flows.core.plan import run_id
from tests.pipelines.documents import UID, failed, make_cube, rerun, run_name, running, shown, status_of, succeeded

pytestmark = pytest.mark.t0

FOREIGN = "train-x7k2p"
FIRST, SECOND, THIRD = run_name(UID), run_name(UID, "two"), run_name(UID, "three")


def is_over(document: dict[str, Any], status: dict[str, Any], wanted: str = "") -> bool:
    return is_run_over(shown(document, status), status_of(status), wanted=wanted)


def test_run_that_goes_on_is_not_over() -> None:
    assert not is_over(make_cube(), {})
    assert not is_over(make_cube(), running(FIRST))


@pytest.mark.parametrize("end", [succeeded, failed])
def test_first_run_is_over_when_its_status_is_final(end: Any) -> None:
    assert is_over(make_cube(), end(FIRST))


@pytest.mark.parametrize("end", [succeeded, failed])
def test_end_of_the_run_before_is_not_that_of_the_one_asked_for(end: Any) -> None:
    again = rerun(make_cube(), "two")
    assert not is_over(again, end(FIRST))
    assert not is_over(again, end(THIRD))
    assert is_over(again, end(SECOND))


def test_run_that_was_asked_for_is_over_though_another_is_asked_for_by_now() -> None:
    later = rerun(make_cube(), "three")
    assert is_over(later, succeeded(SECOND), wanted=run_id(UID, "two"))
    assert is_over(later, succeeded(THIRD), wanted=run_id(UID, "two"))
    assert not is_over(later, succeeded(FIRST), wanted=run_id(UID, "two"))


def test_document_that_was_refused_is_over_whatever_the_annotation_says() -> None:
    assert is_over(rerun(make_cube(), "two"), failed("", "InvalidSpec"))


def test_annotation_that_was_taken_away_asks_for_nothing() -> None:
    assert is_over(make_cube(), succeeded(SECOND))


def test_run_of_somebody_else_is_the_end_of_one_that_is_held() -> None:
    assert is_over(make_cube(suspend=True), succeeded(FOREIGN))
    assert is_over(rerun(make_cube(suspend=True), "two"), succeeded(FOREIGN))
    assert not is_over(rerun(make_cube(), "two"), succeeded(FOREIGN))


@pytest.mark.parametrize(
    ("value", "held", "run", "end"),
    list(product(["", "two"], [False, True], [FIRST, SECOND, FOREIGN], [succeeded, failed])),
)
def test_rule_agrees_with_what_the_operator_does_next(value: str, held: bool, run: str, end: Any) -> None:
    """A run is over exactly where the operator lets it rest: where it starts another, that one is waited for."""
    document = make_cube(suspend=held)
    document = shown(rerun(document, value) if value else document, end(run))
    document["metadata"]["namespace"] = "team"
    status = read_status(document)
    own = {FIRST, SECOND}
    choice = choose_run(
        Cube(document, status), run_name(UID, value), is_own=own.__contains__, foreign=None, has_wanted=False
    )
    assert is_run_over(document, status) == (choice.course is Course.REST)


def test_status_of_a_newer_version_is_told_and_not_waited_for() -> None:
    with pytest.raises(ClusterError, match="update this library"):
        read_status(shown(make_cube(), {"phase": "Melting"}))
