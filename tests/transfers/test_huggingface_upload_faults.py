"""What happens to uploads when the network or the hub misbehaves: no wrong file is committed, nothing is done twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.servers.faults import Fault, FaultProxy, start_fault_proxy
from tests.support import tree
from tests.transfers.hf_bench import Bench, be_quick, make_bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.hub import Hub

pytestmark = pytest.mark.t1
PUT = "PUT /_lfs/object"


def fresh() -> dict[str, bytes]:
    """Files whose content the hub has never seen, so that it has to be sent."""
    return {"README.md": b"---\nlicense: mit\n---\n", "model.bin": os.urandom(400_000)}


@pytest.fixture
def proxy(hub: Hub) -> Iterator[FaultProxy]:
    with start_fault_proxy(hub.url) as started:
        yield started


@pytest.fixture
def bench(hub: Hub, proxy: FaultProxy, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    be_quick(monkeypatch)
    made = make_bench(hub, volumes, tmp_path)
    made.endpoint = proxy.url
    return made


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_upload_sends_again_after(bench: Bench, proxy: FaultProxy, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    repo = bench.new({})
    bench.write(fresh())
    proxy.inject(Fault(PUT, kind, on="request", after=100_000))  # type: ignore[arg-type]
    report = bench.upload(repo)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert proxy.count(PUT) == 2
    assert bench.hub.files(repo) == tree(bench.volume)


def test_upload_of_wrong_bytes_of_the_right_length_is_not_committed(bench: Bench, proxy: FaultProxy) -> None:
    repo = bench.new({})
    bench.write(fresh())
    proxy.inject(Fault(PUT, "wrong", on="request", times=None))
    report = bench.upload(repo)
    assert report.reason is Reason.INTEGRITY_MISMATCH
    assert bench.hub.files(repo) == {}


def test_upload_waits_as_long_as_429_asks(bench: Bench, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    repo = bench.new({})
    bench.write(fresh())
    proxy.inject(Fault(PUT, "status", status=429, headers={"Retry-After": "1"}))
    report = bench.upload(repo)
    assert report.reason is Reason.TRANSFER_COMPLETE
    first, second = [seen.at for seen in proxy.matching(PUT)]
    assert second - first >= 1


def test_upload_is_done_when_only_the_answer_to_its_commit_was_lost(bench: Bench, proxy: FaultProxy) -> None:
    repo = bench.new({})
    bench.write(fresh())
    proxy.inject(Fault("POST .*/commit/", "reset"))
    report = bench.upload(repo)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert bench.hub.files(repo) == tree(bench.volume)
    assert len(bench.hub.commits(repo)) == 3
    assert report.revision == bench.hub.commits(repo)[0].id


@pytest.mark.parametrize(("status", "reason"), [(500, Reason.SERVER_ERROR), (403, Reason.ACCESS_DENIED)])
def test_upload_says_why_when_its_commit_is_answered(
    bench: Bench, proxy: FaultProxy, status: int, reason: Reason
) -> None:
    repo = bench.new({})
    bench.write(fresh())
    proxy.inject(Fault("POST .*/commit/", "status", times=None, status=status))
    assert bench.upload(repo).reason is reason
    assert proxy.count("POST .*/commit/") == 1


def test_upload_that_stalls_is_sent_again(bench: Bench, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    monkeypatch.setattr("datacube_flows.transfers.hf_client.READ_SECONDS", 0.5)
    repo = bench.new({})
    bench.write(fresh())
    proxy.inject(Fault(PUT, "stall", on="request", after=1000))
    assert bench.upload(repo).reason is Reason.TRANSFER_COMPLETE
    assert proxy.count(PUT) == 2
    assert bench.hub.files(repo) == tree(bench.volume)
