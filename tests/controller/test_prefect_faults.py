"""Runs in Prefect that are broken off, refused, or robbed of their pods: each ends as it should, and runs once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from datacube_operator.resource import PODS

from datacube_flows.api.reasons import Reason
from tests.controller.api_proxy import Fault
from tests.controller.played_kubelet import fail, hang, succeed
from tests.controller.prefect_pages import ask, run_in, run_of, server_of
from tests.controller.scenarios_documents import CLAIM_SPEC, download
from tests.controller.test_operator_faults import status_body

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Outcome, Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WITH_PREFECT = True
MANY = 50

FLAKY = fail(Reason.SERVER_ERROR, "the server answers 503 again and again")


def refusal(stage: Stage, kind: str, message: str, times: int = 99) -> Fault:
    """The API server lets nothing of a kind be made."""
    body = status_body(403, "Forbidden") | {"message": message}
    return Fault(f"^POST .*/namespaces/{stage.namespace}/{kind}", status=403, body=body, times=times)


async def restart(stage: Stage) -> None:
    """Kills the operator, and starts it again."""
    operator = stage.world.operator
    operator.kill()
    operator.start()
    await operator.until_ready()


async def ends_once(stage: Stage, attempts: tuple[tuple[int, str], ...] = ((1, ""),)) -> Outcome:
    """The DataCube and its one flow run end well, and say the same."""
    seen = await stage.ends("cube", 60)
    assert (seen.phase, seen.attempts) == ("Succeeded", attempts), seen.status
    run = await run_in(stage, "COMPLETED")
    assert seen.status["workflow"]["uid"] == run["id"]
    return seen


async def test_operator_killed_while_the_claim_is_made_goes_on_with_it(stage: Stage) -> None:
    quota = refusal(stage, "persistentvolumeclaims", "persistentvolumeclaims is forbidden: exceeded quota: team")
    stage.world.proxy.faults.append(quota)
    await stage.create(download("cube", claim="made", template={"spec": CLAIM_SPEC}), succeed())
    await stage.until("cube", lambda seen: seen.waits_for == "QuotaExceeded", 40)
    await restart(stage)
    await stage.world.proxy.until(f"^POST .*{stage.namespace}/persistentvolumeclaims", 2, 40)
    stage.world.calm()
    await ends_once(stage)
    assert len(await stage.pods("cube")) == 1


async def test_operator_killed_between_two_attempts_makes_the_next_one(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube", backoffLimit=4), FLAKY, FLAKY, FLAKY, succeed())
    await stage.until("cube", lambda seen: len(seen.attempts) == 3 and bool(seen.attempts[2][1]), 40)
    await restart(stage)
    await ends_once(stage, ((1, "ServerError"), (2, "ServerError"), (3, "ServerError"), (4, "")))
    assert len(await stage.pods("cube")) == 4


async def test_operator_killed_while_it_reports_completes_the_history_later(stage: Stage) -> None:
    await stage.claim()
    script = hang()
    await stage.create(download("cube"), script)
    await stage.phase("cube", "Running")
    await run_in(stage, "RUNNING")
    server_of(stage).freeze()
    try:
        script.release()
        seen = await stage.ends("cube")
        assert seen.phase == "Succeeded"
        stage.world.operator.kill()
    finally:
        server_of(stage).thaw()
    stage.world.operator.start()
    await stage.world.operator.until_ready()
    run = await run_in(stage, "COMPLETED")
    assert run["run_count"] == 1
    assert len(await stage.pods("cube")) == 1


async def test_operator_that_ends_in_peace_leaves_its_runs_to_the_next(stage: Stage) -> None:
    await stage.claim()
    script = hang()
    await stage.create(download("cube"), script)
    before = await stage.phase("cube", "Running")
    assert await stage.world.operator.stop() == 0
    stage.world.operator.start()
    await stage.world.operator.until_ready()
    await run_of(stage, lambda run: run["run_count"] == 2)
    script.release()
    seen = await ends_once(stage)
    assert seen.status["pod"]["reference"] == before.status["pod"]["reference"]


async def test_pod_that_is_deleted_costs_an_attempt_also_after_a_restart(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube", backoffLimit=2), hang(), hang(), succeed())
    for number in (1, 2):
        await stage.until("cube", lambda seen, n=number: len(seen.attempts) == n and seen.phase == "Running", 40)
        (pod,) = await stage.pods("cube")
        if number == 2:
            stage.world.operator.kill()
        await stage.client.delete(PODS, stage.namespace, pod["metadata"]["name"], uid=pod["metadata"]["uid"])
    async with asyncio.timeout(20):
        while await stage.pods("cube"):
            await asyncio.sleep(0.05)
    stage.world.operator.start()
    await stage.world.operator.until_ready()
    await ends_once(stage, ((1, "PodDeleted"), (2, "PodDeleted"), (3, "")))


async def test_pod_that_no_namespace_of_this_level_takes_ends_the_run_at_once(stage: Stage) -> None:
    message = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false'
    stage.world.proxy.faults.append(refusal(stage, "pods", message))
    await stage.claim()
    await stage.create(download("cube", backoffLimit=3))
    seen = await stage.ends("cube", 40)
    assert (seen.reason, seen.attempts) == ("PodRejected", ((1, "PodRejected"),))
    assert "change executor.securityContext" in seen.messages["Failed"]
    await run_in(stage, "FAILED")


async def test_pods_wait_for_room_in_the_quota(stage: Stage) -> None:
    stage.world.proxy.faults.append(refusal(stage, "pods", 'pods "x" is forbidden: exceeded quota: team', times=1))
    await stage.claim()
    await stage.create(download("cube"), succeed())
    waiting = await stage.until("cube", lambda seen: seen.waits_for == "QuotaExceeded", 40)
    assert waiting.attempts == ()
    await ends_once(stage)


async def test_pod_whose_making_was_not_answered_is_found_again(stage: Stage) -> None:
    lost = Fault(f"^POST .*/namespaces/{stage.namespace}/pods")
    stage.world.proxy.faults.append(lost)
    await stage.claim()
    await stage.create(download("cube"), succeed())
    await ends_once(stage)
    assert lost.times == 0
    assert len(await stage.pods("cube")) == 1


async def test_flow_run_that_nobody_asked_for_is_ended(stage: Stage) -> None:
    """Somebody runs the deployment by hand, in the name of a DataCube that is not there."""
    deployment = await ask(stage, "GET", "/deployments/name/transfer/datacube")
    body = {"name": f"{stage.namespace}/cube", "state": {"type": "SCHEDULED", "name": "Scheduled"}}
    made = await ask(stage, "POST", f"/deployments/{deployment['id']}/create_flow_run", body)
    await restart(stage)
    ended = await run_in(stage, "CANCELLED")
    assert ended["id"] == made["id"]
    assert "apply a DataCube" in ended["state"]["message"]


async def test_many_runs_that_end_at_once_are_all_told(stage: Stage) -> None:
    """Of more than the client of Prefect's server has connections, none is lost, and neither is the client."""
    await stage.claim()
    script, names = hang(), [f"cube-{number}" for number in range(MANY)]
    for name in names:
        await stage.create(download(name, sub_path=name), script)
    for name in names:
        await stage.phase(name, "Running", 120)
    script.release()
    for name in names:
        assert (await stage.ends(name, 60)).phase == "Succeeded"
    for name in names:
        await run_in(stage, "COMPLETED", name)
    assert "client renewed" not in stage.world.operator.log_file.read_text()
