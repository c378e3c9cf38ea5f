"""The informer before a real API server, through a proxy that breaks its lists and watches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from datacube_operator.resource import DATACUBES

from tests.cluster.api import DIES_WITH_TEST, start_api
from tests.cluster.binaries import find_programs
from tests.cluster.packages import SEARCH
from tests.cluster.process import Roster
from tests.controller.api_proxy import Fault
from tests.controller.server import direct, line_to, make_cube, until, watched

if TYPE_CHECKING:
    from pathlib import Path

    from datacube_operator.client import Client

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WATCH = "watch=true"
LIST = "datacubes[?]limit"
EXPIRED = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
BROKEN = EXPIRED | {"reason": "InternalError", "code": 500}


async def make_cubes(client: Client, namespace: str, *names: str) -> None:
    for name in names:
        await client.create(DATACUBES, namespace, make_cube(name))


async def delete_cube(client: Client, namespace: str, name: str) -> None:
    found = await client.get(DATACUBES, namespace, name)
    await client.delete(DATACUBES, namespace, name, uid=found["metadata"]["uid"])


async def label_cube(client: Client, namespace: str, name: str, value: str) -> None:
    await client.patch(DATACUBES, namespace, name, {"metadata": {"labels": {"label": value}}})


async def test_informer_follows_what_happens(api: Cluster, namespace: str, tmp_path: Path) -> None:
    async with direct(api) as client, line_to(api, tmp_path) as line:
        await make_cubes(client, namespace, "a", "b")
        async with watched(line, namespace) as seen:
            assert seen.news() == ["a", "b"]
            await make_cubes(client, namespace, "c")
            await label_cube(client, namespace, "a", "new")
            await delete_cube(client, namespace, "b")
            await until(lambda: seen.names() == ["a", "c"])
            assert seen.news() == ["a", "b", "c"]
            kept = seen.informer.store.get(f"{namespace}/a")
            assert kept is not None
            assert kept["metadata"]["labels"] == {"label": "new"}
            assert "managedFields" not in kept["metadata"]
            assert len(line.proxy.times_of(LIST)) == 1


async def test_informer_lists_page_by_page(api: Cluster, namespace: str, tmp_path: Path) -> None:
    async with direct(api) as client, line_to(api, tmp_path) as line:
        await make_cubes(client, namespace, *(f"c{n}" for n in range(7)))
        async with watched(line, namespace, page=3) as seen:
            assert len(seen.names()) == 7
            assert len(line.proxy.times_of(LIST)) == 3


async def test_informer_begins_the_list_anew_when_its_token_is_too_old(
    api: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with direct(api) as client, line_to(api, tmp_path) as line:
        await make_cubes(client, namespace, *(f"c{n}" for n in range(5)))
        line.proxy.faults.append(Fault("continue=", status=410, body=EXPIRED))
        async with watched(line, namespace, page=3) as seen:
            assert len(seen.names()) == 5
            assert [("continue=" in s.line) for s in line.proxy.seen[:4]] == [False, True, False, True]


@pytest.mark.parametrize("status", [pytest.param(EXPIRED, id="410"), pytest.param(BROKEN, id="500")])
async def test_informer_tells_what_happened_while_its_stream_was_broken(
    api: Cluster, namespace: str, tmp_path: Path, status: dict[str, object]
) -> None:
    async with direct(api) as client, line_to(api, tmp_path) as line:
        await make_cubes(client, namespace, "same", "changed", "deleted", "remade")
        async with watched(line, namespace) as seen:
            seen.news()
            line.proxy.silence()
            await make_cubes(client, namespace, "added")
            await label_cube(client, namespace, "changed", "new")
            await delete_cube(client, namespace, "deleted")
            await delete_cube(client, namespace, "remade")
            await make_cubes(client, namespace, "remade")
            await line.proxy.say({"type": "ERROR", "object": status})
            await line.proxy.until(WATCH, 2)
            assert seen.names() == ["added", "changed", "remade", "same"]
            assert seen.news() == ["added", "changed", "deleted", "remade"]
            await label_cube(client, namespace, "same", "new")
            await until(lambda: seen.news() == ["same"])


async def test_informer_lists_again_when_the_watch_is_refused_as_too_old(
    api: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with line_to(api, tmp_path) as line:
        line.proxy.faults.append(Fault(WATCH, status=410, body=EXPIRED))
        async with watched(line, namespace):
            await line.proxy.until(WATCH, 2)
            assert len(line.proxy.times_of(LIST)) == 2


async def test_informer_notices_a_stream_that_is_open_and_dead(api: Cluster, namespace: str, tmp_path: Path) -> None:
    async with (
        direct(api) as client,
        line_to(api, tmp_path) as line,
        watched(line, namespace, idle_seconds=1.5) as seen,
    ):
        line.proxy.silence()
        await make_cubes(client, namespace, "a")
        await asyncio.sleep(0.3)
        assert seen.names() == []
        await until(lambda: seen.names() == ["a"], seconds=4)
        assert len(line.proxy.times_of(LIST)) == 1
        labels = {"resource": "datacubes", "reason": "Silent"}
        assert line.metrics.registry.get_sample_value("datacube_watch_restarts_total", labels) == 1


async def test_informer_leaves_a_busy_server_alone_as_long_as_it_asks(
    api: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with line_to(api, tmp_path) as line:
        busy = {"status": 429, "headers": {"Retry-After": "2"}}
        line.proxy.faults += [Fault(LIST, **busy), Fault(WATCH, **busy)]  # type: ignore[arg-type]
        async with watched(line, namespace):
            await line.proxy.until(WATCH, 2)
            lists, watches = line.proxy.times_of(LIST), line.proxy.times_of(WATCH)
            assert lists[1] - lists[0] >= 2
            assert watches[1] - watches[0] >= 2
            assert (len(lists), len(watches)) == (2, 2)


async def test_informer_comes_back_after_the_network_was_parted(api: Cluster, namespace: str, tmp_path: Path) -> None:
    async with direct(api) as client, line_to(api, tmp_path) as line, watched(line, namespace) as seen:
        line.proxy.part()
        await make_cubes(client, namespace, "a")
        await until(lambda: not seen.informer.is_ready())
        assert seen.names() == []
        assert len(line.proxy.times_of(WATCH)) < 12
        line.proxy.cut = False
        await until(lambda: seen.names() == ["a"] and seen.informer.is_ready())


async def test_informer_follows_a_server_that_is_killed_and_started_again(
    api: Cluster, cluster_cache: Path, namespace: str, tmp_path: Path
) -> None:
    folder = api.kubeconfig.parent
    roster = Roster(folder / "processes", folder / "logs", {"PATH": SEARCH}, DIES_WITH_TEST)
    async with direct(api) as client, line_to(api, tmp_path) as line, watched(line, namespace) as seen:
        await make_cubes(client, namespace, "before")
        await until(lambda: seen.names() == ["before"])
        server = roster.find("kube-apiserver")
        assert server is not None
        server.kill()
        await until(lambda: not seen.informer.is_ready())
        start_api(roster, folder, find_programs(cluster_cache, "api"))
        await make_cubes(client, namespace, "after")
        await until(lambda: seen.names() == ["after", "before"] and seen.informer.is_ready())
