"""The client before a real API server: its verbs over TLS, its errors, and answers that get lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from datacube_operator import errors
from datacube_operator.client import connect
from datacube_operator.clock import SystemClock
from datacube_operator.fence import Fence
from datacube_operator.resource import DATACUBES, LEASES, PODS
from kubernetes.aio.config import incluster_config

from tests.cluster.certificates import Authority
from tests.controller.api_proxy import Fault
from tests.controller.server import as_pod, direct, line_to, make_cube

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t2, pytest.mark.anyio]


async def test_client_makes_reads_changes_and_deletes_an_object(api: Cluster, namespace: str) -> None:
    async with direct(api) as client:
        made = await client.create(DATACUBES, namespace, make_cube("a"))
        await client.patch(DATACUBES, namespace, "a", {"metadata": {"labels": {"x": "1"}}})
        await client.patch(DATACUBES, namespace, "a", [{"op": "add", "path": "/metadata/labels/y", "value": "2"}])
        about = {"apiVersion": made["apiVersion"], "kind": made["kind"], "metadata": {"name": "a"}}
        await client.apply(DATACUBES, namespace, about | {"status": {"phase": "Running"}}, subresource="status")
        found = await client.get(DATACUBES, namespace, "a")
        assert found["metadata"]["labels"] == {"x": "1", "y": "2"}
        assert found["status"]["phase"] == "Running"
        assert {entry["manager"] for entry in found["metadata"]["managedFields"]} == {"datacube"}
        await client.delete(DATACUBES, namespace, "a", uid=made["metadata"]["uid"])
        with pytest.raises(errors.NotFound):
            await client.get(DATACUBES, namespace, "a")


async def test_client_lists_page_by_page_what_a_selector_selects(api: Cluster, namespace: str) -> None:
    async with direct(api) as client:
        for name, team in [("a", "x"), ("b", "x"), ("c", "y"), ("d", "x")]:
            await client.create(DATACUBES, namespace, make_cube(name, labels={"team": team}))
        first = await client.list(DATACUBES, namespace, labels="team=x", limit=2)
        second = await client.list(DATACUBES, namespace, labels="team=x", limit=2, token=first.token)
        everywhere = await client.list(DATACUBES)
    assert [[i["metadata"]["name"] for i in page.items] for page in (first, second)] == [["a", "b"], ["d"]]
    assert first.version == second.version
    assert second.token == ""
    assert len(everywhere.items) >= 4


async def test_client_tells_the_failures_of_writes_apart(api: Cluster, namespace: str) -> None:
    async with direct(api) as client:
        made = await client.create(DATACUBES, namespace, make_cube("a"))
        with pytest.raises(errors.AlreadyExists):
            await client.create(DATACUBES, namespace, make_cube("a"))
        await client.patch(DATACUBES, namespace, "a", {"metadata": {"labels": {"x": "1"}}})
        with pytest.raises(errors.Conflict):
            await client.replace(DATACUBES, namespace, made)
        with pytest.raises(errors.Conflict):
            await client.delete(DATACUBES, namespace, "a", uid="somebody-else")
        with pytest.raises(errors.NotFound):
            await client.patch(DATACUBES, namespace, "b", {"metadata": {}})
        with pytest.raises(errors.Invalid) as caught:
            await client.create(DATACUBES, namespace, make_cube("b") | {"spec": {}})
        assert "spec.source" in caught.value.message


async def test_client_is_told_what_it_may_not_do(api: Cluster, namespace: str, tmp_path: Path) -> None:
    authority = Authority(api.kubeconfig.parent / "pki")
    async with connect(api.kubeconfig) as admin:
        url = admin.configuration.host
    nobody = authority.kubeconfig(tmp_path / "nobody", url, authority.issue("nobody", user="nobody"))
    async with direct(api, nobody) as client:
        with pytest.raises(errors.Forbidden):
            await client.list(PODS, namespace)


async def test_client_speaks_as_its_pods_service_account(
    api: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.kubectl("create", "serviceaccount", "operator", f"--namespace={namespace}")
    api.kubectl("create", "role", "pods", "--verb=list", "--resource=pods", f"--namespace={namespace}")
    bound = ["--role=pods", f"--serviceaccount={namespace}:operator", f"--namespace={namespace}"]
    api.kubectl("create", "rolebinding", "pods", *bound)
    token = tmp_path / "token"
    token.write_text(api.kubectl("create", "token", "operator", f"--namespace={namespace}"))
    async with connect(api.kubeconfig) as admin:
        url = urlsplit(admin.configuration.host)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(url.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(url.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(api.kubeconfig.parent / "pki" / "ca.crt"))
    async with as_pod() as client:
        assert (await client.list(PODS, namespace)).items == []
        with pytest.raises(errors.Forbidden):
            await client.list(PODS)
    token.write_text("stale")
    async with as_pod() as client:
        with pytest.raises(errors.Unauthorized):
            await client.list(PODS, namespace)


async def test_watch_from_a_version_too_old_is_told_within_the_stream(api: Cluster, namespace: str) -> None:
    async with direct(api) as client:
        await client.create(DATACUBES, namespace, make_cube("a"))
        events = client.watch(DATACUBES, version="1", seconds=5, idle_seconds=10)
        told = [event async for event in events]
    assert [event.type for event in told] == ["OPENED", "ERROR"]
    assert isinstance(errors.error_from_status("watch", told[1].object), errors.Gone)


async def test_client_says_unavailable_when_an_answer_is_lost_though_the_write_was_made(
    api: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with line_to(api, tmp_path) as line:
        line.proxy.faults.append(Fault("^POST"))
        with pytest.raises(errors.Unavailable):
            await line.client.create(DATACUBES, namespace, make_cube("a"))
        with pytest.raises(errors.AlreadyExists):
            await line.client.create(DATACUBES, namespace, make_cube("a"))


@pytest.mark.parametrize(
    ("status", "kind"), [(500, errors.Unavailable), (503, errors.Unavailable), (429, errors.TooManyRequests)]
)
async def test_client_hands_on_when_to_come_again(
    api: Cluster, namespace: str, tmp_path: Path, status: int, kind: type[errors.ApiError]
) -> None:
    async with line_to(api, tmp_path) as line:
        line.proxy.faults.append(Fault("^GET", status=status, headers={"Retry-After": "7"}))
        with pytest.raises(kind) as caught:
            await line.client.list(DATACUBES, namespace)
        assert caught.value.retry_after == 7
        assert len(line.proxy.seen) == 1


async def test_client_sends_nothing_once_the_fence_is_closed(api: Cluster, namespace: str, tmp_path: Path) -> None:
    clock = SystemClock()
    fence = Fence(clock)
    async with line_to(api, tmp_path, fence) as line:
        with pytest.raises(errors.NotLeader):
            await line.client.create(DATACUBES, namespace, make_cube("a"))
        assert line.proxy.seen == []
        assert (await line.client.list(DATACUBES, namespace)).items == []


async def test_client_gives_a_write_up_before_the_fence_closes(api: Cluster, namespace: str, tmp_path: Path) -> None:
    clock = SystemClock()
    fence = Fence(clock)
    async with line_to(api, tmp_path, fence) as line:
        line.proxy.faults.append(Fault("^POST", hold=True))
        began = time.monotonic()
        fence.extend(clock.now() + 0.5)
        with pytest.raises(errors.Unavailable):
            await line.client.create(LEASES, namespace, {"metadata": {"name": "l"}})
        assert 0.4 < time.monotonic() - began < 2
