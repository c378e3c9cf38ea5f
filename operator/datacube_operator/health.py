"""Answers the kubelet and Prometheus: /healthz, /readyz, /metrics."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from datacube_operator.metrics import Metrics

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def serve_health(
    host: str, port: int, checks: Mapping[str, Callable[[], bool]], metrics: Metrics
) -> AsyncIterator[int]:
    """Serves while the block runs; gives the port, which the system chooses where 0 is asked for.

    Args:
        host: the address to listen on.
        port: to listen on.
        checks: name -> whether that part is ready; /readyz names those that are not. /healthz tells that this
            process answers, and nothing of the cluster: a restart mends no API server.
        metrics: what /metrics shows.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        missing = [name for name, check in checks.items() if not check()]
        text = f"not ready: {', '.join(missing)}\n" if missing else "ok\n"
        return web.Response(text=text, status=503 if missing else 200)

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": METRICS_TYPE})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", show_metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
