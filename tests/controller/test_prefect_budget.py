"""What a DataCube costs the API server where Prefect runs it: no more than Argo's may (see `test_operator_budget`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.controller.played_kubelet import hang, succeed
from tests.controller.prefect_pages import run_in, server_of
from tests.controller.scenarios_documents import download
from tests.controller.test_operator_budget import CALLS, WRITES

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WITH_PREFECT = True

CUBES = 20
TOLD = 9.5
"""Requests at Prefect's server, with the logs that are sent in bundles."""


async def test_plain_runs_cost_few_requests_at_either_server(stage: Stage) -> None:
    await stage.claim()
    names = [f"cube-{number}" for number in range(CUBES)]
    asked = len(server_of(stage).requests)
    await asyncio.gather(*(stage.create(download(name, sub_path=name), succeed()) for name in names))
    for name in names:
        assert (await stage.ends(name, 60)).phase == "Succeeded"
    await stage.quiet()
    calls, writes = len(stage.requests()) / CUBES, len(stage.writes()) / CUBES
    told = (len(server_of(stage).requests) - asked) / CUBES
    print(
        f"\n{CUBES} DataCubes: {calls:.2f} requests each, {writes:.2f} of them writes; {told:.2f} at Prefect's server"
    )
    assert calls <= CALLS
    assert writes <= WRITES
    assert 1 <= told <= TOLD
    assert len(stage.requests(r"^POST \S+/pods\b")) == CUBES


async def test_nothing_is_asked_while_an_attempt_runs(stage: Stage) -> None:
    await stage.claim()
    script = hang()
    await stage.create(download("cube"), script)
    await stage.phase("cube", "Running")
    await run_in(stage, "RUNNING")
    await stage.quiet(1.0)
    before = len(stage.requests())
    await asyncio.sleep(2)
    assert stage.requests()[before:] == []
    script.release()
    assert (await stage.ends("cube")).phase == "Succeeded"
