from __future__ import annotations

import math

import pytest

from tests.benchmarks.costs import Cost, Load, Rest
from tests.benchmarks.table import HEAD, Peer, Row, at_most, compare, render, times_at_most

pytestmark = pytest.mark.t0


def row(value: float, peer: float | None = None, **more: object) -> Row:
    return Row("name", value, "s", None if peer is None else Peer("peer", peer), **more)  # type: ignore[arg-type]


def test_compare_takes_the_medians_of_both() -> None:
    made = compare("name", [9.0, 1.0, 2.0], "s", ("peer", [1.0, 3.0, 100.0, 5.0]))
    assert (made.value, made.peer, made.ratio) == (2.0, Peer("peer", 4.0), 0.5)


@pytest.mark.parametrize(
    ("measured", "wish", "verdict"),
    [
        (row(3.0, 2.0), times_at_most(1.5), "ok"),
        (row(3.1, 2.0), times_at_most(1.5), "MISSED"),
        (row(1.0, 2.0), at_most(1), "ok"),
        (row(1.1, 2.0), at_most(1), "MISSED"),
        (row(0.0, 0.0), times_at_most(1.5), "MISSED"),
        (row(5.0), at_most(4), "MISSED"),
    ],
)
def test_verdict_holds_the_value_or_the_ratio_against_the_wish(measured: Row, wish: object, verdict: str) -> None:
    assert row(measured.value, measured.peer.value if measured.peer else None, wish=wish).verdict == verdict


def test_verdict_is_empty_without_a_wish() -> None:
    assert row(1.0, 2.0).verdict == ""


def test_verdict_is_refused_where_a_ratio_is_wished_of_no_peer() -> None:
    with pytest.raises(ValueError, match="has no peer"):
        _ = row(1.0, wish=times_at_most(2)).verdict


def test_ratio_to_nothing_is_infinite() -> None:
    assert row(1.0, 0.0).ratio == math.inf
    assert row(1.0).ratio is None


def test_render_aligns_one_line_a_number() -> None:
    rows = [
        Row("first", 0.04567, "s", Peer("Job", 0.03), times_at_most(1.5)),
        Row("a longer name", 1234.5, wish=at_most(6)),
        Row("third", 2.0),
    ]
    head, first, second, third = render(rows).splitlines()
    assert head.split() == list(HEAD)
    assert first.split() == ["first", "0.0457", "s", "0.03", "s", "(Job)", "1.52", "ratio", "<=", "1.5", "MISSED"]
    assert second.split() == ["a", "longer", "name", "1234", "<=", "6", "MISSED"]
    assert third == "third          2"
    assert first.index("0.0457") == second.index("1234") == third.index("2") == head.index("value")
    assert first.index("MISSED") == second.index("MISSED") == head.index("ok")


def test_load_tells_costs_for_each_run_and_what_misses_its_wish() -> None:
    bare, cubes = Cost(10, 5.0, 20, 20), Cost(10, 20.0, 85, 60)
    rest = Rest(start_seconds=5.5, start_writes=1, look_seconds=2.0, cpu_a_minute=0.3, peak=150.0)
    empty = Rest(start_seconds=1.0, start_writes=0, look_seconds=0.0, cpu_a_minute=0.1, peak=75.0)
    rows = {r.name: r for r in Load(bare, cubes, peak=120.0, cpu=0.2, empty=empty, full=rest).rows()}
    calls, writes = rows["API calls of a DataCube"], rows["writes of a DataCube"]
    assert (calls.value, calls.ratio, calls.verdict) == (8.5, 4.25, "MISSED")
    assert (writes.value, writes.ratio, writes.verdict) == (6.0, 3.0, "ok")
    assert (rows["ends a second, of 10"].value, rows["ends a second, of 10"].ratio) == (0.5, 0.25)
    assert rows["operator's CPU for a DataCube"].value == 20.0
    assert (rows["operator's peak memory"].value, rows["operator's peak memory"].verdict) == (150.0, "ok")
    assert rows["restart to caught-up"].verdict == "MISSED"
    assert rows["writes after a restart"].verdict == "MISSED"
    assert rows["idle CPU with its part of resyncs"].value == pytest.approx(0.3 + 2.0 / 10)
