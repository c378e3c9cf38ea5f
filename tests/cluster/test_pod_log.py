"""Tier T3: the operator's client reads the log of a real kubelet as the tests without one suppose."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from datacube_operator.errors import ApiError
from datacube_operator.progress import LIMIT_BYTES, TAIL_LINES

from datacube_flows.core.attempt_log import parse_log
from tests.cluster.namespace import finish_pod, make_pod
from tests.controller.server import direct

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.t3

SCRIPT = """
for n in $(seq 1 30); do echo "{\\"progress\\":{\\"bytesDone\\":$n,\\"bytesTotal\\":30}}"; done
echo '{"notice":"rate limited until 12:00:00 UTC"}'
echo noise
"""


def read(cluster: Cluster, namespace: str, pod: str, *, tail_lines: int, limit_bytes: int) -> str:
    async def ask() -> str:
        async with direct(cluster) as client:
            return await client.read_log(namespace, pod, "main", tail_lines=tail_lines, limit_bytes=limit_bytes)

    return asyncio.run(ask())


def test_end_of_a_log_is_read_and_cut_where_it_is_too_long(cluster: Cluster, namespace: str) -> None:
    finish_pod(cluster, make_pod("prints", namespace, SCRIPT))
    text = read(cluster, namespace, "prints", tail_lines=TAIL_LINES, limit_bytes=LIMIT_BYTES)
    assert len(text.splitlines()) == TAIL_LINES
    told = parse_log(text)
    assert told.counters == {"bytesDone": 30, "bytesTotal": 30}
    assert told.rate_limited == json.loads(text.splitlines()[-2])["notice"]
    assert read(cluster, namespace, "prints", tail_lines=TAIL_LINES, limit_bytes=100) == text[:100]


def test_log_of_what_has_not_started_or_is_not_there_is_refused(cluster: Cluster, namespace: str) -> None:
    pod = make_pod("waits", namespace, "true")
    pod["spec"]["containers"][0]["image"] = "datacube.test/none:1"
    cluster.apply(pod)
    for name, code in (("waits", 400), ("absent", 404)):
        with pytest.raises(ApiError) as caught:
            read(cluster, namespace, name, tail_lines=TAIL_LINES, limit_bytes=LIMIT_BYTES)
        assert caught.value.code == code
