"""How far attempts are, from what they print: what is read out of a log, and how often logs are read."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from datacube_operator.errors import Forbidden, TooManyRequests, Unavailable
from datacube_operator.metrics import Metrics
from datacube_operator.progress import LIMIT_BYTES, TAIL_LINES, Progress, ProgressReader, next_progress
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.status import ProgressStatus
from datacube_flows.core.attempt_log import parse_log
from datacube_flows.core.kinds import kind_named
from datacube_flows.transfers import hf_client, s3_client
from datacube_flows.transfers.base import Attempt, Settings
from datacube_flows.transfers.messages import MessageWriter, Ticker
from tests.controller.fake_clock import FakeClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

pytestmark = [pytest.mark.t0]

LIMITED = "rate limited until 12:00:00 UTC"


def line(done: int, **more: Any) -> str:
    return json.dumps({"progress": {"bytesDone": done, "bytesTotal": 1000, **more}})


def notice(text: str = LIMITED) -> str:
    return json.dumps({"notice": text})


def test_log_tells_what_an_attempt_prints() -> None:
    stream = io.StringIO()
    attempt = Attempt(kind_named("s3-download"), {}, {}, Path("/n"), "", (), Settings(), Path("/n"))
    attempt.progress.expect(files=2, size=1000)
    attempt.progress.advance(400)
    ticker = Ticker(attempt, MessageWriter(stream), interval=60, on_stall=lambda: None)
    ticker.start()
    ticker.finish()
    counters = parse_log(stream.getvalue()).counters
    assert {n: counters[n] for n in ("bytesDone", "bytesTotal", "filesTotal", "percent")} == {
        "bytesDone": 400, "bytesTotal": 1000, "filesTotal": 2, "percent": 40,
    }  # fmt: skip
    assert counters == ProgressStatus.model_validate(counters).to_wire(), "and nothing that status does not show"


def test_log_tells_the_newest_counters_between_other_lines() -> None:
    assert parse_log("\n".join(["noise", line(1), notice("x"), line(2), '{"log": "z"}', ""])).counters["bytesDone"] == 2


@pytest.mark.parametrize(
    "odd",
    [
        '{"progress": {"bytesDone": 9',  # the server cut it off
        '{"progress": {"bytesDone": -1}}',
        '{"progress": {"bytesDone": "9"}}',
        '{"progress": {"bytesDone": true}}',
        '{"progress": {"bytesDone": 9.5}}',
        '{"progress": {"bytesDone": NaN}}',
        '{"progress": {"bytesDone": 9223372036854775808}}',
        '{"progress": {"percent": 101}}',
        '{"progress": {"bytesDone": ' + "9" * 5000 + "}}",
        '{"progress": [1]}',
        '{"progress": null}',
        '{"progress": ' + "[" * 10_000,
        '{"progress": {"bytesDone": 9}, "x": "' + "x" * 20_000 + '"}',
        "[" * 10_000,
        "[1]",
        "null",
        "9",
        "\x00\x1b[2J\ufffd",
    ],
    ids=range(18),
)
def test_odd_lines_are_skipped_and_the_good_one_before_counts(odd: str) -> None:
    told = parse_log(f"{line(1)}\n{odd}\n")
    assert told.counters == {"bytesDone": 1, "bytesTotal": 1000}


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    told = parse_log(text + "\n" + '{"progress":' + text)
    assert told.counters == ProgressStatus.model_validate(told.counters).to_wire()


def test_counters_hold_nothing_that_status_does_not_know() -> None:
    assert parse_log(line(1, moved=5, owner="me")).counters == {"bytesDone": 1, "bytesTotal": 1000}


def test_limit_is_told_until_bytes_move_after_it() -> None:
    assert parse_log("\n".join([line(1), notice()])).rate_limited == LIMITED
    assert parse_log("\n".join([line(1), notice(), line(1)])).rate_limited == LIMITED
    assert parse_log("\n".join([line(1), notice(), line(1), line(2)])).rate_limited == ""
    assert parse_log("\n".join([line(1), notice("left out 2 links")])).rate_limited is None


def test_limit_that_has_scrolled_away_is_told_until_bytes_move() -> None:
    progress = next_progress(None, parse_log("\n".join([line(1), notice()])), 0, 300)
    progress = next_progress(progress, parse_log(line(1)), 10, 300)
    assert progress is not None
    assert progress.rate_limited == LIMITED
    progress = next_progress(progress, parse_log(line(2)), 20, 300)
    assert progress is not None
    assert progress.rate_limited == ""


@pytest.mark.parametrize(
    ("client", "words"), [(hf_client, "rate limited until"), (s3_client, "limits the rate of")], ids=["hf", "s3"]
)
def test_words_of_the_transfers_are_understood_as_a_limit(client: ModuleType, words: str) -> None:
    assert words in inspect.getsource(client)
    assert parse_log(notice(f"the store {words} requests")).rate_limited


def test_attempt_is_stalled_when_nothing_moves_for_long_and_not_while_it_checks() -> None:
    progress = None
    for now in (0.0, 100.0, 299.0):
        progress = next_progress(progress, parse_log(line(7, moved=7)), now, 300)
        assert progress is not None
        assert not progress.is_stalled
    progress = next_progress(progress, parse_log(line(7, moved=7, bytesPerSecond=0)), 300, 300)
    assert progress is not None
    assert progress.is_stalled
    progress = next_progress(progress, parse_log(line(7, moved=8)), 310, 300)
    assert progress is not None
    assert not progress.is_stalled


def test_attempt_that_prints_nothing_any_more_is_stalled_too() -> None:
    progress = next_progress(None, parse_log(line(7)), 0, 300)
    progress = next_progress(progress, parse_log(""), 300, 300)
    assert progress is not None
    assert progress.is_stalled
    assert progress.counters["bytesDone"] == 7


def test_nothing_is_known_before_an_attempt_says_something() -> None:
    assert next_progress(None, parse_log("starting\n"), 0, 300) is None


@dataclass
class FakeLogs:
    """Logs of pods, as the client reads them."""

    clock: FakeClock
    logs: dict[str, str] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    slow: asyncio.Event | None = None
    reads: list[tuple[float, str]] = field(default_factory=list)

    async def read_log(self, namespace: str, pod: str, container: str, *, tail_lines: int, limit_bytes: int) -> str:
        assert (namespace, container, tail_lines, limit_bytes) == ("here", "main", TAIL_LINES, LIMIT_BYTES)
        self.reads.append((self.clock.now(), pod))
        if self.slow:
            await self.slow.wait()
        if pod in self.errors:
            raise self.errors[pod]
        return self.logs.get(pod, "")

    def times(self, pod: str) -> list[float]:
        return [at for at, name in self.reads if name == pod]


@dataclass
class Bench:
    logs: FakeLogs
    reader: ProgressReader
    metrics: Metrics
    changed: list[str]

    def watch(self, name: str) -> None:
        self.reader.watch(f"here/{name}", "here", name, f"uid-of-{name}")

    def latest(self, name: str) -> Progress | None:
        return self.reader.latest(f"uid-of-{name}")


@asynccontextmanager
async def running(clock: FakeClock) -> AsyncIterator[Bench]:
    logs, metrics, changed = FakeLogs(clock), Metrics(), list[str]()
    reader = ProgressReader(logs, clock, metrics, changed.append)
    task = asyncio.create_task(reader.run())
    await settle()
    try:
        yield Bench(logs, reader, metrics, changed)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.anyio
async def test_reader_reads_after_two_seconds_then_every_ten_and_tells_only_news(clock: FakeClock) -> None:
    async with running(clock) as bench:
        await clock.pass_(30)
        bench.watch("a")
        bench.watch("a")
        bench.logs.logs["a"] = line(1)
        await clock.pass_(24)
        assert bench.logs.times("a") == [32, 42, 52]
        assert bench.changed == ["here/a"]
        found = bench.latest("a")
        assert found is not None
        assert found.counters["bytesDone"] == 1
        bench.logs.logs["a"] = line(2)
        await clock.pass_(10)
        assert bench.changed == ["here/a", "here/a"]


@pytest.mark.anyio
async def test_reader_forgets_a_pod_and_follows_the_next_attempt(clock: FakeClock) -> None:
    async with running(clock) as bench:
        bench.watch("a")
        await clock.pass_(3)
        bench.reader.watch("here/a", "here", "a-2", "uid-of-a-2")
        await clock.pass_(20)
        assert bench.logs.times("a") == [2]
        assert bench.logs.times("a-2") == [5, 15]
        bench.reader.forget("here/a")
        bench.reader.forget("here/a")
        await clock.pass_(20)
        assert bench.logs.times("a-2") == [5, 15]
        assert bench.latest("a-2") is None


@pytest.mark.anyio
async def test_answer_that_comes_after_a_pod_was_forgotten_is_no_news(clock: FakeClock) -> None:
    async with running(clock) as bench:
        bench.logs.slow = asyncio.Event()
        bench.logs.logs["a"] = line(1)
        bench.watch("a")
        await clock.pass_(3)
        bench.reader.forget("here/a")
        bench.logs.slow.set()
        await clock.pass_(20)
        assert (bench.changed, bench.logs.times("a"), bench.latest("a")) == ([], [2], None)


@pytest.mark.anyio
async def test_reader_keeps_its_rate_and_gives_every_pod_its_turn(clock: FakeClock) -> None:
    names = [f"p{number}" for number in range(300)]
    async with running(clock) as bench:
        for name in names:
            bench.watch(name)
        await clock.pass_(122, step=0.05)
        reads = Counter(int(at) for at, _ in bench.logs.reads)
        assert max(reads.values()) <= 12
        assert len(bench.logs.reads) <= 1202
        assert len(bench.logs.reads) >= 1190
        assert set(Counter(pod for _, pod in bench.logs.reads).values()) <= {3, 4, 5}


@pytest.mark.anyio
async def test_slow_answer_of_one_kubelet_holds_up_no_other(clock: FakeClock) -> None:
    async with running(clock) as bench:
        bench.logs.slow = asyncio.Event()
        for name in "abc":
            bench.watch(name)
        await clock.pass_(4)
        assert {pod for _, pod in bench.logs.reads} == {"a", "b", "c"}
        bench.logs.slow.set()


@pytest.mark.anyio
async def test_logs_that_cannot_be_read_are_counted_and_asked_for_again(clock: FakeClock) -> None:
    async with running(clock) as bench:
        bench.logs.errors = {
            "a": Forbidden("get log", 403, "Forbidden"),
            "b": Unavailable("get log", 0, "TimeoutError"),
            "c": TooManyRequests("get log", 429, "TooManyRequests", retry_after=15),
            "d": ZeroDivisionError(),
        }
        for name in "abcde":
            bench.watch(name)
        bench.logs.logs["e"] = line(1)
        await clock.pass_(20)
        counts = {pod: len(bench.logs.times(pod)) for pod in "abcde"}
        text = bench.metrics.render().decode()
    assert counts == {"a": 2, "b": 2, "c": 2, "d": 2, "e": 2}
    assert bench.logs.times("c")[1] - bench.logs.times("c")[0] == pytest.approx(15, abs=0.6)
    assert bench.changed == ["here/e"]
    for code in ("403", "none", "429", "200"):
        assert f'datacube_log_reads_total{{code="{code}"}} 2.0' in text
