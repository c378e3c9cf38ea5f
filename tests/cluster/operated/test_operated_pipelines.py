"""What a pipeline does with a whole cluster: DataCubes that the operator runs for it, and pods of its own."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.cluster.client import Client
from datacube_flows.cluster.connection import Place, connect
from datacube_flows.cluster.pods import PodSettings, PodWork
from datacube_flows.core.observation import PodPhase
from datacube_flows.pipelines.applied import MANAGER, Order, carry_out
from datacube_flows.pipelines.documents import read_cube
from datacube_flows.pipelines.results import TransferFailed, TransferResult
from tests.cluster.process import wait_for
from tests.servers.stage import GIT_REPOSITORY
from tests.support import tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from datacube_flows.core.observation import AttemptSeen
    from tests.cluster.operated.bench import Document, OperatorBench
    from tests.cluster.pods.bench import Bench

pytestmark = [pytest.mark.t3, pytest.mark.timeout(300)]

CLAIM, OWN = "of-a-pipeline", "own"
LOG = logging.getLogger("pipeline")


def carried_out(bench: Bench, document: Document, *, rerun: str = "", keep: bool = True) -> TransferResult:
    given = read_cube(document).run_again(rerun)
    order = Order(given, Place(bench.cluster.kubeconfig), is_kept=keep, timeout=120)
    return asyncio.run(carry_out(order, LOG))


def named(document: Document, name: str) -> Document:
    """A document as people write it."""
    return document | {"metadata": {"name": name, "namespace": document["metadata"]["namespace"]}}


def test_pipeline_has_its_data_and_has_them_again(operated: OperatorBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    bench = operated.bench
    document = named(bench.document("git-download", CLAIM), "set")
    first = carried_out(bench, document)
    served = bench.stage.git.repositories[GIT_REPOSITORY]
    assert (first.claim, first.path, first.revision) == (CLAIM, "dev/git/repo", served.head("main"))
    assert tree(bench.volume(CLAIM) / first.path) == served.tree("main") != {}
    assert carried_out(bench, document) == first
    again = carried_out(bench, document, rerun="two", keep=False)
    assert (again.revision, again.claim) == (first.revision, CLAIM)
    assert "Running: attempt 1 in pod set-" in caplog.text
    wait_for(lambda: "set" not in bench.cluster.kubectl("get", "datacubes", bench.here), 20, "the DataCube stays")
    assert bench.has_claim(CLAIM)


def test_pipeline_is_told_why_a_transfer_failed(operated: OperatorBench) -> None:
    document = named(operated.bench.document("git-download", CLAIM), "lost")
    (ref,) = [option for option in document["spec"]["source"]["options"] if option["name"] == "ref"]
    ref["value"] = "no-such-branch"
    with pytest.raises(TransferFailed) as caught:
        carried_out(operated.bench, document)
    assert caught.value.reason is Reason.REF_NOT_FOUND
    assert caught.value.attempt_reason is Reason.REF_NOT_FOUND


@asynccontextmanager
async def pod_work(bench: Bench, document: Document, run: str) -> AsyncIterator[PodWork]:
    """The work of a run that no operator knows of."""
    plan = bench.plan(document).model_copy(update={"uid": "", "run_id": run})
    async with connect(Place(bench.cluster.kubeconfig)) as connection:
        settings = PodSettings(bench.installation, progress_seconds=0.5)
        yield PodWork(Client(connection.api, manager=MANAGER), plan, settings)


def test_attempt_of_a_pipelines_own_moves_the_same(operated: OperatorBench) -> None:
    bench = operated.bench
    document = bench.document("s3-download", OWN, sub_path="own")

    async def move() -> tuple[str, AttemptSeen, list[str]]:
        async with pod_work(bench, document, "aaaa0001") as work:
            made, seen = await work.provision(), await work.run_attempt(1)
            return made, seen, await work.lines(seen)

    made, seen, _lines = asyncio.run(move())
    assert (made, seen.phase) == (f"made claim {OWN}", PodPhase.SUCCEEDED)
    found = tree(bench.volume(OWN) / "own")
    assert seen.report is not None
    assert len(found) == seen.report.files > 0


def test_attempt_of_a_pipelines_own_that_is_cancelled_leaves_no_pod(operated: OperatorBench) -> None:
    bench, run = operated.bench, "aaaa0002"
    document = bench.document("s3-download", OWN, sub_path="cancelled", options={"bandwidthLimit": 100_000})

    async def cancel() -> None:
        async with pod_work(bench, document, run) as work:
            attempt = asyncio.create_task(work.run_attempt(1))
            async with asyncio.timeout(60):
                while not work.progress():
                    await asyncio.sleep(0.2)
            assert work.attempts[0].phase is PodPhase.RUNNING
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt

    asyncio.run(cancel())
    wait_for(lambda: run not in bench.cluster.kubectl("get", "pods", bench.here), 60, "the pod stays")
