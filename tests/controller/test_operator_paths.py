"""Claims and paths: what is not there is waited for, what exists is never touched, what overlaps queues up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.resource import CLAIMS, PODS

from datacube_flows.api.reasons import Reason
from tests.controller.played_kubelet import fail, hang, succeed
from tests.controller.scenarios_documents import CLAIM_SPEC, download, upload, with_spec

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

SECOND = 1.05
"""What the API's timestamps tell apart."""


async def test_cube_waits_for_a_claim_and_runs_when_it_comes(stage: Stage) -> None:
    await stage.create(download("cube"), succeed())
    seen = await stage.waits("cube", Reason.WAITING_FOR_VOLUME)
    assert (seen.phase, seen.conditions) == ("Pending", "FFF")
    assert "'data'" in seen.messages["Initialized"]
    assert stage.workflows() == []
    await stage.claim()
    assert (await stage.ends("cube", 5)).phase == "Succeeded"


async def test_claim_that_exists_is_neither_changed_nor_made_again(stage: Stage) -> None:
    before = await stage.claim()
    larger = CLAIM_SPEC | {"resources": {"requests": {"storage": "9Gi"}}}
    await stage.create(download("cube", template={"metadata": {"labels": {"x": "y"}}, "spec": larger}), succeed())
    assert (await stage.ends("cube")).phase == "Succeeded"
    await stage.quiet()
    assert await stage.client.get(CLAIMS, stage.namespace, "data") == before
    assert stage.requests("persistentvolumeclaims") == []
    assert [pod["metadata"]["labels"]["datacube.tensorstack.dev/step"] for pod in await stage.pods("cube")] == [
        "transfer"
    ]


async def test_claim_that_has_lost_its_volume_ends_the_run(stage: Stage) -> None:
    await stage.claim(phase="Lost")
    await stage.create(download("cube"), succeed())
    seen = await stage.ends("cube")
    assert (seen.phase, seen.reason, stage.workflows()) == ("Failed", Reason.VOLUME_LOST, [])


async def test_writers_of_overlapping_paths_run_one_after_the_other_in_the_order_of_their_age(stage: Stage) -> None:
    await stage.claim()
    attempts = {name: hang() for name in ("first", "second", "third")}
    for name, sub_path in (("first", "a/b"), ("second", "a"), ("third", "a/b/c")):
        await stage.create(download(name, sub_path=sub_path), attempts[name])
        await asyncio.sleep(SECOND)
    await stage.phase("first", "Running")
    second = await stage.waits("second", Reason.PATH_BUSY)
    await stage.waits("third", Reason.PATH_BUSY)
    assert "first" in second.messages["Initialized"]
    attempts["first"].release()
    await stage.phase("second", "Running", 5)
    third = await stage.waits("third", Reason.PATH_BUSY)
    attempts["second"].release()
    await stage.phase("third", "Running", 5)
    attempts["third"].release()
    assert (await stage.ends("third")).phase == "Succeeded"
    assert "second" in third.messages["Initialized"] or "first" in third.messages["Initialized"]
    assert len(stage.workflows()) == 3


async def test_many_writers_of_one_path_never_run_at_once(stage: Stage) -> None:
    await stage.claim()
    names = [f"cube-{number}" for number in range(6)]
    for name in names:
        await stage.create(download(name), succeed(seconds=0.1))
    overlaps: list[list[str]] = []
    async with asyncio.timeout(40):
        while True:
            pods = await stage.objects(PODS)
            alive = [p["metadata"]["name"] for p in pods if p["status"].get("phase") not in ("Succeeded", "Failed")]
            overlaps += [alive] if len(alive) > 1 else []
            phases = [(await stage.cube(name)).get("status", {}).get("phase") for name in names]
            if phases == ["Succeeded"] * len(names):
                break
            await asyncio.sleep(0.02)
    assert overlaps == []
    assert len(stage.workflows()) == len(names)


async def test_uploads_of_one_path_run_at_once_and_a_download_of_it_waits(stage: Stage) -> None:
    await stage.claim()
    attempts = {name: hang() for name in ("one", "two")}
    for name, attempt in attempts.items():
        await stage.create(upload(name, sub_path="a"), attempt)
    for name in attempts:
        await stage.phase(name, "Running")
    await stage.create(download("writer", sub_path="a/b"), succeed())
    await stage.waits("writer", Reason.PATH_BUSY)
    for attempt in attempts.values():
        attempt.release()
    assert (await stage.ends("writer")).phase == "Succeeded"


@pytest.mark.parametrize("claim", ["data", "other"])
async def test_cubes_whose_paths_do_not_overlap_run_at_once(stage: Stage, claim: str) -> None:
    await stage.claim()
    if claim != "data":
        await stage.claim(claim)
    attempts = {"one": hang(), "two": hang()}
    await stage.create(download("one", sub_path="set"), attempts["one"])
    await stage.create(download("two", claim=claim, sub_path="set-2" if claim == "data" else "set"), attempts["two"])
    for name in attempts:
        await stage.phase(name, "Running")


@pytest.mark.parametrize("way", ["delete", "suspend", "fail"])
async def test_path_is_free_when_its_holder_goes(stage: Stage, way: str) -> None:
    await stage.claim()
    await stage.create(download("holder"), hang() if way != "fail" else fail(Reason.NOT_FOUND, seconds=1))
    await stage.phase("holder", "Running")
    await stage.create(download("next"), succeed())
    await stage.waits("next", Reason.PATH_BUSY)
    await LEAVES[way](stage)
    assert (await stage.ends("next", 8)).phase == "Succeeded"


async def leave_by_delete(stage: Stage) -> None:
    await stage.delete("holder")


async def leave_by_suspend(stage: Stage) -> None:
    await stage.suspend("holder", on=True)


async def leave_by_failure(stage: Stage) -> None:
    await stage.ends("holder")


LEAVES: dict[str, Any] = {"delete": leave_by_delete, "suspend": leave_by_suspend, "fail": leave_by_failure}


async def test_cube_that_is_held_from_the_start_holds_no_path(stage: Stage) -> None:
    await stage.claim()
    await stage.create(with_spec(download("held"), suspend=True))
    await stage.phase("held", "Suspended")
    await stage.create(download("next"), succeed())
    assert (await stage.ends("next")).phase == "Succeeded"
    await stage.suspend("held", on=False)
    assert (await stage.ends("held")).phase == "Succeeded"
