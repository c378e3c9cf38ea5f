"""What a DataCube costs the API server over its whole life, counted at the proxy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.controller.played_kubelet import fail, succeed
from tests.controller.scenarios_documents import download

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

CUBES = 50
CALLS, WRITES = 8, 6
"""At most so many for each DataCube whose run goes plainly."""


async def test_plain_runs_cost_few_requests_and_writes_each(stage: Stage) -> None:
    await stage.claim()
    names = [f"cube-{number}" for number in range(CUBES)]
    await asyncio.gather(*(stage.create(download(name, sub_path=name), succeed()) for name in names))
    for name in names:
        assert (await stage.ends(name, 60)).phase == "Succeeded"
    await stage.quiet()
    calls, writes = len(stage.requests()) / CUBES, len(stage.writes()) / CUBES
    print(f"\n{CUBES} DataCubes: {calls:.2f} requests each, {writes:.2f} of them writes")
    assert calls <= CALLS
    assert writes <= WRITES
    assert len(stage.workflows()) == CUBES


async def test_run_that_nobody_else_delays_costs_as_little(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("first", sub_path="first"), succeed())
    await stage.ends("first")
    await stage.quiet()
    before = len(stage.requests())
    await stage.create(download("cube"), succeed(seconds=1))
    await stage.ends("cube")
    await stage.quiet()
    asked = stage.requests()[before:]
    assert len([line for line in asked if "/datacubes/cube/status" in line]) == 3, "taken up, running, ended"
    assert len(asked) <= WRITES, asked


async def test_nothing_is_asked_or_written_about_what_has_ended_or_waits(stage: Stage) -> None:
    await stage.create(download("waits", claim="missing"))
    await stage.waits("waits", Reason.WAITING_FOR_VOLUME)
    await stage.claim()
    await stage.create(download("ended"), fail(Reason.NOT_FOUND))
    await stage.ends("ended")
    await stage.quiet(1.5)
    before = len(stage.requests())
    await stage.patch("ended", {"metadata": {"labels": {"team": "a"}}})
    await stage.patch("waits", {"metadata": {"annotations": {"note": "b"}}})
    await asyncio.sleep(1)
    assert stage.requests()[before:] == []
