"""What a running attempt prints becomes progress; nothing else of a log is repeated, and a log that is not there hurts
nobody. There is no kubelet here: the proxy answers for it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.canary import CANARY, find_canary, has_canary
from tests.controller.api_proxy import Fault
from tests.controller.played_kubelet import hang
from tests.controller.scenarios_documents import download

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

OPERATOR_FLAGS = ("--allow-http", "--argo-url=https://argo.example.test/")
COUNTERS = {"bytesDone": 600, "bytesTotal": 1000, "filesDone": 1, "filesTotal": 3, "bytesPerSecond": 50}
LINES = (
    f"a tool prints {CANARY}",
    json.dumps({"log": f"password={CANARY}"}),
    json.dumps({"progress": COUNTERS | {"note": CANARY}}),
)


def log_of(stage: Stage, *lines: str, status: int = 200) -> Fault:
    path = f"^GET /api/v1/namespaces/{stage.namespace}/pods/.*/log"
    return Fault(path, status=status, text="\n".join(lines) + "\n", times=99)


async def test_progress_is_read_from_the_log_and_nothing_else_of_it_is_shown(stage: Stage) -> None:
    stage.world.proxy.faults.append(log_of(stage, *LINES))
    await stage.claim()
    attempt = hang()
    await stage.create(download("cube"), attempt)
    seen = await stage.until("cube", lambda now: "progress" in now.status)
    assert {name: seen.status["progress"][name] for name in COUNTERS} == COUNTERS
    attempt.release()
    seen = await stage.ends("cube")
    await stage.quiet()
    operator, server = stage.world.operator, stage.world.server
    assert not has_canary((await operator.ask("/metrics"))[1])
    shown = server.kubeconfig.parent / "etcd", operator.log_file
    assert await asyncio.to_thread(find_canary, *shown) == []  # in a thread: the proxy that all go through is in here


async def test_run_goes_its_way_where_its_log_cannot_be_read(stage: Stage) -> None:
    stage.world.proxy.faults.append(log_of(stage, status=502))
    await stage.claim()
    attempt = hang()
    await stage.create(download("cube"), attempt)
    await stage.phase("cube", "Running")
    await stage.world.proxy.until(f"namespaces/{stage.namespace}/pods/.*/log", 1)
    attempt.release()
    assert (await stage.ends("cube")).phase == "Succeeded"


async def test_status_links_to_the_page_of_the_run(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"))
    seen = await stage.ends("cube")
    assert seen.status["workflow"]["url"] == f"https://argo.example.test/workflows/{stage.namespace}/{seen.workflow}"
