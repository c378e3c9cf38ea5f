"""Events: few, each said once and then counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from datacube_operator.errors import AlreadyExists, Forbidden, NotFound
from datacube_operator.events import EventPace, Recorder, Words

from tests.controller.fake_clock import FakeClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from datacube_operator.client import Client

pytestmark = [pytest.mark.t0, pytest.mark.anyio]

CUBE = {
    "apiVersion": "tensorstack.dev/v1beta1",
    "kind": "DataCube",
    "metadata": {"namespace": "n", "name": "cube", "uid": "u1", "resourceVersion": "5"},
}
WAITING = Words("Warning", "WaitingForVolume", "claim data does not exist", "Wait")


class EventServer:
    """Keeps events by name, as the API server does; stands for the client."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.refuses = False

    async def create(self, _resource: Any, _namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        self.requests.append("create")
        if self.refuses:
            raise Forbidden("create", 403, "Forbidden")
        if body["metadata"]["name"] in self.events:
            raise AlreadyExists("create", 409, "AlreadyExists")
        return self.events.setdefault(body["metadata"]["name"], dict(body))

    async def get(self, _resource: Any, _namespace: str, name: str) -> dict[str, Any]:
        self.requests.append("get")
        return self.events[name]

    async def patch(self, _resource: Any, _namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.requests.append("patch")
        if name not in self.events:
            raise NotFound("patch", 404, "NotFound")
        self.events[name] |= body
        return self.events[name]


class Scribe:
    """A recorder at work."""

    def __init__(self, clock: FakeClock, server: EventServer) -> None:
        pace = EventPace(burst=3, refill_seconds=60, series_seconds=300)
        self.server, self.recorder = server, Recorder(cast("Client", server), "operator-1", clock, pace)
        self.task = asyncio.create_task(self.recorder.run())

    async def record(self, words: Words, cube: dict[str, Any] = CUBE) -> bool:
        written = self.recorder.record(cube, words)
        await settle()
        return written


@pytest.fixture
async def scribe(clock: FakeClock) -> AsyncIterator[Scribe]:
    made = Scribe(clock, EventServer())
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


def counts(scribe: Scribe) -> list[int]:
    return [event.get("series", {}).get("count", 1) for event in scribe.server.events.values()]


async def test_event_names_the_object_that_it_is_about(scribe: Scribe) -> None:
    assert await scribe.record(WAITING)
    (event,) = scribe.server.events.values()
    assert event["regarding"] == {
        "apiVersion": "tensorstack.dev/v1beta1",
        "kind": "DataCube",
        "namespace": "n",
        "name": "cube",
        "uid": "u1",
        "resourceVersion": "5",
    }
    assert (event["reason"], event["eventTime"]) == ("WaitingForVolume", "2026-01-01T00:00:00.000000Z")


async def test_event_said_again_is_counted_and_written_seldom(scribe: Scribe, clock: FakeClock) -> None:
    for _ in range(10):
        await scribe.record(WAITING)
    assert scribe.server.requests == ["create"]
    clock.move(300)
    await scribe.record(WAITING)
    assert scribe.server.requests == ["create", "patch"]
    assert counts(scribe) == [11]


async def test_event_with_other_words_or_about_another_object_is_another(scribe: Scribe) -> None:
    await scribe.record(WAITING)
    await scribe.record(Words("Warning", "WaitingForVolume", "claim data is being deleted", "Wait"))
    await scribe.record(WAITING, CUBE | {"metadata": CUBE["metadata"] | {"uid": "u2"}})  # type: ignore[operator]
    assert counts(scribe) == [1, 1, 1]


async def test_object_may_have_only_so_many_events(scribe: Scribe, clock: FakeClock) -> None:
    said = [await scribe.record(Words("Normal", "Progress", f"{n} %", "Transfer")) for n in range(6)]
    assert said == [True, True, True, False, False, False]
    clock.move(60)
    assert await scribe.record(Words("Normal", "Progress", "100 %", "Transfer"))


async def test_event_that_an_earlier_process_said_is_counted(clock: FakeClock, scribe: Scribe) -> None:
    await scribe.record(WAITING)
    successor = Scribe(clock, scribe.server)
    await successor.record(WAITING)
    successor.task.cancel()
    assert counts(scribe) == [2]


async def test_event_that_expired_is_said_anew(scribe: Scribe, clock: FakeClock) -> None:
    await scribe.record(WAITING)
    scribe.server.events.clear()
    clock.move(4000)
    await scribe.record(WAITING)
    assert scribe.server.requests == ["create", "patch", "create"]


async def test_event_that_is_refused_harms_nobody(scribe: Scribe, capsys: pytest.CaptureFixture[str]) -> None:
    scribe.server.refuses = True
    await scribe.record(WAITING)
    scribe.server.refuses = False
    await scribe.record(Words("Normal", "Started", "the transfer started", "Transfer"))
    assert len(scribe.server.events) == 1
    assert "event not written" in capsys.readouterr().err


async def test_note_is_cut_to_what_the_api_takes(scribe: Scribe) -> None:
    await scribe.record(Words("Warning", "Failed", "x" * 5000, "Transfer"))
    assert [len(event["note"]) for event in scribe.server.events.values()] == [1024]
