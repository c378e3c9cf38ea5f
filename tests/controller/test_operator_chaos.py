"""Users, faults and crashes at random, by seed; whatever happens, what must hold holds, and all comes to an end.

Held all the while: attempts on overlapping paths never live at once, one of them writing. Held in the end: every
DataCube has ended, its status is about the run that uid and annotation ask for, no run was begun twice but where it was
suspended in between, and the claim is as it was.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.cube import path_use_of_pod
from datacube_operator.errors import ApiError
from datacube_operator.resource import CLAIMS, DATACUBES, PODS, WORKFLOWS

from datacube_flows.api.reasons import Reason
from datacube_flows.core import labels
from datacube_flows.core.plan import run_id
from tests.controller.api_proxy import Fault
from tests.controller.played_kubelet import ENDED, crash, fail, succeed
from tests.controller.scenarios_documents import download, upload, with_spec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.controller.played_kubelet import Attempt
    from tests.controller.scenarios_bench import Outcome, Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

STEPS = 30
END_SECONDS = 60.0
NAMES = ("one", "two", "three", "four")
PATHS = ("set", "set/part", "other")
OPERATOR_FLAGS = ("--no-progress", "--allow-http", "--no-accounts")


@dataclass
class Chaos:
    """What has happened so far in a namespace, and what may happen next."""

    stage: Stage
    dice: random.Random
    holds: Counter[str] = field(default_factory=Counter)
    """uid -> how often it was suspended, each of which allows its run to begin once more."""

    unknown: Counter[str] = field(default_factory=Counter)
    runs: dict[str, str] = field(default_factory=dict)
    """Name of a workflow -> uid of the DataCube that asked for this run."""

    overlaps: list[str] = field(default_factory=list)

    async def step(self) -> None:
        """Does one thing at random; what is not there cannot be changed."""
        act = self.dice.choice(ACTS)
        with suppress(ApiError):
            await act(self, self.dice.choice(NAMES))
        await asyncio.sleep(self.dice.choice((0.0, 0.02, 0.1, 0.3)))

    def script(self) -> tuple[Attempt, ...]:
        slow = self.dice.choice((0.0, 0.1, 0.5))
        good = succeed(seconds=slow)
        return self.dice.choice(((good,), (crash(75), good), (fail(Reason.NOT_FOUND, seconds=slow),)))

    async def make(self, name: str) -> None:
        make = self.dice.choice((download, download, upload))
        document = make(name, sub_path=self.dice.choice(PATHS), backoffLimit=1)
        is_held = self.dice.random() < 0.2
        made = await self.stage.create(with_spec(document, suspend=True) if is_held else document, *self.script())
        self.holds[made["metadata"]["uid"]] += is_held
        self.note(made)

    async def remove(self, name: str) -> None:
        await self.stage.delete(name)

    async def make_anew(self, name: str) -> None:
        await self.remove(name)
        await self.make(name)

    async def suspend(self, name: str) -> None:
        held = await self.stage.suspend(name, on=True)
        self.holds[held["metadata"]["uid"]] += 1

    async def resume(self, name: str) -> None:
        await self.stage.suspend(name, on=False)

    async def rerun(self, name: str) -> None:
        self.stage.play(name, *self.script())
        self.note(await self.stage.rerun(name, str(self.dice.random())))

    def note(self, cube: dict[str, Any]) -> None:
        """Remembers which run a DataCube asks for."""
        about = cube["metadata"]
        value = about.get("annotations", {}).get(labels.RERUN, "")
        self.runs[f"{about['name']}-{run_id(about['uid'], value)}"] = about["uid"]

    def begun_too_often(self) -> dict[str, int]:
        """Runs that were begun more often than they were asked for."""
        begun = Counter(self.stage.workflows())
        allowed = {name: 1 + self.holds[self.runs.get(name, "")] + self.unknown[name] for name in begun}
        return {name: times for name, times in begun.items() if times > allowed[name]}

    async def remove_workflow(self, _name: str) -> None:
        """Nobody can know of a workflow that goes before any status told of it: such a run may begin once more."""
        for workflow in (await self.stage.objects(WORKFLOWS))[:1]:
            about = workflow["metadata"]
            cube = await self.stage.cube(about["labels"][labels.NAME])
            if cube.get("status", {}).get("workflow", {}).get("uid") != about["uid"]:
                self.unknown[about["name"]] += 1
            await self.stage.client.delete(WORKFLOWS, self.stage.namespace, about["name"], uid=about["uid"])

    async def remove_pod(self, _name: str) -> None:
        for pod in (await self.stage.objects(PODS))[:1]:
            about = pod["metadata"]
            await self.stage.client.delete(PODS, self.stage.namespace, about["name"], uid=about["uid"])

    async def kill(self, _name: str) -> None:
        self.stage.world.operator.kill()
        self.stage.world.operator.start()

    async def cut(self, _name: str) -> None:
        self.stage.world.proxy.part()
        await asyncio.sleep(0.3)
        self.stage.world.proxy.cut = False

    async def lose(self, _name: str) -> None:
        match = f"^(POST|PATCH|DELETE) .*/namespaces/{self.stage.namespace}/"
        self.stage.world.proxy.faults.append(Fault(match, status=self.dice.choice((0, 409, 429, 503))))

    async def watch_paths(self) -> None:
        """Looks all the while that no two attempts are in each other's way."""
        store = self.stage.world.played.informers[PODS].store
        while True:
            pods = [store.get(key) or {} for key in store if key.startswith(f"{self.stage.namespace}/")]
            uses = [(p["metadata"]["name"], path_use_of_pod(p)) for p in pods if is_alive(p)]
            for number, (name, use) in enumerate(uses):
                for other, theirs in uses[number + 1 :]:
                    if use is not None and theirs is not None and use.conflicts_with(theirs):
                        self.overlaps.append(f"{name} {other}")
            await asyncio.sleep(0.02)

    async def calm(self) -> None:
        """Has nothing more happen, and nobody hold anything back."""
        self.stage.world.calm()
        if not self.stage.world.operator.is_running:
            self.stage.world.operator.start()
        for name in NAMES:
            with suppress(ApiError):
                await self.resume(name)


ACTS: tuple[Callable[[Chaos, str], Awaitable[None]], ...] = (
    Chaos.make, Chaos.make, Chaos.make, Chaos.make, Chaos.make_anew, Chaos.remove,
    Chaos.suspend, Chaos.resume, Chaos.resume, Chaos.rerun, Chaos.rerun,
    Chaos.remove_workflow, Chaos.remove_pod, Chaos.kill, Chaos.cut, Chaos.lose, Chaos.lose,
)  # fmt: skip


def is_alive(pod: dict[str, Any]) -> bool:
    step = pod["metadata"]["labels"].get(labels.STEP)
    return step == labels.TRANSFER and pod["status"].get("phase") not in ENDED


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_whatever_happens_runs_exclude_each_other_and_come_to_their_end(stage: Stage, seed: int) -> None:
    before = await stage.claim()
    chaos = Chaos(stage, random.Random(seed))  # noqa: S311 - what happens is chosen by the seed
    watching = asyncio.create_task(chaos.watch_paths())
    for _ in range(STEPS):
        await chaos.step()
    await chaos.calm()
    for cube in await stage.objects(DATACUBES):
        await check_end(stage, cube["metadata"]["name"])
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert chaos.overlaps == []
    assert await stage.client.get(CLAIMS, stage.namespace, "data") == before
    assert chaos.begun_too_often() == {}


async def check_end(stage: Stage, name: str) -> None:
    """A DataCube has ended, and its status is about the run that it asks for."""
    wanted = await wanted_run(stage, name)
    await stage.until(name, lambda now: is_final(now) and now.workflow.endswith(wanted), END_SECONDS)
    await stage.quiet()
    seen = await stage.ends(name)
    await stage.quiet()
    assert seen.conditions in ("TTF", "TFT", "FFT")
    assert (seen.phase == "Succeeded") == (seen.conditions == "TTF")
    assert (await stage.ends(name)).status == seen.status


def is_final(seen: Outcome) -> bool:
    return seen.phase in ("Succeeded", "Failed")


async def wanted_run(stage: Stage, name: str) -> str:
    about = (await stage.cube(name))["metadata"]
    return run_id(about["uid"], about.get("annotations", {}).get(labels.RERUN, ""))
