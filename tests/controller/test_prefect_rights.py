"""The further rights of an operator that runs transfers in Prefect are those that it uses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.cluster.api import AUDIT_LOG
from tests.controller.played_kubelet import fail, hang, succeed
from tests.controller.prefect_pages import cancel, retry, run_in
from tests.controller.scenarios_documents import CLAIM_SPEC, download
from tests.controller.scenarios_rights import INSTALL, PREFECT
from tests.controller.test_operator_rights import rights_in, used

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster
    from tests.controller.scenarios_bench import Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WITH_PREFECT = True


async def test_further_rights_are_those_that_are_used_and_no_others(stage: Stage, api: Cluster) -> None:
    await stage.create(download("cube", claim="made", template={"spec": CLAIM_SPEC}), fail(Reason.NOT_FOUND))
    await stage.ends("cube", 40)
    stage.play("cube", hang())
    await retry(stage, await run_in(stage, "FAILED"))
    await stage.phase("cube", "Running", 40)
    await cancel(stage, await run_in(stage, "RUNNING"))
    await stage.until("cube", lambda seen: seen.reason == "Cancelled", 40)
    stage.play("cube", succeed())
    await asyncio.sleep(1)  # the server writes its log a moment later
    done = used(api.kubeconfig.parent / AUDIT_LOG)
    further = rights_in(PREFECT, "datacube-operator-prefect")
    assert further <= done
    assert done <= further | rights_in(INSTALL, "datacube-operator")
