"""Attempts as pods of a real API server; the kubelet is played by the tests, which write what becomes of a pod."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.api.parse import parse_datacube
from datacube_flows.api.reasons import Reason
from datacube_flows.cluster.client import Object
from datacube_flows.cluster.errors import NotFound
from datacube_flows.cluster.pods import PodSettings, PodWork
from datacube_flows.cluster.resource import CLAIMS, PODS
from datacube_flows.core import labels
from datacube_flows.core.manifests import Installation, make_attempt_pod
from datacube_flows.core.observation import AttemptSeen, PodPhase
from datacube_flows.core.plan import TransferPlan, make_plan
from datacube_flows.errors import TransferError, WaitingError
from tests.controller.api_proxy import Fault
from tests.pipelines.documents import UID, make_cube
from tests.pipelines.server import PATIENCE, Line, line_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

REPORT = {"reason": "TransferComplete", "files": 3, "bytes": 5, "path": "sets/repo", "verified": "git"}
TEMPLATE = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}
QUOTA = {
    "kind": "Status",
    "code": 403,
    "reason": "Forbidden",
    "message": 'pods "x" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1',
}


@dataclass
class Stage:
    line: Line
    work: PodWork
    waits: list[Reason] = field(default_factory=list)

    @property
    def plan(self) -> TransferPlan:
        return self.work.plan

    def attempt(self, number: int = 1) -> asyncio.Task[AttemptSeen]:
        return asyncio.create_task(self.work.run_attempt(number))

    async def pod(self, number: int = 1) -> Object:
        """The attempt's pod, once it is there."""
        async with asyncio.timeout(10):
            while True:
                try:
                    return await self.line.others.get(PODS, self.line.namespace, f"{self.plan.run_name}-{number}")
                except NotFound:
                    await asyncio.sleep(0.02)

    async def becomes(self, status: dict[str, Any], number: int = 1) -> None:
        """Writes a pod's status, as a kubelet does."""
        about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{self.plan.run_name}-{number}"}}
        await self.line.others.apply(PODS, self.line.namespace, about | {"status": status}, subresource="status")

    async def delete(self, number: int = 1) -> None:
        pod = await self.pod(number)
        await self.line.others.delete(PODS, self.line.namespace, pod["metadata"]["name"], uid=pod["metadata"]["uid"])

    async def is_gone(self, number: int = 1) -> bool:
        try:
            pod = await self.line.others.get(PODS, self.line.namespace, f"{self.plan.run_name}-{number}")
        except NotFound:
            return True
        return bool(pod["metadata"].get("deletionTimestamp"))


@pytest.fixture
def document() -> dict[str, Any]:
    return make_cube()


@pytest.fixture
async def stage(api: Cluster, namespace: str, tmp_path: Path, document: dict[str, Any]) -> AsyncIterator[Stage]:
    named = document | {"metadata": {"name": "data", "namespace": namespace}}
    plan = make_plan(parse_datacube(named)).model_copy(update={"run_id": "abcd1234"})
    async with line_to(api, namespace, tmp_path) as line:
        waits: list[Reason] = []
        settings = PodSettings(
            Installation(image="transfer"), PATIENCE, 0.1, on_waiting=lambda reason, _text: waits.append(reason)
        )
        yield Stage(line, PodWork(line.client, plan, settings), waits)


def state(phase: str, **main: Any) -> dict[str, Any]:
    return {"phase": phase, "containerStatuses": [_container(main)] if main else []}


def _container(main: dict[str, Any]) -> dict[str, Any]:
    base = {"name": "main", "image": "transfer", "imageID": "", "ready": False, "restartCount": 0}
    return base | {"state": main}


RUNNING = state("Running", running={"startedAt": "2026-01-01T00:00:00Z"})


def ended(code: int, report: dict[str, Any] | None = None) -> dict[str, Any]:
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:09Z"}
    told = {"message": json.dumps(report)} if report else {}
    over = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", **times, **told}
    return state("Succeeded" if code == 0 else "Failed", terminated=over)


async def test_attempt_is_a_pod_and_its_end_is_its_report(stage: Stage) -> None:
    attempt = stage.attempt()
    pod = await stage.pod()
    assert pod["metadata"]["labels"][labels.ATTEMPT] == "1"
    assert "ownerReferences" not in pod["metadata"]
    await stage.becomes(RUNNING)
    await stage.becomes(ended(0, REPORT))
    seen = await attempt
    assert (seen.number, seen.phase, seen.uid) == (1, PodPhase.SUCCEEDED, pod["metadata"]["uid"])
    assert (seen.report and seen.report.files) == 3
    assert stage.work.attempts == [seen]


async def test_failed_attempt_is_an_end_and_the_next_is_another_pod(stage: Stage) -> None:
    first = stage.attempt()
    await stage.pod()
    await stage.becomes(ended(75, {"reason": "EndpointUnreachable", "message": "look at the network"}))
    assert (await first).failure == (Reason.ENDPOINT_UNREACHABLE, "look at the network")
    second = stage.attempt(2)
    await stage.pod(2)
    await stage.becomes(ended(0, REPORT), 2)
    assert (await second).number == 2
    assert [seen.phase for seen in stage.work.attempts] == [PodPhase.FAILED, PodPhase.SUCCEEDED]


def test_pod_is_owned_by_the_cube_that_a_cluster_knows(api: Cluster, namespace: str) -> None:
    cube = make_cube() | {"metadata": {"name": "data", "namespace": namespace, "uid": UID}}
    pod = make_attempt_pod(make_plan(parse_datacube(cube)), Installation(image="transfer"), 3)
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("DataCube", UID, True)
    api.apply(pod)


async def test_pod_that_is_deleted_is_a_failed_attempt(stage: Stage) -> None:
    attempt = stage.attempt()
    await stage.pod()
    await stage.line.watched()
    await stage.delete()
    seen = await attempt
    assert (seen.phase, seen.failure[0]) == (PodPhase.FAILED, Reason.POD_DELETED)


async def test_pod_that_is_deleted_while_nobody_watches_is_a_failed_attempt(stage: Stage) -> None:
    attempt = stage.attempt()
    await stage.pod()
    await stage.line.watched()
    stage.line.proxy.part()
    await stage.delete()
    await stage.line.others.create(PODS, stage.line.namespace, _other_pod(stage))
    stage.line.proxy.cut = False
    assert (await attempt).failure[0] is Reason.POD_DELETED


def _other_pod(stage: Stage) -> dict[str, Any]:
    about = {"name": f"{stage.plan.run_name}-1", "labels": {"app": "somebody-elses"}}
    spec = {"containers": [{"name": "main", "image": "other"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}


async def test_pod_whose_making_nobody_confirmed_is_found_and_not_made_twice(stage: Stage) -> None:
    stage.line.proxy.faults.append(Fault("^POST"))
    attempt = stage.attempt()
    await stage.pod()
    await stage.becomes(ended(0, REPORT))
    assert (await attempt).phase is PodPhase.SUCCEEDED
    assert stage.waits == [Reason.ENGINE_UNAVAILABLE]


async def test_pod_of_somebody_else_in_the_place_ends_the_run_and_is_left_alone(stage: Stage) -> None:
    await stage.line.others.create(PODS, stage.line.namespace, _other_pod(stage))
    with pytest.raises(TransferError, match="that is not of this run: delete it") as caught:
        await stage.work.run_attempt(1)
    assert caught.value.reason is Reason.NAME_CONFLICT
    assert not await stage.is_gone()
    assert stage.line.proxy.times_of("^DELETE") == []


async def test_quota_that_is_used_up_is_waited_for(stage: Stage) -> None:
    stage.line.proxy.faults.append(Fault("^POST", status=403, body=QUOTA, times=2))
    attempt = stage.attempt()
    await stage.pod()
    await stage.becomes(ended(0, REPORT))
    assert (await attempt).phase is PodPhase.SUCCEEDED
    assert stage.waits == [Reason.QUOTA_EXCEEDED]


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (403, 'pods is forbidden: User "ada" cannot create resource "pods" in API group ""', Reason.ACCESS_DENIED),
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', Reason.POD_REJECTED),
        (422, "Pod is invalid", Reason.INVALID_SPEC),
    ],
)
async def test_pod_that_is_refused_ends_the_run(stage: Stage, code: int, message: str, reason: Reason) -> None:
    refusal = {"kind": "Status", "code": code, "reason": "Invalid" if code == 422 else "Forbidden", "message": message}
    stage.line.proxy.faults.append(Fault("^POST", status=code, body=refusal))
    with pytest.raises(TransferError, match="cannot make pod") as caught:
        await stage.work.run_attempt(1)
    assert caught.value.reason is reason


async def test_attempt_that_is_cancelled_leaves_no_pod(stage: Stage) -> None:
    attempt = stage.attempt()
    await stage.pod()
    await stage.line.watched()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert await stage.is_gone()


async def test_attempt_that_is_cancelled_while_its_pod_is_made_leaves_no_pod(stage: Stage) -> None:
    gate = asyncio.Event()
    stage.line.proxy.faults.append(Fault("^POST", gate=gate))
    attempt = stage.attempt()
    await stage.line.proxy.until("^POST", 1)
    attempt.cancel()
    await asyncio.sleep(0.1)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert await stage.is_gone()
    assert len(stage.line.proxy.times_of("^DELETE")) == 1


async def test_attempt_that_is_cancelled_when_the_answer_on_its_pod_is_lost_leaves_no_pod(stage: Stage) -> None:
    attempts: list[asyncio.Task[AttemptSeen]] = []
    stage.line.proxy.faults.append(Fault("^POST", act=lambda: attempts[0].cancel() or None))
    attempts.append(stage.attempt())
    with pytest.raises(asyncio.CancelledError):
        await attempts[0]
    assert await stage.is_gone()
    assert len(stage.line.proxy.times_of("^DELETE")) == 1


async def test_attempt_says_once_why_its_pod_does_not_start(stage: Stage) -> None:
    attempt = stage.attempt()
    await stage.pod()
    pull = state("Pending", waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    await stage.becomes(pull)
    await stage.becomes(pull | {"hostIP": "10.0.0.1"})
    await stage.becomes(ended(0, REPORT))
    await attempt
    assert stage.waits == [Reason.IMAGE_PULL_ERROR]


async def test_counters_are_read_from_the_log_while_the_attempt_runs(stage: Stage) -> None:
    log = '{"notice":"begins"}\n{"progress":{"percent":50,"bytesDone":5,"bytesTotal":10}}\n{"log":"half"}\n'
    stage.line.proxy.faults.append(Fault("GET .*/log[?]", status=500, times=1))
    stage.line.proxy.faults.append(Fault("GET .*/log[?]", status=200, text=log, times=1000))
    attempt = stage.attempt()
    await stage.pod()
    assert stage.work.progress() == {}
    await stage.becomes(RUNNING)
    async with asyncio.timeout(10):
        while not stage.work.progress():
            await asyncio.sleep(0.02)
    assert stage.work.progress() == {"percent": 50, "bytesDone": 5, "bytesTotal": 10}
    await stage.becomes(ended(0, REPORT))
    seen = await attempt
    assert await stage.work.lines(seen) == ["begins", "half"]


async def test_lines_of_a_log_that_is_gone_are_none(stage: Stage) -> None:
    attempt = stage.attempt()
    await stage.pod()
    await stage.becomes(ended(0, REPORT))
    assert await stage.work.lines(await attempt) == []


class TestProvision:
    @pytest.fixture
    def document(self) -> dict[str, Any]:
        pvc = {"name": "claim", "template": TEMPLATE | {"metadata": {"labels": {"team": "a"}}}}
        return make_cube(sink={"type": "pvc", "pvc": pvc})

    async def test_claim_is_made_from_the_template_and_owned_by_nobody(self, stage: Stage) -> None:
        assert await stage.work.provision() == "made claim claim"
        claim = await stage.line.others.get(CLAIMS, stage.line.namespace, "claim")
        assert claim["metadata"]["labels"] == {"team": "a"}
        assert "ownerReferences" not in claim["metadata"]
        assert await stage.work.provision() == ""
        assert await stage.line.others.get(CLAIMS, stage.line.namespace, "claim") == claim

    async def test_claim_is_made_once_the_server_answers(self, stage: Stage) -> None:
        stage.line.proxy.faults += [Fault("^POST"), Fault("^GET .*claim", status=503)]
        await stage.work.provision()
        assert await stage.line.others.get(CLAIMS, stage.line.namespace, "claim")
        assert set(stage.waits) == {Reason.ENGINE_UNAVAILABLE}

    async def test_claim_that_is_refused_ends_the_run(self, stage: Stage) -> None:
        invalid = {"kind": "Status", "code": 422, "reason": "Invalid", "details": {"causes": [{"field": "spec.x"}]}}
        stage.line.proxy.faults.append(Fault("^POST", status=422, body=invalid))
        with pytest.raises(TransferError, match=r"cannot make claim .*refuses spec\.x") as caught:
            await stage.work.provision()
        assert caught.value.reason is Reason.INVALID_SPEC


async def test_claim_that_nobody_makes_is_waited_for_by_whoever_asks(stage: Stage) -> None:
    with pytest.raises(WaitingError, match="there is no claim 'claim': create it, or give") as caught:
        await stage.work.provision()
    assert caught.value.reason is Reason.WAITING_FOR_VOLUME
