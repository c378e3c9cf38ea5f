"""Runs in Prefect from their beginning to their end: the very rows that the scenarios of Argo have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.controller.test_operator_rows import ROWS

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Stage
    from tests.controller.test_operator_rows import Row

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WITH_PREFECT = True


@pytest.mark.parametrize("row", ROWS.values(), ids=[name.replace(" ", "-") for name in ROWS])
async def test_run_in_prefect_ends_as_it_does_in_argo(stage: Stage, row: Row) -> None:
    await stage.claim()
    await stage.create(row.document, *row.script)
    seen = await stage.ends("cube", 60)
    assert (seen.phase, seen.reason, seen.attempts) == (row.phase, row.reason, row.attempts)
    assert seen.conditions == row.conditions
    assert row.says in seen.messages["Complete" if row.phase == "Succeeded" else "Failed"]
    await stage.quiet()
    assert (await stage.ends("cube")).status == seen.status
    assert stage.workflows() == []
