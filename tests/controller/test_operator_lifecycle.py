"""What becomes of a DataCube that is suspended, run again, deleted, made anew, or kept for a while only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from datacube_operator.resource import CLAIMS, DATACUBES, PODS, WORKFLOW_TEMPLATES, WORKFLOWS

from datacube_flows.api.reasons import Reason
from tests.controller.played_kubelet import fail, hang, succeed
from tests.controller.scenarios_documents import download, with_spec

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]


async def test_suspended_cube_has_a_template_and_starts_when_it_may(stage: Stage) -> None:
    await stage.claim()
    await stage.create(with_spec(download("cube"), suspend=True), succeed())
    held = await stage.phase("cube", "Suspended")
    await stage.quiet()
    assert held.waits_for == Reason.SUSPENDED
    assert stage.workflows() == []
    assert len(await stage.objects(WORKFLOW_TEMPLATES)) == 1
    await stage.suspend("cube", on=False)
    seen = await stage.ends("cube")
    assert (seen.phase, len(stage.workflows())) == ("Succeeded", 1)


async def test_running_cube_that_is_suspended_ends_its_attempt_and_goes_on_later(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), hang())
    await stage.phase("cube", "Running")
    await stage.suspend("cube", on=True)
    held = await stage.phase("cube", "Suspended")
    await stage.gone(PODS)
    await stage.gone(WORKFLOWS)
    assert (held.attempts, held.reason) == ((), "")
    stage.play("cube", succeed())
    await stage.suspend("cube", on=False)
    seen = await stage.ends("cube")
    assert (seen.phase, seen.attempts) == ("Succeeded", ((1, ""),))
    assert stage.workflows() == [seen.workflow, seen.workflow]


async def test_cube_that_is_suspended_and_resumed_at_once_runs_to_its_end(stage: Stage) -> None:
    """Either nobody saw it and the attempt goes on, or it was seen and the run begins anew: it is not lost."""
    await stage.claim()
    attempt = hang()
    await stage.create(download("cube"), attempt)
    await stage.phase("cube", "Running")
    await stage.suspend("cube", on=True)
    await stage.suspend("cube", on=False)
    await stage.quiet()
    attempt.release()
    seen = await stage.ends("cube")
    assert (seen.phase, seen.attempts) == ("Succeeded", ((1, ""),))
    assert len(stage.workflows()) <= 2


async def test_finished_cube_is_not_changed_by_suspend_labels_or_resume(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), succeed())
    before = await stage.ends("cube")
    await stage.suspend("cube", on=True)
    await stage.patch("cube", {"metadata": {"labels": {"team": "a"}}})
    await stage.quiet()
    await stage.suspend("cube", on=False)
    await stage.quiet()
    after = await stage.ends("cube")
    assert after.conditions == before.conditions
    assert after.status["conditions"] == before.status["conditions"]
    assert len(stage.workflows()) == 1


async def test_annotation_runs_a_finished_cube_again_once_for_each_value(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), fail(Reason.NOT_FOUND))
    first = await stage.ends("cube")
    stage.play("cube", succeed())
    await stage.rerun("cube", "1")
    second = await stage.phase("cube", "Succeeded")
    await stage.rerun("cube", "1")
    await stage.quiet()
    assert (first.conditions, second.conditions) == ("TFT", "TTF")
    assert (second.attempts, second.reason) == (((1, ""),), Reason.TRANSFER_COMPLETE)
    assert stage.workflows() == [first.workflow, second.workflow]
    await stage.rerun("cube", "2")
    await stage.until("cube", lambda seen: seen.workflow not in (first.workflow, second.workflow))
    await stage.phase("cube", "Succeeded")
    await stage.quiet()
    assert len(set(stage.workflows())) == 3


async def test_annotation_in_mid_run_waits_for_the_end_of_the_run(stage: Stage) -> None:
    await stage.claim()
    attempt = hang()
    await stage.create(download("cube"), attempt)
    running = await stage.phase("cube", "Running")
    await stage.rerun("cube", "1")
    await stage.quiet()
    (pod,) = await stage.pods("cube")
    assert (await stage.phase("cube", "Running")).workflow == running.workflow
    stage.play("cube", succeed())
    attempt.release()
    seen = await stage.until("cube", lambda now: now.phase == "Succeeded" and now.workflow != running.workflow)
    assert stage.workflows() == [running.workflow, seen.workflow]
    names = {pod["metadata"]["name"] for pod in await stage.pods("cube")}
    assert len(names) == 2
    assert pod["metadata"]["name"] in names


async def test_finished_cube_is_deleted_after_its_time_and_the_claim_stays(stage: Stage) -> None:
    await stage.claim()
    await stage.create(with_spec(download("cube"), ttlSecondsAfterFinished=1), succeed())
    for kind in (DATACUBES, WORKFLOWS, WORKFLOW_TEMPLATES, PODS):
        await stage.gone(kind)
    assert len(stage.workflows()) == 1
    assert [claim["metadata"]["name"] for claim in await stage.objects(CLAIMS)] == ["data"]


async def test_cube_that_is_deleted_in_mid_run_leaves_the_claim_and_nothing_else(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), hang())
    await stage.phase("cube", "Running")
    await stage.delete("cube")
    for kind in (WORKFLOWS, WORKFLOW_TEMPLATES, PODS):
        await stage.gone(kind)
    await stage.quiet()
    assert len(await stage.objects(CLAIMS)) == 1
    assert len(stage.workflows()) == 1


async def test_cube_made_anew_at_once_runs_and_hears_nothing_of_the_one_before(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), hang())
    first = await stage.phase("cube", "Running")
    await stage.delete("cube")
    await stage.create(download("cube"), succeed())
    seen = await stage.ends("cube", 30)
    await stage.quiet()
    assert (seen.phase, seen.attempts, seen.conditions) == ("Succeeded", ((1, ""),), "TTF")
    assert stage.workflows() == [first.workflow, seen.workflow]
    (pod,) = await stage.pods("cube")
    assert seen.status["pod"]["reference"]["uid"] == pod["metadata"]["uid"]


async def test_cube_that_is_deleted_and_made_anew_many_times_has_one_run_each(stage: Stage) -> None:
    await stage.claim()
    uids = []
    for _ in range(6):
        made = await stage.create(download("cube"), succeed())
        uids.append(made["metadata"]["uid"])
        await asyncio.sleep(0.02 * len(uids))
        await stage.delete("cube")
    await stage.create(download("cube"), succeed())
    seen = await stage.ends("cube", 30)
    await stage.quiet()
    assert seen.conditions == "TTF", seen
    assert len(set(stage.workflows())) == len(stage.workflows()) <= len(uids) + 1
