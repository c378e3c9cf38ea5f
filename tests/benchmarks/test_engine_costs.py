from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benchmarks.costs import Cost
from tests.benchmarks.engine_costs import EngineCost, Engines, Held, Lap, Laps, Server

pytestmark = pytest.mark.t0

ARGO = EngineCost(Cost(10, 5.0, 50, 40), cpu=0.1, held=Held(20, before=80.0, during=84.0, threads=0))
SERVER = Server(cpu=1.5, database_cpu=0.4, calls=82, megabytes=215.0)
PREFECT = EngineCost(
    Cost(10, 10.0, 85, 61), cpu=0.9, held=Held(20, before=140.0, during=150.0, threads=20), server=SERVER
)


def verdicts(engines: Engines) -> dict[str, tuple[float, str]]:
    return {row.name: (round(row.value, 6), row.verdict) for row in engines.rows()}


def test_engines_tell_what_prefect_adds_its_server_included() -> None:
    rows = verdicts(Engines(ARGO, PREFECT))
    assert rows["CPU that Prefect adds to a DataCube"] == (0.23, "ok")
    assert rows["memory that Prefect adds to a run"] == (0.3, "ok")
    assert rows["API calls of a DataCube in Prefect"] == (8.5, "MISSED")
    assert rows["writes of a DataCube in Prefect"] == (6.1, "MISSED")
    assert rows["its requests for a DataCube"] == (8.2, "")
    assert rows["threads that 20 at once bring in Prefect"] == (20, "")


def test_engines_miss_their_wishes_where_server_or_memory_are_too_dear() -> None:
    held = replace(PREFECT.held, during=170.0)
    rows = verdicts(Engines(ARGO, replace(PREFECT, held=held, server=replace(SERVER, cpu=2.3))))
    assert rows["CPU that Prefect adds to a DataCube"] == (0.31, "MISSED")
    assert rows["memory that Prefect adds to a run"] == (1.3, "MISSED")


def test_laps_stand_beside_bare_jobs_and_argo() -> None:
    argo, prefect = Lap(Cost(4, 40.0, 20, 16), 0.2, 90.0), Lap(Cost(4, 24.0, 24, 20), 0.4, 150.0)
    rows = {row.name: row for row in Laps(20.0, argo, prefect, SERVER).rows()}
    assert rows["4 transfers in Argo, whole cluster"].ratio == 2.0
    assert rows["4 transfers in Prefect, whole cluster"].ratio == 1.2
    assert rows["API calls of a DataCube in Prefect there"].value == 6.0
    assert rows["operator's CPU for a DataCube in Prefect there"].ratio == pytest.approx(2.0)
