"""Status is written when it changed, to the right DataCube, and what was written is known before the cache shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from datacube_operator.cube import Cube
from datacube_operator.errors import Conflict, Unavailable
from datacube_operator.resource import DATACUBES
from datacube_operator.status_book import TRIES, CubeGone, StatusBook

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import DataCubeStatus
from datacube_flows.core.fold import fold, initial_status
from datacube_flows.core.observation import Observation
from tests.controller.decision_objects import made
from tests.controller.fake_api import FakeApi
from tests.controller.fake_clock import START, FakeClock
from tests.controller.scenarios_documents import download

pytestmark = [pytest.mark.t0, pytest.mark.anyio]

PENDING = initial_status(START)
QUEUED = fold(PENDING, Observation(waiting=(Reason.QUEUED, "later")), START)


@dataclass
class Desk:
    """A DataCube on the server, and a book that writes to it."""

    api: FakeApi = field(default_factory=lambda: FakeApi(FakeClock()))

    def __post_init__(self) -> None:
        self.book = StatusBook(self.api.client)
        self.seen = self.api.put(DATACUBES, made(download("cube")))

    def now(self) -> dict[str, Any]:
        found = self.api.read(DATACUBES, "team/cube")
        assert found is not None
        return found

    async def write(self, status: DataCubeStatus) -> Cube:
        return await self.book.write(self.book.read(self.seen), status)


async def test_status_is_written_with_the_generation_that_it_speaks_of() -> None:
    desk = Desk()
    await desk.write(QUEUED)
    status = desk.now()["status"]
    assert (status["phase"], status["observedGeneration"]) == ("Pending", 1)
    assert [c["type"] for c in status["conditions"]] == ["Initialized", "Complete", "Failed"]


async def test_same_status_is_not_written_again_also_where_the_cache_is_behind() -> None:
    desk = Desk()
    for _ in range(3):
        await desk.write(QUEUED)
    assert desk.api.calls == ["apply datacubes/cube"]


async def test_what_was_written_counts_until_the_cache_shows_it_and_no_longer() -> None:
    desk = Desk()
    await desk.write(QUEUED)
    assert desk.book.read(desk.seen).waits_for == Reason.QUEUED
    later = desk.api.put(DATACUBES, desk.now() | {"status": PENDING.to_wire()})
    assert desk.book.read(later).waits_for == ""
    assert desk.book.read(desk.seen).status == DataCubeStatus()


async def test_generation_never_goes_back() -> None:
    desk = Desk()
    desk.seen["metadata"]["generation"] = 3
    await desk.write(PENDING)
    desk.seen["metadata"]["generation"] = 2
    await desk.write(QUEUED)
    assert desk.now()["status"]["observedGeneration"] == 3


async def test_cube_that_took_the_name_is_left_alone() -> None:
    desk = Desk()
    del desk.api.objects["datacubes/team/cube"]
    with pytest.raises(CubeGone):
        await desk.write(PENDING)
    desk.api.put(DATACUBES, made(download("cube"), uid="another"))
    with pytest.raises(CubeGone):
        await desk.write(PENDING)
    assert "status" not in desk.now()


async def test_write_that_failed_is_not_taken_for_done() -> None:
    desk = Desk()
    desk.api.fail("apply datacubes", Unavailable("patch", 503, "Unavailable"))
    with pytest.raises(Unavailable):
        await desk.write(PENDING)
    assert desk.book.read(desk.seen).status == DataCubeStatus()
    assert (await desk.write(PENDING)).status.phase == "Pending"


async def test_status_is_written_over_a_users_change_that_came_meanwhile() -> None:
    desk = Desk()
    now = desk.now()
    desk.api.put(DATACUBES, now | {"metadata": now["metadata"] | {"labels": {"team": "a"}}})
    await desk.write(QUEUED)
    assert (desk.now()["status"]["phase"], desk.now()["metadata"]["labels"]) == ("Pending", {"team": "a"})
    assert desk.api.calls == ["apply datacubes/cube", "get datacubes/cube", "apply datacubes/cube"]


async def test_status_is_decided_anew_where_the_cube_changes_all_the_time() -> None:
    desk = Desk()
    desk.api.fail("apply datacubes", *(Conflict("patch", 409, "Conflict") for _ in range(TRIES)))
    with pytest.raises(CubeGone):
        await desk.write(QUEUED)
    assert (await desk.write(QUEUED)).waits_for == Reason.QUEUED


async def test_path_is_taken_only_from_the_newest_version_and_any_other_write_goes_through() -> None:
    desk = Desk()
    behind = desk.book.read(desk.seen)
    desk.api.put(DATACUBES, desk.now() | {"status": QUEUED.to_wire()})
    with pytest.raises(CubeGone), desk.book.take(behind):
        await desk.book.write(behind, PENDING)
    assert desk.now()["status"] == QUEUED.to_wire()
    await desk.book.write(behind, PENDING)
    assert desk.now()["status"]["conditions"] == PENDING.to_wire()["conditions"]


async def test_path_is_taken_from_an_own_write_that_the_cache_lacks() -> None:
    desk = Desk()
    cube = await desk.write(QUEUED)
    with desk.book.take(cube):
        assert desk.book.taking == {cube.uid}
        await desk.book.write(cube, PENDING)
    assert desk.book.taking == frozenset()
    assert desk.book.latest(cube) == desk.now()["metadata"]["resourceVersion"]


async def test_taking_ends_also_where_the_write_fails() -> None:
    desk = Desk()
    cube = desk.book.read(desk.seen)
    desk.api.fail("apply datacubes", Unavailable("patch", 503, "Unavailable"))
    with pytest.raises(Unavailable), desk.book.take(cube):
        await desk.book.write(cube, PENDING)
    assert desk.book.taking == frozenset()


async def test_book_forgets_a_cube_that_is_gone() -> None:
    desk = Desk()
    await desk.write(QUEUED)
    desk.book.forget("uid-of-cube")
    assert desk.book.read(desk.seen).status == DataCubeStatus()
