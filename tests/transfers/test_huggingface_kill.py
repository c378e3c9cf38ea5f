"""Attempts that are killed at any moment: nothing half-written is ever in its place, and the next one gets it right."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.servers.faults import Fault, FaultProxy, start_fault_proxy
from tests.support import tree
from tests.transfers.hf_bench import Bench, make_bench, noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.servers.hub import Hub

pytestmark = pytest.mark.t1
LANES, KILLS_A_LANE = 2, 25
"""Fifty kills, in two volumes at a time."""


@pytest.fixture
def bench(hub: Hub, volumes: Path, tmp_path: Path) -> Bench:
    return make_bench(hub, volumes, tmp_path)


@dataclass
class Lane:
    """A volume, a repository, and a slow way to the hub, on which one attempt after the other is killed."""

    bench: Bench
    proxy: FaultProxy
    moments: random.Random

    def kill(self, kind: str, options: Mapping[str, str], *, within: float) -> None:
        """Starts an attempt and kills it and all its children at a random moment after its first request."""
        self.proxy.requests.clear()
        child = self.bench.child(kind, options)
        while not self.proxy.requests and child.process.poll() is None:
            time.sleep(0.005)
        time.sleep(self.moments.random() * within)
        if child.process.poll() is None:
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.communicate()


@contextmanager
def start_lane(bench: Bench, number: int, fault: Fault) -> Iterator[Lane]:
    volume = bench.volume / f"lane{number}"
    volume.mkdir()
    with start_fault_proxy(bench.hub.url) as proxy:
        proxy.inject(fault)
        yield Lane(replace(bench, volume=volume, endpoint=proxy.url), proxy, random.Random(number))  # noqa: S311


def finish(bench: Bench, kind: str, options: Mapping[str, str]) -> None:
    """Runs the attempt that is not killed, straight to the hub."""
    code, report, _messages = replace(bench, endpoint="").child(kind, options).finish()
    assert report is not None
    assert (code, report.reason) == (0, Reason.TRANSFER_COMPLETE)


def kill_downloads(bench: Bench, number: int) -> int:
    """Returns how many attempts were killed with files on their way."""
    files = {f"d{n % 3}/{n}.bin": noise(40_000, n) for n in range(12)} | {"big.bin": noise(400_000, 99)}
    repo = bench.new(files, repo=f"alice/killed-downloads-{number}")
    expected, options, on_the_way = bench.hub.files(repo), {"repo": repo}, 0
    with start_lane(bench, number, Fault("GET /_cdn/", "slow", times=None, rate=1_000_000)) as lane:
        volume = lane.bench.volume
        for turn in range(KILLS_A_LANE):
            lane.kill("huggingface-download", options, within=0.45)
            on_the_way += (volume / ".datacube").exists()
            in_place = tree(volume, without=(".datacube",))
            assert in_place.items() <= expected.items(), f"turn {turn}: a wrong file is in its place"
            if "big.bin" in in_place:
                for name in in_place:  # so that the next one has work again
                    (volume / name).unlink()
        finish(lane.bench, "huggingface-download", options)
    assert tree(volume) == expected
    assert not (volume / ".datacube").exists()
    return on_the_way


def kill_uploads(bench: Bench, number: int) -> int:
    """Returns how many attempts were killed with files on their way."""
    repo = bench.new({}, repo=f"alice/killed-uploads-{number}")
    options, versions, on_the_way = {"repo": repo, "token": bench.hub.token}, 1, 0
    with start_lane(bench, number, Fault("(PUT|/commit/)", "slow", times=None, rate=1_500_000, on="request")) as lane:
        volume = lane.bench.volume
        lane.bench.write({f"d{n % 3}/{n}.txt": noise(4_000, n) for n in range(10)})
        lane.bench.write({"version.txt": b"1", "big.bin": os.urandom(300_000)})
        for turn in range(KILLS_A_LANE):
            lane.kill("huggingface-upload", options, within=0.45)
            on_the_way += lane.proxy.count("PUT ") > 0 and bench.hub.files(repo) != tree(volume)
            if bench.hub.files(repo) == tree(volume):  # it was committed: let the next one have work
                versions += 1
                lane.bench.write({"version.txt": b"%d" % versions, "big.bin": os.urandom(300_000)})
            assert len(bench.hub.commits(repo)) == versions + 1, f"turn {turn}: a version was committed twice"
        finish(lane.bench, "huggingface-upload", options)
    assert bench.hub.files(repo) == tree(volume)
    assert len(bench.hub.commits(repo)) == versions + 2
    return on_the_way


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kill", [kill_downloads, kill_uploads])
def test_attempts_killed_at_fifty_moments_are_right_in_the_end(bench: Bench, kill: object) -> None:
    assert callable(kill)
    with ThreadPoolExecutor(LANES) as lanes:
        on_the_way = sum(lanes.map(lambda number: kill(bench, number), range(LANES)))
    assert on_the_way > LANES * KILLS_A_LANE // 5
