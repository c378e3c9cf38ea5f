"""What the kubelet and Prometheus are told."""

from __future__ import annotations

import aiohttp
import pytest
from datacube_operator.health import serve_health
from datacube_operator.metrics import Metrics

from datacube_flows.api.reasons import Reason

pytestmark = [pytest.mark.t1, pytest.mark.anyio]


async def ask(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_readiness_names_what_is_missing_and_liveness_does_not_care() -> None:
    ready = {"datacubes": False, "pods": True}
    checks = {name: (lambda name=name: ready[name]) for name in ready}
    async with serve_health("127.0.0.1", 0, checks, Metrics()) as port:
        assert await ask(port, "/healthz") == (200, "ok\n")
        assert await ask(port, "/readyz") == (503, "not ready: datacubes\n")
        ready["datacubes"] = True
        assert await ask(port, "/readyz") == (200, "ok\n")
        assert (await ask(port, "/else"))[0] == 404


async def test_metrics_show_depth_requests_leader_and_what_runs_came_to() -> None:
    metrics = Metrics()
    waiting = ["a", "b"]
    metrics.watch_depth("datacubes", lambda: len(waiting))
    metrics.requests.labels("patch", 409).inc()
    metrics.leader.set(1)
    metrics.run_ended("s3-download", Reason.UP_TO_DATE, 0)
    metrics.run_ended("s3-download", Reason.TRANSFER_COMPLETE, 1024)
    metrics.attempt_ended(Reason.STALLED)
    metrics.log_read(0)
    async with serve_health("127.0.0.1", 0, {}, metrics) as port:
        status, text = await ask(port, "/metrics")
    assert status == 200
    assert 'datacube_queue_depth{queue="datacubes"} 2.0' in text
    assert 'datacube_api_requests_total{code="409",verb="patch"} 1.0' in text
    assert "datacube_leader 1.0" in text
    assert 'datacube_runs_total{kind="s3-download",reason="UpToDate"} 1.0' in text
    assert 'datacube_bytes_total{kind="s3-download"} 1024.0' in text
    assert 'datacube_attempts_total{reason="Stalled"} 1.0' in text
    assert 'datacube_log_reads_total{code="none"} 1.0' in text
    assert "process_resident_memory_bytes" in text
