"""The informer, against a script of pages and streams, on a fake clock."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
from datacube_operator.backoff import Backoff
from datacube_operator.client import Page, WatchEvent
from datacube_operator.errors import Gone, NotFound, Silent, TooManyRequests, Unavailable
from datacube_operator.informer import Informer, WatchTiming
from datacube_operator.metrics import Metrics
from datacube_operator.resource import PODS
from datacube_operator.store import owner_index

from tests.controller.fake_clock import FakeClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from datacube_operator.client import Client

pytestmark = [pytest.mark.t0, pytest.mark.anyio]
TIMING = WatchTiming(backoff=Backoff(first=1, cap=30, jitter=0))


def pod(name: str, version: int, owner: str = "") -> dict[str, Any]:
    about: dict[str, Any] = {"namespace": "n", "name": name, "resourceVersion": str(version)}
    return {"metadata": about | ({"ownerReferences": [{"uid": owner}]} if owner else {})}


def page(*items: dict[str, Any], version: int, token: str = "") -> Page:
    return Page(list(items), str(version), token)


def event(type_: str, obj: dict[str, Any]) -> WatchEvent:
    return WatchEvent(type_, obj)


OPENED = WatchEvent("OPENED", {})
BOOKMARK = WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "90"}})


def error(code: int, reason: str) -> WatchEvent:
    return WatchEvent("ERROR", {"kind": "Status", "code": code, "reason": reason})


class Script:
    """Answers lists and watches with what is written down; a watch at the end of its script stays open in silence."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.pages: list[Page | Exception] = []
        self.streams: list[list[WatchEvent | Exception | asyncio.Event | float]] = []
        self.requests: list[tuple[str, str, float]] = []

    async def list(self, *_: Any, token: str, **__: Any) -> Page:
        self.requests.append(("list", token, self.clock.now()))
        answer = self.pages.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def watch(self, *_: Any, version: str, **__: Any) -> AsyncGenerator[WatchEvent]:
        self.requests.append(("watch", version, self.clock.now()))
        stream = self.streams.pop(0) if self.streams else [OPENED, asyncio.Event()]
        for told in stream:
            if isinstance(told, Exception):
                raise told
            if isinstance(told, asyncio.Event):
                await told.wait()
            elif isinstance(told, float):
                self.clock.move(told)
            else:
                yield told


class Desk:
    """An informer at work, and the keys that it told."""

    def __init__(self, clock: FakeClock) -> None:
        self.script, self.clock, self.metrics = Script(clock), clock, Metrics()
        self.informer = Informer(
            cast("Client", self.script), PODS, clock, self.metrics, indexes={"owner": owner_index}, timing=TIMING
        )
        self.told: list[str] = []
        self.owners: list[str] = []
        self.informer.subscribe(self.told.append)
        self.informer.subscribe(self.owners.append, owner_index)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.task = asyncio.create_task(self.informer.run())
        await settle()

    def news(self) -> list[str]:
        """What was told since the last time."""
        told = self.told[:]
        self.told.clear()
        return told


@pytest.fixture
async def desk(clock: FakeClock) -> AsyncIterator[Desk]:
    made = Desk(clock)
    yield made
    if made.task is not None:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)


async def test_list_is_followed_page_by_page_and_watched_from_its_version(desk: Desk) -> None:
    desk.script.pages = [page(pod("a", 1), version=10, token="more"), page(pod("b", 2), version=10)]
    await desk.start()
    assert desk.script.requests == [("list", "", 0), ("list", "more", 0), ("watch", "10", 0)]
    assert desk.news() == ["n/a", "n/b"]
    assert desk.informer.synced.is_set()


async def test_list_begins_anew_when_its_token_is_too_old(desk: Desk) -> None:
    desk.script.pages = [
        page(pod("a", 1), version=10, token="more"),
        Gone("list", 410, "Expired"),
        page(pod("b", 2), version=20),
    ]
    await desk.start()
    assert not desk.informer.synced.is_set()
    await desk.clock.pass_(1)
    assert desk.script.requests[-2:] == [("list", "", 1), ("watch", "20", 1)]
    assert list(desk.informer.store) == ["n/b"]


async def test_watch_events_change_the_store_and_name_their_keys(desk: Desk) -> None:
    desk.script.pages = [page(pod("a", 1), version=10)]
    changes = [event("ADDED", pod("b", 11)), event("MODIFIED", pod("a", 12)), event("DELETED", pod("b", 13)), BOOKMARK]
    desk.script.streams = [[*changes, 5.0]]
    await desk.start()
    assert desk.news() == ["n/a", "n/b", "n/a", "n/b"]
    assert list(desk.informer.store) == ["n/a"]
    assert desk.script.requests[-1] == ("watch", "90", 5)


async def test_change_names_the_owner_before_and_after_it(desk: Desk) -> None:
    desk.script.pages = [page(pod("a", 1, "x"), version=10)]
    desk.script.streams = [[event("MODIFIED", pod("a", 11, "y")), event("DELETED", pod("a", 12, "y")), 5.0]]
    await desk.start()
    assert desk.owners == ["x", "x", "y", "y"]


@pytest.mark.parametrize("end", [error(410, "Expired"), error(500, "InternalError"), Gone("watch", 410, "Gone")])
async def test_list_after_a_broken_stream_tells_what_was_missed_and_nothing_else(
    desk: Desk, end: WatchEvent | Exception
) -> None:
    before = [pod("changed", 1), pod("deleted", 2), pod("same", 3)]
    desk.script.pages = [page(*before, version=10)]
    desk.script.streams = [[end]]
    desk.script.pages.append(page(pod("added", 12), pod("changed", 11), pod("same", 3), version=20))
    await desk.start()
    desk.news()
    await desk.clock.pass_(1)
    assert sorted(desk.news()) == ["n/added", "n/changed", "n/deleted"]
    assert desk.script.requests[-1] == ("watch", "20", 1)


async def test_object_that_was_made_anew_during_a_gap_is_told(desk: Desk) -> None:
    desk.script.pages = [page(pod("a", 1, "x"), version=10), page(pod("a", 15, "y"), version=20)]
    desk.script.streams = [[error(410, "Expired")]]
    await desk.start()
    await desk.clock.pass_(1)
    assert desk.owners == ["x", "x", "y"]


async def test_watch_goes_on_from_where_it_was_when_the_connection_is_lost(desk: Desk) -> None:
    desk.script.pages = [page(version=10)]
    desk.script.streams = [[event("ADDED", pod("a", 11)), Unavailable("watch", 0, "SocketTimeoutError")]]
    await desk.start()
    await desk.clock.pass_(1)
    assert [r[:2] for r in desk.script.requests] == [("list", ""), ("watch", "10"), ("watch", "11")]


async def test_silent_watch_is_made_anew_at_once_and_is_no_failure(desk: Desk) -> None:
    desk.script.pages = [page(version=10)]
    desk.script.streams = [[OPENED, 70.0, Silent("watch", 0, "Silent")], [OPENED, 70.0, Silent("watch", 0, "Silent")]]
    await desk.start()
    assert desk.script.requests == [("list", "", 0), *(("watch", "10", t) for t in (0, 70, 140))]
    assert desk.informer.is_ready()


async def test_server_that_is_busy_is_left_alone_as_long_as_it_asks(desk: Desk) -> None:
    desk.script.pages = [TooManyRequests("list", 429, "TooManyRequests", retry_after=9), page(version=10)]
    await desk.start()
    await desk.clock.pass_(20)
    assert [r[0::2] for r in desk.script.requests[:2]] == [("list", 0), ("list", 9)]


async def test_failures_are_spaced_more_and_more(desk: Desk) -> None:
    desk.script.pages = [page(version=1)]
    desk.script.streams = [[Unavailable("watch", 503, "ServiceUnavailable")] for _ in range(5)]
    await desk.start()
    await desk.clock.pass_(40)
    assert [r[2] for r in desk.script.requests if r[0] == "watch"] == [0, 1, 3, 7, 15, 31]


async def test_watch_that_ends_at_once_counts_as_a_failure(desk: Desk) -> None:
    desk.script.pages = [page(version=1)]
    desk.script.streams = [[], []]
    await desk.start()
    await desk.clock.pass_(5)
    assert [r[2] for r in desk.script.requests if r[0] == "watch"] == [0, 1, 3]


async def test_long_watch_makes_earlier_failures_forgotten(desk: Desk) -> None:
    desk.script.pages = [page(version=1)]
    cut = Unavailable("watch", 0, "ClientOSError")
    desk.script.streams = [[cut], [cut], [60.0, cut], [cut]]
    await desk.start()
    await desk.clock.pass_(80)
    starts = [r[2] for r in desk.script.requests if r[0] == "watch"]
    assert [round(after - before) for before, after in pairwise(starts)] == [1, 2, 61, 2]


async def test_readiness_is_lost_when_the_server_is_away_and_comes_back_with_it(desk: Desk) -> None:
    desk.script.pages = [page(version=1)]
    desk.script.streams = [[Unavailable("watch", 0, "ClientOSError")] for _ in range(5)]
    assert not desk.informer.is_ready()
    await desk.start()
    assert desk.informer.is_ready()
    await desk.clock.pass_(16)
    assert not desk.informer.is_ready()
    await desk.clock.pass_(16)
    assert desk.informer.is_ready()


async def test_kind_that_is_not_installed_is_an_empty_one_until_it_is(desk: Desk) -> None:
    desk.script.pages = [NotFound("list", 404, "NotFound"), page(pod("a", 1), version=10)]
    await desk.start()
    assert desk.informer.synced.is_set()
    assert not desk.informer.is_served
    await desk.clock.pass_(1)
    assert desk.informer.is_served
    assert desk.news() == ["n/a"]


async def test_kind_that_is_not_installed_is_said_once(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.script.pages = [NotFound("list", 404, "NotFound") for _ in range(10)]
    await desk.start()
    await desk.clock.pass_(100)
    assert 5 <= len(desk.script.requests) < 10
    assert len(capsys.readouterr().err.splitlines()) == 1


async def test_kind_that_is_removed_takes_its_objects_with_it(desk: Desk) -> None:
    desk.script.pages = [page(pod("a", 1), version=10), NotFound("list", 404, "NotFound")]
    desk.script.streams = [[OPENED, NotFound("watch", 404, "NotFound")]]
    await desk.start()
    await desk.clock.pass_(1)
    assert desk.news() == ["n/a", "n/a"]
    assert list(desk.informer.store) == []
    assert not desk.informer.is_served


async def test_ended_watches_are_counted_by_reason(desk: Desk) -> None:
    desk.script.pages = [page(version=1), page(version=2)]
    desk.script.streams = [[5.0], [error(410, "Expired")]]
    await desk.start()
    await desk.clock.pass_(1)
    counted = {
        reason: desk.metrics.registry.get_sample_value(
            "datacube_watch_restarts_total", {"resource": "pods", "reason": reason}
        )
        for reason in ("Ended", "Expired")
    }
    assert counted == {"Ended": 1, "Expired": 1}


async def test_list_is_made_anew_on_demand_though_the_watch_is_open_and_dead(desk: Desk) -> None:
    desk.script.pages = [page(pod("a", 1), version=5), page(pod("a", 1), pod("b", 7), version=8)]
    await desk.start()
    desk.news()
    desk.informer.list_anew()
    assert not desk.informer.synced.is_set()
    await settle()
    assert desk.informer.synced.is_set()
    assert desk.news() == ["n/b"]
    assert [(kind, what) for kind, what, _ in desk.script.requests[-2:]] == [("list", ""), ("watch", "8")]
