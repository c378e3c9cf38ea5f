"""Runs from their beginning to their end: a row says how the attempts go, and how the status has to tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.resource import EVENTS

from datacube_flows.api.reasons import Reason
from tests.controller.played_kubelet import Attempt, crash, fail, succeed
from tests.controller.scenarios_documents import CLAIM_SPEC, download, upload, with_metadata, with_spec

if TYPE_CHECKING:
    from tests.controller.scenarios_bench import Stage

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

Document = dict[str, Any]

EVICTED = Attempt(code=143, pod_reason="Evicted")
LATE = Attempt(code=143, pod_reason="DeadlineExceeded")
FLAKY = fail(Reason.SERVER_ERROR, "the server answers 503 again and again")
MISSING = fail(Reason.NOT_FOUND, "there is no s3://bucket/set: look at 's3-uri'")
IS_COMPLETE, HAS_FAILED, NEVER_BEGAN = "TTF", "TFT", "FFT"


@dataclass(frozen=True)
class Row:
    """A scenario.

    Attributes:
        attempts: number and reason of each; a reason is empty where it succeeded.
        conditions: Initialized, Complete and Failed, by the first letter of what they are.
        says: words of the message of the condition that ended the run.
    """

    document: Document
    script: tuple[Attempt, ...]
    phase: str
    reason: Reason
    attempts: tuple[tuple[int, str], ...] = ((1, ""),)
    conditions: str = IS_COMPLETE
    says: str = "The DataCube is complete"
    runs: int = 1


ROWS = {
    "download": Row(download("cube"), (succeed(),), "Succeeded", Reason.TRANSFER_COMPLETE),
    "upload": Row(upload("cube"), (succeed(),), "Succeeded", Reason.TRANSFER_COMPLETE),
    "nothing to do": Row(download("cube"), (succeed(Reason.UP_TO_DATE),), "Succeeded", Reason.UP_TO_DATE),
    "claim from a template": Row(
        download("cube", claim="made", template={"spec": CLAIM_SPEC}),
        (succeed(),),
        "Succeeded",
        Reason.TRANSFER_COMPLETE,
    ),
    "permanent failure in spite of retries": Row(
        download("cube", backoffLimit=3),
        (MISSING,),
        "Failed",
        Reason.NOT_FOUND,
        ((1, "NotFound"),),
        HAS_FAILED,
        "there is no s3://bucket/set",
    ),
    "retries, then success": Row(
        download("cube", backoffLimit=2),
        (FLAKY, EVICTED, succeed()),
        "Succeeded",
        Reason.TRANSFER_COMPLETE,
        ((1, "ServerError"), (2, "Evicted"), (3, "")),
    ),
    "retries exhausted": Row(
        download("cube", backoffLimit=1),
        (LATE, FLAKY),
        "Failed",
        Reason.RETRIES_EXHAUSTED,
        ((1, "DeadlineExceeded"), (2, "ServerError")),
        HAS_FAILED,
        "the last of 2 attempts failed: ServerError: the server answers 503",
    ),
    "no retries": Row(
        download("cube"),
        (FLAKY,),
        "Failed",
        Reason.RETRIES_EXHAUSTED,
        ((1, "ServerError"),),
        HAS_FAILED,
        "the only attempt failed: ServerError",
    ),
    "attempt that leaves no report": Row(
        download("cube"),
        (crash(137),),
        "Failed",
        Reason.RETRIES_EXHAUSTED,
        ((1, "TransferError"),),
        HAS_FAILED,
        "the attempt was killed (SIGKILL)",
    ),
    "document that only the operator can refuse": Row(
        download("cube", extraArgs=["--config=/data/rclone.conf"]),
        (),
        "Failed",
        Reason.INVALID_SPEC,
        (),
        NEVER_BEGAN,
        "--config",
        runs=0,
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=[name.replace(" ", "-") for name in ROWS])
async def test_operator_tells_how_a_run_went(stage: Stage, row: Row) -> None:
    await stage.claim()
    await stage.create(row.document, *row.script)
    seen = await stage.ends("cube")
    assert (seen.phase, seen.reason, seen.attempts) == (row.phase, row.reason, row.attempts)
    assert seen.conditions == row.conditions
    assert row.says in seen.messages["Complete" if row.phase == "Succeeded" else "Failed"]
    await stage.quiet()
    assert (await stage.ends("cube")).status == seen.status
    assert len(stage.workflows()) == row.runs


async def test_status_tells_pod_result_workflow_and_times(stage: Stage) -> None:
    await stage.claim()
    made = await stage.create(download("cube"), succeed(seconds=1.1))
    running = await stage.phase("cube", "Running")
    assert (running.conditions, running.reason) == ("TFF", "")
    seen = await stage.ends("cube")
    (pod,) = await stage.pods("cube")
    status = seen.status
    assert status["pod"] == {
        "phase": "Succeeded",
        "reference": {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]},
        "status": "Completed",
    }
    assert {n: status["result"][n] for n in ("files", "bytes", "verified", "path")} == {
        "files": 3,
        "bytes": 4096,
        "verified": "checksum",
        "path": "data/set",
    }
    assert status["observedGeneration"] == made["metadata"]["generation"]
    assert (status["workflow"]["engine"], status["workflow"]["template"]) == ("argo", "datacube-cube")
    assert [status["workflow"]["name"]] == stage.workflows()
    assert made["metadata"]["creationTimestamp"] <= status["startTime"] <= status["completionTime"]
    initialized, complete, failed = status["conditions"]
    assert initialized["lastTransitionTime"] <= complete["lastTransitionTime"]
    assert {c["lastProbeTime"] for c in status["conditions"]} == {complete["lastProbeTime"]}
    assert failed["lastTransitionTime"] <= initialized["lastTransitionTime"]


async def test_kubectl_waits_for_complete_and_shows_the_columns(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube"), succeed())
    here = f"--namespace={stage.namespace}"
    await stage.ends("cube")
    kubectl = stage.world.server.kubectl
    kubectl("wait", "--for=condition=Complete", "datacube/cube", here, "--timeout=5s")
    line = kubectl("get", "datacube", "cube", here, "--no-headers").split()
    assert line[:4] == ["cube", "s3", "pvc", "Succeeded"]


async def test_events_are_few_and_say_what_people_need(stage: Stage) -> None:
    await stage.claim()
    await stage.create(download("cube", backoffLimit=1), FLAKY, MISSING)
    await stage.ends("cube")
    await stage.quiet()
    events = [event for event in await stage.objects(EVENTS) if event["regarding"]["name"] == "cube"]
    assert sorted((event["type"], event["reason"]) for event in events) == [
        ("Warning", "NotFound"),
        ("Warning", "ServerError"),
    ]


async def test_value_that_an_author_wrote_out_is_repeated_nowhere_else(stage: Stage) -> None:
    """Such a value is in the document and in what runs it (SECURITY S01): not in status, events, or the log."""
    await stage.claim()
    document = download("cube", extraArgs=["--header=dcLITERALvalue"])
    options = [o for o in document["spec"]["source"]["options"] if not o["name"].startswith("s3-secret")]
    written = {"name": "s3-secret-access-key", "value": "dcLITERALvalue"}
    source = document["spec"]["source"] | {"options": [*options, written]}
    await stage.create(with_spec(document, source=source))
    refused = await stage.ends("cube")
    assert refused.reason == Reason.INVALID_SPEC
    valid = with_spec(download("valid"), source=source)
    await stage.create(with_metadata(valid, name="valid"), FLAKY)
    seen = await stage.ends("valid")
    await stage.quiet()
    shown = f"{refused.status} {seen.status} {await stage.objects(EVENTS)} {stage.world.operator.log_file.read_text()}"
    assert "dcLITERALvalue" not in shown
