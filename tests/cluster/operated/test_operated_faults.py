"""What goes wrong, and what status then says; all is begun at once, since Argo moves in steps of ten seconds."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.argo import ensure_argo, stop_controller
from tests.cluster.operated.bench import said, verdict
from tests.servers.faults import Fault

if TYPE_CHECKING:
    from tests.cluster.operated.bench import Document, OperatorBench
    from tests.servers.faults import FaultProxy

pytestmark = [pytest.mark.t3, pytest.mark.timeout(300)]

GIVEN = "given"
"""A claim that exists before any DataCube."""

GET = "^GET "
STALLED = Fault(GET, "stall", times=None)
"""Attempts hang, as in a network that went away, until the way is cleared."""


@dataclass(frozen=True)
class Rows:
    """DataCubes that were begun at once, and the ways of some of them to the store."""

    proxies: dict[str, FaultProxy]
    claim: Document


@pytest.fixture(scope="module")
def rows(operated: OperatorBench) -> Rows:
    """Begins all of them."""
    operated.bench.make_volume(GIVEN, "echo weights > /data/model.txt")
    claim = operated.bench.cluster.get("pvc", GIVEN, operated.bench.here)
    stalled = ("deadline", "deleted", "evicted", "removed", "terminated", "held", "gone")
    proxies = {name: operated.faulty_store(name, STALLED) for name in stalled}
    operated.make_secret("nobody", accessKeyID="nobody")
    many = {"options": {"backoffLimit": 1}}
    documents = {name: operated.download(GIVEN, name, sub_path=name, **many) for name in stalled}
    documents["deadline"] = operated.download(
        GIVEN, "deadline", sub_path="deadline", options={"backoffLimit": 1, "activeDeadlineSeconds": 25}
    )
    documents["denied"] = operated.download(GIVEN, "nobody", sub_path="denied", options={"backoffLimit": 3})
    documents["later"] = operated.download(GIVEN, "made-later", sub_path="later")
    documents["root"] = operated.download(GIVEN, sub_path="root", securityContext={"runAsUser": 0})
    documents["small"] = operated.download(
        GIVEN, sub_path="small", options={"backoffLimit": 0}, resources={"limits": {"memory": "24Mi"}}
    )
    documents["nowhere"] = operated.download("no-such-claim", sub_path="nowhere")
    del documents["nowhere"]["spec"]["sink"]["pvc"]["template"]
    for name, document in documents.items():
        operated.submit(name, document)
    return Rows(proxies, claim)


def test_attempts_end_at_their_deadline_and_are_one_more_than_retries(operated: OperatorBench, rows: Rows) -> None:
    status = operated.finish("deadline")
    assert verdict(status) == ("Failed", "RetriesExhausted", 2)
    assert [(a["number"], a["reason"]) for a in status["attempts"]] == [(n, "DeadlineExceeded") for n in (1, 2)]
    assert rows.proxies["deadline"].count(GET) == 2
    assert "DeadlineExceeded" in condition(status, "Failed")["message"]


def test_permanent_failure_ends_the_run_at_once(operated: OperatorBench, rows: Rows) -> None:
    assert rows.claim
    status = operated.finish("denied")
    assert verdict(status) == ("Failed", "AccessDenied", 1)
    assert condition(status, "Complete")["status"] == "False"


def test_pod_that_is_deleted_is_followed_by_another(operated: OperatorBench, rows: Rows) -> None:
    pod = operated.attempted_pod("deleted")
    rows.proxies["deleted"].clear()
    operated.bench.cluster.kubectl("delete", "pod", pod, operated.bench.here, "--grace-period=1", "--wait=false")
    status = operated.finish("deleted")
    assert verdict(status) == ("Succeeded", "TransferComplete", 2)
    assert [a.get("reason") for a in status["attempts"]] == ["PodDeleted", None]


def test_pod_that_is_evicted_is_followed_by_another(operated: OperatorBench, rows: Rows) -> None:
    pod = operated.attempted_pod("evicted")
    rows.proxies["evicted"].clear()
    metadata = {"name": pod, "namespace": operated.bench.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{operated.bench.namespace}/pods/{pod}/eviction"
    operated.bench.cluster.kubectl("create", f"--raw={path}", "-f", "-", text=json.dumps(eviction))
    status = operated.finish("evicted")
    assert verdict(status) == ("Succeeded", "TransferComplete", 2)
    assert status["attempts"][0]["reason"] == "Evicted"


def test_secret_that_is_made_later_lets_the_attempt_start(operated: OperatorBench, rows: Rows) -> None:
    assert rows.claim
    status = operated.wait("later", lambda s: said(s)[0] == "WaitingForSecret")
    assert "made-later" in said(status)[1]
    assert condition(status, "Initialized")["status"] == "False"
    operated.make_secret("made-later")
    assert verdict(operated.finish("later")) == ("Succeeded", "TransferComplete", 1)


def test_pod_that_the_namespace_refuses_ends_the_run_with_its_words(operated: OperatorBench, rows: Rows) -> None:
    assert rows.claim
    status = operated.finish("root")
    assert verdict(status)[:2] == ("Failed", "PodRejected")
    assert "runAsUser=0" in condition(status, "Failed")["message"]
    assert len(operated.workflows("root")) == 1


def test_attempt_without_memory_is_told_to_ask_for_more(operated: OperatorBench, rows: Rows) -> None:
    assert rows.claim
    status = operated.finish("small")
    assert verdict(status) == ("Failed", "RetriesExhausted", 1)
    assert status["attempts"][0]["reason"] == "OOMKilled"
    assert "resources.limits.memory" in condition(status, "Failed")["message"]


def test_claim_that_is_missing_is_waited_for(operated: OperatorBench, rows: Rows) -> None:
    assert rows.claim
    assert said(operated.wait("nowhere", lambda s: s.get("phase") == "Pending"))[0] == "WaitingForVolume"
    operated.bench.make_volume("no-such-claim")
    assert verdict(operated.finish("nowhere")) == ("Succeeded", "TransferComplete", 1)


def test_datacube_that_is_deleted_takes_all_but_its_claim_with_it(operated: OperatorBench, rows: Rows) -> None:
    pod = operated.running_pod("gone")
    cluster, here = operated.bench.cluster, operated.bench.here
    cluster.kubectl("delete", "datacube", "gone", here, "--timeout=20s")
    cluster.kubectl("wait", "--for=delete", f"pod/{pod}", here, "--timeout=60s")
    assert operated.workflows("gone") == []
    assert cluster.try_kubectl("get", "workflowtemplate", "datacube-gone", here).returncode != 0
    now = cluster.get("pvc", GIVEN, here)
    assert {k: now[k] for k in ("metadata", "spec")} == {k: rows.claim[k] for k in ("metadata", "spec")}


def test_workflow_that_is_deleted_by_hand_ends_the_run_for_good(operated: OperatorBench, rows: Rows) -> None:
    assert rows.claim
    operated.running_pod("removed")
    (workflow,) = operated.workflows("removed")
    operated.bench.cluster.kubectl("delete", "workflow", workflow["metadata"]["name"], operated.bench.here)
    assert verdict(operated.finish("removed"))[:2] == ("Failed", "RunDeleted")
    assert operated.workflows("removed") == []


def test_workflow_that_is_terminated_by_hand_is_a_cancelled_run(operated: OperatorBench, rows: Rows) -> None:
    assert rows.claim
    operated.running_pod("terminated")
    (workflow,) = operated.workflows("terminated")
    shutdown = json.dumps({"spec": {"shutdown": "Terminate"}})
    operated.bench.cluster.kubectl(
        "patch", "workflow", workflow["metadata"]["name"], operated.bench.here, "--type=merge", f"--patch={shutdown}"
    )
    assert verdict(operated.finish("terminated"))[:2] == ("Failed", "Cancelled")


def test_run_is_held_and_goes_on_and_is_run_again(operated: OperatorBench, rows: Rows) -> None:
    pod = operated.running_pod("held")
    rows.proxies["held"].clear()
    operated.patch("held", {"spec": {"suspend": True}})
    status = operated.wait("held", lambda s: s["phase"] == "Suspended")
    assert "pod" not in status
    operated.bench.cluster.kubectl("wait", "--for=delete", f"pod/{pod}", operated.bench.here, "--timeout=60s")
    operated.patch("held", {"spec": {"suspend": False}})
    assert verdict(operated.finish("held")) == ("Succeeded", "TransferComplete", 1)
    before = rows.proxies["held"].count(GET)
    operated.patch("held", {"metadata": {"annotations": {"datacube.tensorstack.dev/rerun": "tuesday"}}})
    operated.wait("held", lambda s: s["phase"] in ("Pending", "Running"))
    assert verdict(operated.finish("held")) == ("Succeeded", "UpToDate", 1)
    assert rows.proxies["held"].count(GET) > before
    assert len(operated.workflows("held")) == 2


def test_operator_that_is_killed_in_mid_transfer_finds_everything_again(operated: OperatorBench, rows: Rows) -> None:
    assert rows.claim
    operated.faulty_store("restarted", Fault("^GET /[^?]*/", "slow", rate=100, times=None))
    operated.submit("restarted", operated.download(GIVEN, "restarted", sub_path="restarted"))
    pod = operated.running_pod("restarted")
    operated.wait("restarted", lambda s: (s.get("progress") or {}).get("bytesDone"))
    operated.operator.kill()
    operated.operator.start()
    asyncio.run(operated.operator.until_ready())
    status = operated.finish("restarted")
    assert verdict(status) == ("Succeeded", "TransferComplete", 1)
    assert status["pod"]["reference"]["name"] == pod
    assert len(operated.workflows("restarted")) == 1


def test_engine_that_is_stopped_is_said_and_recovered_from(operated: OperatorBench, rows: Rows) -> None:
    assert rows.claim
    node = operated.bench.cluster.own_node("stop Argo's controller in it")
    stop_controller(node)
    try:
        operated.submit("patient", operated.download(GIVEN, sub_path="patient"))
        status = operated.wait("patient", lambda s: said(s)[0] == "EngineUnavailable")
        assert status["phase"] == "Pending"
    finally:
        ensure_argo(operated.bench.cluster, os.environ)
    assert verdict(operated.finish("patient")) == ("Succeeded", "TransferComplete", 1)


def condition(status: Document, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in status["conditions"] if c["type"] == kind)
    return found
