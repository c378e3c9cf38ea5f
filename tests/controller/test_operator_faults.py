"""Answers that are refusals or get lost, watches that break, lists from the past: the same end, and one run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.resource import DATACUBES, WORKFLOWS, Resource

from tests.controller.api_proxy import Fault
from tests.controller.played_kubelet import crash, hang, succeed
from tests.controller.scenarios_documents import download, with_spec

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Outcome, Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

Object = dict[str, Any]


def status_body(code: int, reason: str) -> Object:
    return {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason}


PLACES = {
    "account": "POST .*/serviceaccounts",
    "binding": "POST .*/rolebindings",
    "template": "POST .*/workflowtemplates",
    "workflow": "POST .*/workflows[?]",
    "status": "PATCH .*/datacubes/cube/status",
    "event": "POST .*/events",
}
ANSWERS: dict[str, Object] = {
    "conflict": {"status": 409, "body": status_body(409, "Conflict")},
    "taken": {"status": 409, "body": status_body(409, "AlreadyExists")},
    "busy": {"status": 429, "headers": {"Retry-After": "1"}, "body": status_body(429, "TooManyRequests")},
    "broken": {"status": 500, "body": status_body(500, "InternalError")},
    "lost": {},
}


def fault(stage: Stage, place: str, answer: str, times: int = 1) -> Fault:
    verb, _, path = PLACES[place].partition(" ")
    match = f"^{verb} .*/namespaces/{stage.namespace}{path.removeprefix('.*')}"
    return Fault(match, **ANSWERS[answer], times=times)


async def ends_well(stage: Stage, runs: int = 1) -> Outcome:
    seen = await stage.ends("cube")
    await stage.quiet()
    assert (seen.phase, seen.conditions) == ("Succeeded", "TTF"), seen.status
    assert (await stage.ends("cube")).status == seen.status
    assert len(stage.workflows()) == runs
    return seen


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("place", PLACES)
async def test_write_that_is_refused_or_whose_answer_is_lost_is_made_good(
    stage: Stage, place: str, answer: str
) -> None:
    made = fault(stage, place, answer, times=2)
    stage.world.proxy.faults.append(made)
    await stage.claim()
    await stage.create(download("cube"), succeed())
    await ends_well(stage)
    assert made.times < 2


async def test_busy_server_is_left_alone_as_long_as_it_asks(stage: Stage) -> None:
    stage.world.proxy.faults.append(fault(stage, "workflow", "busy"))
    await stage.claim()
    await stage.create(download("cube"), succeed())
    await ends_well(stage)
    first, second = stage.world.proxy.times_of(f"^POST .*/namespaces/{stage.namespace}/workflows[?]")
    assert second - first >= 1


async def test_users_change_and_a_status_that_is_written_at_once_both_stand(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), succeed(seconds=0.3))
    for number in range(20):
        await stage.patch("cube", {"metadata": {"labels": {"number": str(number)}}})
    await ends_well(stage)
    assert (await stage.cube("cube"))["metadata"]["labels"]["number"] == "19"


async def test_status_on_its_way_never_lands_on_the_cube_that_took_the_name(stage: Stage) -> None:
    """The server looks at no uid there: the status of a custom resource keeps the metadata that it has."""
    await stage.claim()
    late = Fault(f"^PATCH .*/namespaces/{stage.namespace}/datacubes/cube/status", skip=1, gate=asyncio.Event())
    stage.world.proxy.faults.append(late)
    await stage.create(download("cube"), hang())
    async with asyncio.timeout(5):
        while late.times:
            await asyncio.sleep(0.01)
    first = await stage.until("cube", lambda seen: seen.workflow != "")
    await stage.delete("cube")
    await stage.create(download("cube"), succeed())
    assert late.gate is not None
    late.gate.set()
    seen = await ends_well(stage, runs=2)
    assert (seen.workflow != first.workflow, seen.attempts) == (True, ((1, ""),))


GONE = {"type": "ERROR", "object": status_body(410, "Expired")}
BROKEN = {"type": "ERROR", "object": status_body(500, "InternalError")}


@pytest.mark.parametrize("event", [GONE, BROKEN], ids=["410", "500"])
async def test_run_ends_although_watches_end_in_mid_run(stage: Stage, event: Object) -> None:
    await stage.claim()
    attempt = hang()
    await stage.create(download("cube"), attempt)
    await stage.phase("cube", "Running")
    await stage.world.proxy.say(event)
    attempt.release()
    await ends_well(stage)


async def test_run_ends_although_the_connection_is_cut_in_mid_run(stage: Stage) -> None:
    await stage.claim()
    attempts = crash(75), hang()
    await stage.create(download("cube", backoffLimit=1), *attempts)
    await stage.until("cube", lambda seen: len(seen.attempts) == 2)
    stage.world.proxy.part()
    attempts[1].release()
    await asyncio.sleep(2)
    assert (await stage.world.operator.ask("/healthz"))[0] == 200
    stage.world.proxy.cut = False
    seen = await ends_well(stage)
    assert seen.attempts == ((1, "TransferError"), (2, ""))


async def remember(stage: Stage, resource: Resource) -> Fault:
    """Returns the fault that has the next list of a kind be as it is now; no watch of it follows for a while."""
    page = await stage.client.list(resource)
    body = {"metadata": {"resourceVersion": page.version}, "items": page.items}
    return Fault(f"^GET {resource.path()}[?].*limit=", status=200, body=body)


async def restart_in_the_past(stage: Stage, *past: Fault) -> None:
    """Has the operator killed, and started before lists that are old; watches come only after it has acted on them."""
    operator, proxy = stage.world.operator, stage.world.proxy
    operator.kill()
    held = [Fault(f"^GET {kind.path()}[?].*watch=true", status=503, times=3) for kind in (DATACUBES, WORKFLOWS)]
    proxy.faults += [*past, *held]
    operator.start()
    await operator.until_ready()
    await asyncio.sleep(1.5)
    assert [fault.times for fault in past] == [0] * len(past)


async def test_replica_that_begins_with_an_old_list_does_not_run_a_cube_again(stage: Stage) -> None:
    await stage.claim()
    attempt = hang()
    await stage.create(with_spec(download("cube"), suspend=True), attempt)
    await stage.phase("cube", "Suspended")
    past = [await remember(stage, kind) for kind in (DATACUBES, WORKFLOWS)]
    for item in past[0].body["items"]:
        if item["metadata"]["namespace"] == stage.namespace:
            item["spec"].pop("suspend")
            item.pop("status")
    await stage.suspend("cube", on=False)
    running = await stage.phase("cube", "Running")
    await restart_in_the_past(stage, *past)
    attempt.release()
    seen = await ends_well(stage)
    assert seen.workflow == running.workflow


async def test_replica_that_begins_with_an_old_list_does_not_run_what_has_ended(stage: Stage) -> None:
    """Also where the run's workflow, which would have told it so, was removed since."""
    await stage.claim()
    await stage.create(with_spec(download("cube"), suspend=True), succeed())
    await stage.phase("cube", "Suspended")
    past = [await remember(stage, kind) for kind in (DATACUBES, WORKFLOWS)]
    for item in past[0].body["items"]:
        if item["metadata"]["namespace"] == stage.namespace:
            item["spec"].pop("suspend")
            item.pop("status")
    await stage.suspend("cube", on=False)
    before = await ends_well(stage)
    uid = (await stage.client.get(WORKFLOWS, stage.namespace, before.workflow))["metadata"]["uid"]
    await stage.client.delete(WORKFLOWS, stage.namespace, before.workflow, uid=uid)
    await stage.gone(WORKFLOWS)
    await restart_in_the_past(stage, *past)
    after = await ends_well(stage)
    assert after.status == before.status
