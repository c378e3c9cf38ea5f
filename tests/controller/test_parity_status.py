"""What a DataCube's status says does not depend on the engine: the same script for both, every status compared whole.

What may differ stands in one short list, each entry with its reason; names, times, uids and pages are masked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.resource import PODS, WORKFLOWS

from datacube_flows.api.reasons import Reason
from tests.controller.played_kubelet import fail, hang, succeed, wait_for_image
from tests.controller.prefect_pages import cancel, run_in
from tests.controller.scenarios_documents import download, with_spec
from tests.controller.test_operator_rows import ROWS
from tests.masked import ABSENT, differences, masked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.controller.played_kubelet import Attempt
    from tests.controller.scenarios_bench import Outcome, Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WITH_PREFECT = True

Document = dict[str, Any]
Statuses = list[Document]

ENGINES = ("argo", "prefect")
SECONDS = 60.0

BY_HAND = "the workflow was stopped by hand: the re-run annotation starts another run"
IN_PREFECT = "the run was cancelled in Prefect: retry it there, or set a new re-run annotation"
SEEN, GONE = "the pod was deleted while it ran", "the pod was deleted, or its node is gone"
LATE = "nobody waits for this very pod in Argo: it may have ended and be gone before it is looked at again"

DIFFERENT: dict[str, dict[tuple[Any, Any], str]] = {
    "workflow.engine": {ENGINES: "it says which engine ran it"},
    "workflow.template": {("datacube-cube", "transfer/datacube"): "each has templates of its own kind"},
    "workflow.url": {(ABSENT, "(url of the run)"): "where Argo's pages are is not among the operator's settings"},
    "conditions.message": {
        (BY_HAND, IN_PREFECT): "it says where the run was ended, and how it is begun again there",
        (f"the only attempt failed: PodDeleted: {GONE}", f"the only attempt failed: PodDeleted: {SEEN}"): LATE,
    },
    "attempts.message": {
        (BY_HAND, IN_PREFECT): "as the condition says",
        (GONE, SEEN): LATE,
    },
    "attempts.startTime": {(ABSENT, "(time)"): LATE},
    "attempts.exitCode": {
        (143, ABSENT): "a cancelled attempt's pod is waited for by Argo, and in Prefect deleted",
        (ABSENT, 143): LATE,
    },
    "pod.status": {("Error", "Terminated"): "a cancelled attempt's pod is waited for by Argo, and in Prefect deleted"},
}
"""Field of a status -> what it is in Argo and in Prefect where it is not the same, and why."""


@dataclass
class Play:
    """A scenario as one engine plays it.

    Attributes:
        seen: what is compared, in order.
    """

    stage: Stage
    engine: str
    seen: Statuses

    async def create(self, document: Document, *script: Attempt) -> None:
        """Makes the DataCube, run by the engine."""
        executor = document["spec"].get("executor") or {}
        await self.stage.create(with_spec(document, executor=executor | {"engine": self.engine}), *script)

    def note(self, outcome: Outcome) -> None:
        """Has a status compared."""
        self.seen.append(masked(outcome.status))

    async def delete_pod(self) -> None:
        """Deletes the newest attempt's pod as kubectl does."""
        about = (await self.stage.pods("cube"))[-1]["metadata"]
        await self.stage.client.delete(PODS, self.stage.namespace, about["name"], uid=about["uid"])

    async def cancel(self) -> None:
        """Ends the run as a person does at the engine's own pages."""
        if self.engine == "prefect":
            await cancel(self.stage, await run_in(self.stage, "RUNNING"))
            return
        name = (await self.stage.cube("cube"))["status"]["workflow"]["name"]
        await self.stage.client.patch(WORKFLOWS, self.stage.namespace, name, {"spec": {"shutdown": "Terminate"}})


async def _deleted(play: Play) -> None:
    await play.create(download("cube", backoffLimit=1), hang(), succeed())
    play.note(await play.stage.phase("cube", "Running"))
    await play.delete_pod()


async def _deleted_for_good(play: Play) -> None:
    await play.create(download("cube"), hang())
    await play.stage.phase("cube", "Running")
    await play.delete_pod()


async def _deleted_before_its_start(play: Play) -> None:
    await play.create(download("cube", backoffLimit=1), wait_for_image(), succeed())
    await play.stage.waits("cube", "ImagePullError")
    await play.delete_pod()


async def _evicted(play: Play) -> None:
    await play.create(download("cube"), ROWS["retries, then success"].script[1])


async def _waits_for_its_image(play: Play) -> None:
    script = wait_for_image()
    await play.create(download("cube"), script)
    play.note(await play.stage.waits("cube", "ImagePullError"))
    script.release()


async def _suspended_and_resumed(play: Play) -> None:
    await play.create(download("cube"), hang())
    await play.stage.phase("cube", "Running")
    await play.stage.suspend("cube", on=True)
    play.note(await play.stage.phase("cube", "Suspended"))
    play.stage.play("cube", succeed())
    await play.stage.suspend("cube", on=False)


async def _cancelled(play: Play) -> None:
    await play.create(download("cube", backoffLimit=2), hang())
    await play.stage.phase("cube", "Running")
    await play.cancel()


async def _run_again(play: Play) -> None:
    await play.create(download("cube"), fail(Reason.NOT_FOUND, "there is no such thing"))
    play.note(await play.stage.ends("cube", SECONDS))
    play.stage.play("cube", hang())
    await play.stage.rerun("cube", "tuesday")
    play.note(await play.stage.phase("cube", "Running"))
    (script,) = play.stage.world.played.kubelet.scripts[f"{play.stage.namespace}/cube"]
    script.release()


async def _waits_for_its_claim(play: Play) -> None:
    await play.create(download("cube", claim="later"), succeed())
    play.note(await play.stage.waits("cube", "WaitingForVolume"))
    await play.stage.claim("later")


ACTS: dict[str, Callable[[Play], Awaitable[None]]] = {
    "pod deleted": _deleted,
    "pod deleted for good": _deleted_for_good,
    "pod deleted before its start": _deleted_before_its_start,
    "pod evicted": _evicted,
    "image that is not there yet": _waits_for_its_image,
    "suspended and resumed": _suspended_and_resumed,
    "cancelled": _cancelled,
    "run again": _run_again,
    "claim that is made later": _waits_for_its_claim,
}


def row(name: str) -> Callable[[Play], Awaitable[None]]:
    async def act(play: Play) -> None:
        await play.create(ROWS[name].document, *ROWS[name].script)

    return act


SCENARIOS = {name: row(name) for name in ROWS} | ACTS


async def played(stage: Stage, engine: str, act: Callable[[Play], Awaitable[None]]) -> Statuses:
    """Returns the statuses of a scenario, the last of which is final and stays."""
    await stage.claim()
    play = Play(stage, engine, [])
    await act(play)
    end = await stage.ends("cube", SECONDS)
    await stage.quiet()
    assert (await stage.ends("cube")).status == end.status
    play.note(end)
    return play.seen


def unexplained(argo: Document, prefect: Document) -> dict[str, set[Any]]:
    """The differences that are not on the list."""
    found = {path: pairs - DIFFERENT.get(path, {}).keys() for path, pairs in differences(argo, prefect).items()}
    return {path: pairs for path, pairs in found.items() if pairs}


@pytest.mark.parametrize("name", SCENARIOS, ids=[name.replace(" ", "-") for name in SCENARIOS])
async def test_status_is_the_same_in_both_engines(stage: Stage, name: str) -> None:
    stages = (stage, await stage.world.stage("stage"))
    plays = [played(place, engine, SCENARIOS[name]) for place, engine in zip(stages, ENGINES, strict=True)]
    argo, prefect = await asyncio.gather(*plays)
    assert [unexplained(*pair) for pair in zip(argo, prefect, strict=True)] == [{}] * len(argo)
    assert await stages[1].leaks() == []
