"""What an attempt says: lines of JSON without secrets, a report that always fits, a watchdog that barks once."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import MAX_REPORT_BYTES, VERIFIED, ChangePlan, TransferReport, parse_report
from datacube_flows.core.kinds import kind_named
from datacube_flows.transfers import messages
from datacube_flows.transfers.base import Attempt, Settings
from datacube_flows.transfers.messages import MAX_TEXT, MessageWriter, RateMeter, Ticker
from datacube_flows.transfers.redact import Redactor
from tests.canary import CANARY

pytestmark = pytest.mark.t0


def make_attempt(**settings: Any) -> Attempt:
    return Attempt(
        kind=kind_named("s3-download"),
        options={},
        env={},
        folder=Path("/nowhere"),
        sub_path="",
        extra_args=(),
        settings=Settings(**settings),
        scratch=Path("/nowhere"),
    )


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_writer_writes_one_redacted_object_a_line() -> None:
    stream = io.StringIO()
    writer = MessageWriter(stream, Redactor([CANARY]))
    writer.notice(f"a {CANARY}\nb")
    writer.log(f"c {CANARY}")
    writer.progress({"bytesDone": 1})
    assert written(stream) == [{"notice": "a ***\nb"}, {"log": "c ***"}, {"progress": {"bytesDone": 1}}]


def test_writer_cuts_texts_after_masking_them() -> None:
    stream = io.StringIO()
    writer = MessageWriter(stream, Redactor([CANARY]))
    writer.notice("x" * (MAX_TEXT - 5) + CANARY)
    writer.log(CANARY + "y" * (MAX_TEXT - 5))
    notice, log = written(stream)
    assert notice["notice"] == "x" * (MAX_TEXT - 5) + "***"
    assert log["log"] == "***" + "y" * (MAX_TEXT - 5)
    writer.log("first" + "z" * 1_000_000 + "cause")
    assert written(stream)[-1]["log"].endswith("zcause")
    assert len(written(stream)[-1]["log"]) == MAX_TEXT


@given(text=st.text())
def test_writer_writes_any_text_as_one_line(text: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", newline="")
    MessageWriter(stream).log(text)
    line = raw.getvalue()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["log"] == Redactor()(text)


def test_writer_goes_on_when_nobody_listens() -> None:
    stream = io.StringIO()
    stream.close()
    MessageWriter(stream).notice("x")


def test_writer_tells_argo_what_it_takes_for_progress(tmp_path: Path) -> None:
    file = tmp_path / "progress"
    writer = MessageWriter(io.StringIO(), argo_file=file)
    writer.progress({"bytesDone": 5, "bytesTotal": 0})
    assert not file.exists(), "Argo takes no total of 0"
    for done, told in ((5, "5/10"), (11, "10/10"), (-1, "0/10")):
        writer.progress({"bytesDone": done, "bytesTotal": 10})
        assert file.read_text() == f"{told}\n"
    assert [f.name for f in tmp_path.iterdir()] == ["progress"]


def test_writer_goes_on_where_argos_file_cannot_be_written(tmp_path: Path) -> None:
    stream = io.StringIO()
    writer = MessageWriter(stream, argo_file=tmp_path / "nowhere" / "progress")
    writer.progress({"bytesDone": 5, "bytesTotal": 10})
    assert written(stream) == [{"progress": {"bytesDone": 5, "bytesTotal": 10}}]


def test_lines_of_many_threads_do_not_mix() -> None:
    stream = io.StringIO()
    writer = MessageWriter(stream)
    threads = [threading.Thread(target=lambda: [writer.log("x" * 200) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written(stream)) == 400


def test_ticker_writes_each_notice_once_and_the_last_counters() -> None:
    stream, attempt = io.StringIO(), make_attempt()
    ticker = Ticker(attempt, MessageWriter(stream), interval=0.01, on_stall=lambda: None)
    ticker.start()
    attempt.progress.notice("first")
    attempt.progress.expect(files=1, size=10)
    time.sleep(0.05)
    attempt.progress.notice("second")
    attempt.progress.advance(10)
    ticker.finish()
    said = written(stream)
    assert [m["notice"] for m in said if "notice" in m] == ["first", "second"]
    assert said[-1]["progress"]["bytesDone"] == 10
    assert said[-1]["progress"]["percent"] == 100


def hurry(monkeypatch: pytest.MonkeyPatch, speed: float) -> None:
    """Makes `stall_timeout`, in whole seconds, pass quickly."""
    monkeypatch.setattr(messages, "time", SimpleNamespace(monotonic=lambda: time.monotonic() * speed))


def test_watchdog_calls_once_when_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch, 50)
    calls: list[float] = []
    ticker = Ticker(
        make_attempt(stall_timeout=2), MessageWriter(io.StringIO()), interval=0.01, on_stall=lambda: calls.append(1)
    )
    ticker.start()
    time.sleep(0.3)
    ticker.finish()
    assert calls == [1]


@pytest.mark.parametrize("timeout", [None, 2])
def test_watchdog_is_silent_while_something_moves_or_when_there_is_none(
    timeout: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, 20)
    calls: list[float] = []
    attempt = make_attempt(stall_timeout=timeout)
    ticker = Ticker(attempt, MessageWriter(io.StringIO()), interval=0.01, on_stall=lambda: calls.append(1))
    ticker.start()
    for _ in range(30):
        time.sleep(0.01)
        if timeout:
            attempt.progress.alive()
    ticker.finish()
    assert calls == []


def test_rate_is_that_of_the_last_half_minute() -> None:
    attempt, meter = make_attempt(), RateMeter()
    attempt.progress.expect(files=2, size=1000)
    assert "etaSeconds" not in meter.progress(attempt, 0.0)
    attempt.progress.advance(100)
    assert meter.progress(attempt, 10.0) == {
        "bytesDone": 100, "bytesTotal": 1000, "filesDone": 0, "filesTotal": 2,
        "bytesPerSecond": 10, "percent": 10, "etaSeconds": 90, "moved": 100,
    }  # fmt: skip
    assert meter.progress(attempt, 100.0)["bytesPerSecond"] == 0


def test_rate_never_falls_below_zero_when_bytes_are_taken_back() -> None:
    attempt, meter = make_attempt(), RateMeter()
    attempt.progress.advance(100)
    meter.progress(attempt, 0.0)
    attempt.progress.advance(-60)
    assert meter.progress(attempt, 1.0)["bytesPerSecond"] == 0
    assert attempt.progress.snapshot().moved == 160


COUNT = st.integers(0, 2**63 - 1)
TEXT = st.text(max_size=3000) | st.text('\x00\U0001f600\udcff"', max_size=2000)
REPORTS = st.builds(
    TransferReport,
    reason=st.sampled_from(list(Reason)),
    message=TEXT,
    listed=COUNT,
    files=COUNT,
    bytes=COUNT,
    verified=st.sampled_from(VERIFIED),
    revision=TEXT,
    path=TEXT,
    notices=st.lists(TEXT, max_size=4).map(tuple),
    plan=st.none() | st.builds(ChangePlan, add=COUNT, update=COUNT, delete=COUNT, bytes=COUNT),
)


@given(report=REPORTS)
def test_report_always_fits_and_is_read_back(report: TransferReport) -> None:
    text = report.render()
    assert len(text.encode()) <= MAX_REPORT_BYTES
    assert "\n" not in text
    found = parse_report(text)
    assert found is not None
    assert (found.reason, found.files, found.bytes, found.plan) == (
        report.reason,
        report.files,
        report.bytes,
        report.plan,
    )


def test_report_that_fits_is_read_back_whole() -> None:
    report = TransferReport(
        Reason.TRANSFER_COMPLETE,
        "done",
        5,
        3,
        2,
        1,
        77,
        "checksum",
        "abc",
        "a/b",
        ("one", "two"),
        ChangePlan(1, 2, 3, 4),
    )
    assert parse_report(report.render()) == report


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = list(TransferReport.__dataclass_fields__)


@given(values=st.dictionaries(st.sampled_from(FIELDS), JSON), text=st.text())
def test_no_text_makes_reading_a_report_fail(values: dict[str, Any], text: str) -> None:
    found = parse_report(json.dumps({"reason": "TransferComplete", **values}))
    if found is not None:
        assert len(found.render().encode()) <= MAX_REPORT_BYTES
    assert parse_report(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "1", "[]", "{}", '"x"', "[" * 100_000, '{"reason":"Nonsense"}', '{"reason":[]}',
        '{"reason":"TransferComplete","files":Infinity}', '{"reason":"TransferComplete","files":1e999}',
        '{"reason":"TransferComplete","files":' + "9" * 4000 + "}", '{"reason":"TransferComplete","plan":[1]}',
        '{"reason":"TransferComplete","plan":{"add":' + "9" * 400 + "}}",
        '{"reason":"TransferComplete","notices":5}', TransferReport(Reason.STALLED, "x" * 900).render()[:500],
    ],
)  # fmt: skip
def test_foreign_or_cut_text_is_no_report(text: str) -> None:
    assert parse_report(text) is None
