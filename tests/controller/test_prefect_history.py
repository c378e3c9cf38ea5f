"""What people see of runs in Prefect, and do to them there; and what becomes of runs when either side is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.controller.played_kubelet import fail, hang, succeed
from tests.controller.prefect_pages import cancel, retry, run_in, run_of, server_of, tasks_are
from tests.controller.scenarios_documents import download

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Outcome, Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WITH_PREFECT = True
OPERATOR_FLAGS = ("--no-progress", "--allow-http", "--prefect-runs=2")

FLAKY = fail(Reason.SERVER_ERROR, "the server answers 503 again and again")


async def test_run_is_told_with_its_attempts_its_result_and_no_secret(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube", backoffLimit=1), FLAKY, succeed())
    seen = await stage.ends("cube", 40)
    run = await run_in(stage, "COMPLETED")
    assert seen.status["workflow"] == {
        "engine": "prefect",
        "template": "transfer/datacube",
        "name": seen.workflow,
        "uid": run["id"],
        "url": f"{server_of(stage).ui_url}/runs/flow-run/{run['id']}",
    }
    assert run["state"]["message"] == "TransferComplete: 3 files, 4096 bytes moved, verified by checksum"
    assert {"store:s3", "direction:download", f"namespace:{stage.namespace}"} <= set(run["tags"])
    assert run["parameters"]["source"] == "s3://bucket/set"
    await tasks_are(
        stage,
        run,
        ("attempt", "Completed"),
        ("attempt 1", "ServerError"),
        ("attempt 2", "Completed"),
        ("provision", "Completed"),
        ("report", "Completed"),
    )


async def test_run_that_is_cancelled_in_mid_transfer_ends_with_its_pod(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube", backoffLimit=3), hang())
    await stage.phase("cube", "Running")
    run = await run_in(stage, "RUNNING")
    await cancel(stage, run)
    seen = await stage.ends("cube")
    assert (seen.phase, seen.reason, seen.attempts) == ("Failed", "Cancelled", ((1, "Cancelled"),))
    await run_in(stage, "CANCELLED")
    await stage.quiet()
    assert await stage.pods("cube") == []


async def test_run_that_is_cancelled_between_two_attempts_makes_no_other(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube", backoffLimit=9), *[FLAKY] * 4, hang())
    await stage.until("cube", lambda seen: len(seen.attempts) >= 3 and bool(seen.attempts[2][1]), 40)
    run = await run_in(stage, "RUNNING")
    await cancel(stage, run)
    seen = await stage.ends("cube")
    assert (seen.phase, seen.reason) == ("Failed", "Cancelled")
    await run_in(stage, "CANCELLED")


async def test_run_that_is_cancelled_in_the_queue_never_begins(stage: Stage) -> None:
    await stage.claim()
    scripts = [hang() for _ in range(2)]
    for number, script in enumerate(scripts):
        await stage.create(download(f"first{number}", sub_path=f"s{number}"), script)
        await stage.phase(f"first{number}", "Running")
    await stage.create(download("cube", sub_path="other"))
    waiting = await stage.waits("cube", "Queued")
    assert waiting.messages["Initialized"] == "place 1 in the queue: 2 transfers run at once"
    run = await run_of(stage, lambda run: run["state_name"] == "Queued")
    await cancel(stage, run)
    seen = await stage.ends("cube")
    assert (seen.reason, seen.attempts) == ("Cancelled", ())
    await stage.create(download("next", sub_path="third"))
    await stage.waits("next", "Queued")
    for script in scripts:
        script.release()
    assert (await stage.ends("next", 40)).phase == "Succeeded"
    assert await stage.pods("cube") == []


async def test_run_that_is_retried_in_prefect_runs_again_in_the_same_flow_run(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), fail(Reason.NOT_FOUND))
    first = await stage.ends("cube")
    assert first.reason == "NotFound"
    run = await run_in(stage, "FAILED")
    stage.play("cube", succeed())
    await retry(stage, run)
    again = await stage.phase("cube", "Succeeded", 40)
    assert again.workflow != first.workflow
    assert again.status["workflow"]["uid"] == run["id"]
    run = await run_in(stage, "COMPLETED")
    assert run["run_count"] == 2


async def test_transfer_goes_on_while_the_server_is_away_and_the_history_is_completed(stage: Stage) -> None:
    prefect = server_of(stage)
    await stage.claim()
    script = hang()
    await stage.create(download("cube", backoffLimit=2), FLAKY, script)
    await stage.until("cube", lambda seen: len(seen.attempts) == 2 and seen.phase == "Running", 40)
    prefect.kill()
    script.release()
    seen = await stage.ends("cube", 40)
    assert (seen.phase, seen.attempts) == ("Succeeded", ((1, "ServerError"), (2, "")))
    await stage.create(download("later", sub_path="later"))
    await stage.waits("later", "EngineUnavailable", 30)
    prefect.begin()  # in this thread, with which it would end
    await asyncio.to_thread(prefect.until_ready)
    assert (await stage.ends("later", 60)).phase == "Succeeded"
    run = await run_in(stage, "COMPLETED")
    assert run["run_count"] == 1


async def test_run_is_taken_up_after_a_crash_with_the_attempt_that_runs(stage: Stage) -> None:
    await stage.claim()
    script = hang()
    await stage.create(download("cube", backoffLimit=2), FLAKY, script)
    before = await stage.until("cube", lambda seen: len(seen.attempts) == 2 and seen.phase == "Running", 40)
    operator = stage.world.operator
    operator.kill()
    operator.start()
    await operator.until_ready()
    run = await run_of(stage, lambda run: run["run_count"] == 2 and run["state_type"] == "RUNNING")
    script.release()
    seen = await stage.ends("cube", 40)
    assert (seen.phase, seen.attempts) == ("Succeeded", ((1, "ServerError"), (2, "")))
    assert seen.status["pod"]["reference"] == before.status["pod"]["reference"]
    assert seen.status["workflow"]["uid"] == run["id"]
    assert len(await stage.pods("cube")) == 2
    await run_in(stage, "COMPLETED")


async def test_suspended_run_is_held_and_goes_on_in_the_same_flow_run(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), hang())
    await stage.phase("cube", "Running")
    await stage.suspend("cube", on=True)
    held: Outcome = await stage.phase("cube", "Suspended")
    assert held.attempts == ()
    run = await run_in(stage, "PAUSED")
    stage.play("cube", succeed())
    await stage.suspend("cube", on=False)
    seen = await stage.ends("cube", 40)
    assert (seen.phase, seen.attempts) == ("Succeeded", ((1, ""),))
    assert (await run_in(stage, "COMPLETED"))["id"] == run["id"]


async def test_cube_that_is_deleted_in_mid_run_ends_its_flow_run(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), hang())
    await stage.phase("cube", "Running")
    await stage.delete("cube")
    run = await run_in(stage, "CANCELLED")
    assert run["state"]["message"] == "the DataCube was deleted"
    async with asyncio.timeout(20):
        while await stage.pods("cube"):
            await asyncio.sleep(0.1)
