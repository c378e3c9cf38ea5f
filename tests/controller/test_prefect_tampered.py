"""A flow run that somebody deletes while it runs.

Prefect's server then cannot record its tasks, tries again, and loses what it should record of others meanwhile. So this
comes after all else that is asked of the one server of the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.controller.played_kubelet import hang
from tests.controller.prefect_pages import ask, run_in
from tests.controller.scenarios_documents import download

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WITH_PREFECT = True


async def test_flow_run_that_somebody_deletes_does_not_stop_its_transfer(stage: Stage) -> None:
    await stage.claim()
    script = hang()
    await stage.create(download("cube"), script)
    await stage.phase("cube", "Running")
    run = await run_in(stage, "RUNNING")
    await ask(stage, "DELETE", f"/flow_runs/{run['id']}")
    script.release()
    assert (await stage.ends("cube", 40)).phase == "Succeeded"
