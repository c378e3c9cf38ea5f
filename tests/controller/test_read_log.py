"""The client's reads of logs, from a server that answers as an API server does, or worse."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from datacube_operator.client import Client, connect
from datacube_operator.clock import SystemClock
from datacube_operator.errors import ApiError, Forbidden, Unavailable
from datacube_operator.fence import Fence
from datacube_operator.metrics import Metrics

from tests.canary import CANARY
from tests.controller.api_proxy import write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

pytestmark = [pytest.mark.t1, pytest.mark.anyio]

PATH = "/api/v1/namespaces/here/pods/{name}/log"


@asynccontextmanager
async def client_of(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], folder: Path
) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_get(PATH, answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        kubeconfig = write_kubeconfig(folder / "kubeconfig", f"http://127.0.0.1:{runner.addresses[0][1]}")
        async with connect(kubeconfig) as api:
            yield Client(api, Fence(SystemClock()), Metrics())
    finally:
        await runner.cleanup()


async def test_log_is_read_from_its_end_whether_this_replica_leads_or_not(tmp_path: Path) -> None:
    asked: list[tuple[dict[str, str], str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((dict(request.query), request.headers["Accept"]))
        return web.Response(body=b"one\n\xfftwo\n", content_type="text/plain")

    async with client_of(answer, tmp_path) as client:
        assert await client.read_log("here", "a", "main", tail_lines=5, limit_bytes=100) == "one\n\ufffdtwo\n"
    query = {"container": "main", "tailLines": "5", "limitBytes": "100"}
    assert asked == [(query, "application/json, */*")]


async def test_log_is_cut_where_the_server_sends_more_than_was_asked_for(tmp_path: Path) -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 65536)
            sent += 65536
        return response

    async with client_of(answer, tmp_path) as client:
        assert await client.read_log("here", "a", "main", tail_lines=5, limit_bytes=100_000) == "x" * 100_000
    assert sent < 60_000_000


async def test_refusals_are_told_apart_and_not_repeated(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        code = {"a": 403, "b": 400, "c": 503}[request.match_info["name"]]
        return web.json_response({"kind": "Status", "code": code, "message": CANARY}, status=code)

    async with client_of(answer, tmp_path) as client:
        for name, kind in (("a", Forbidden), ("b", ApiError), ("c", Unavailable)):
            with pytest.raises(kind) as caught:
                await client.read_log("here", name, "main", tail_lines=5, limit_bytes=100)
            assert CANARY not in str(caught.value)
