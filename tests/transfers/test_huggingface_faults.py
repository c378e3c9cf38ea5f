"""What happens when the network or the hub misbehaves: nothing wrong is ever kept, and the reason is the right one."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.transfers import hf_client, hf_fetch
from tests.servers.faults import Fault, FaultProxy, start_fault_proxy
from tests.support import tree
from tests.transfers.hf_bench import Bench, be_quick, make_bench, noise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.hub import Hub

pytestmark = pytest.mark.t1
FILES = {"README.md": b"---\nlicense: mit\n---\n" * 50, "model.bin": noise(400_000)}
CONTENT = "GET /_cdn/"
RESOLVE = "GET .*/resolve/.*model.bin"
API = "GET /api/models/.*/revision"


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


def is_clean(bench: Bench) -> bool:
    """Whether only right files are on the volume, and nothing unfinished."""
    return not (bench.volume / ".datacube").exists() and all(
        FILES.get(str(p.relative_to(bench.volume))) == p.read_bytes() for p in bench.volume.rglob("*") if p.is_file()
    )


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_download_goes_on_where_it_was_after(bench: Bench, proxy: FaultProxy, kind: str) -> None:
    repo = bench.new(FILES)
    proxy.inject(Fault(CONTENT, kind, after=150_000))  # type: ignore[arg-type]
    report = bench.download(repo)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)
    ranges = [seen.headers["range"] for seen in proxy.matching(CONTENT)]
    assert ranges[0] == "bytes=0-399999"
    assert re.fullmatch(r"bytes=(?!0-)\d+-399999", ranges[1])


def test_download_goes_on_after_a_short_body(bench: Bench, proxy: FaultProxy) -> None:
    repo = bench.new(FILES)
    proxy.inject(Fault(CONTENT, "short", after=1000))
    assert bench.download(repo).reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_download_gives_up_when_every_answer_ends_in(bench: Bench, proxy: FaultProxy, kind: str) -> None:
    proxy.inject(Fault(CONTENT, kind, times=None))  # type: ignore[arg-type]
    report = bench.download(bench.new(FILES))
    assert report.reason is Reason.ENDPOINT_UNREACHABLE
    assert is_clean(bench)


def test_download_fetches_again_after_wrong_bytes_of_the_right_length(bench: Bench, proxy: FaultProxy) -> None:
    repo = bench.new(FILES)
    proxy.inject(Fault(CONTENT, "wrong", after=399_999), Fault(f"GET /{repo}/resolve/.*README", "wrong"))
    report = bench.download(repo)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)
    assert sum("wrong hash" in n for n in report.notices) == 2


@pytest.mark.parametrize(("name", "match"), [("model.bin", CONTENT), ("README.md", "GET .*/resolve/.*README")])
def test_download_keeps_no_wrong_bytes_of_the_right_length(
    bench: Bench, proxy: FaultProxy, name: str, match: str
) -> None:
    proxy.inject(Fault(match, "wrong", times=None, after=10))
    report = bench.download(bench.new(FILES))
    assert report.reason is Reason.INTEGRITY_MISMATCH
    assert f"'{name}'" in report.message
    assert not (bench.volume / name).exists()
    assert is_clean(bench)


def test_download_catches_wrong_bytes_in_one_part_of_many(
    bench: Bench, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_fetch, "PART", 50_000)
    repo = bench.new(FILES)
    proxy.inject(Fault(CONTENT, "wrong", skip=4, after=49_000), Fault(CONTENT, "reset", skip=2, after=100))
    report = bench.download(repo)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)
    assert any("wrong hash" in n for n in report.notices)


def test_download_ends_a_stall_and_goes_on(bench: Bench, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_client, "READ_SECONDS", 0.3)
    repo = bench.new(FILES)
    proxy.inject(Fault(CONTENT, "stall", after=1000))
    assert bench.download(repo).reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)


def test_download_gives_up_on_a_stall_that_stays(
    bench: Bench, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_client, "READ_SECONDS", 0.3)
    proxy.inject(Fault(CONTENT, "stall", times=None))
    report = bench.download(bench.new(FILES))
    assert report.reason is Reason.ENDPOINT_UNREACHABLE
    assert "does not answer" in report.message
    assert proxy.count(CONTENT) <= 2
    assert is_clean(bench)


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"RateLimit": '"api";r=0;t=1'}])
@pytest.mark.parametrize("match", [RESOLVE, API])
def test_download_waits_as_long_as_429_asks(
    bench: Bench, proxy: FaultProxy, match: str, headers: dict[str, str]
) -> None:
    repo = bench.new(FILES)
    proxy.inject(Fault(match, "status", status=429, headers=headers))
    report = bench.download(repo)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert any(n.startswith("rate limited until ") for n in report.notices)
    first, second, *_ = [seen.at for seen in proxy.matching(match)]
    assert second - first >= 1


def test_download_does_not_wait_an_hour_for_429(bench: Bench, proxy: FaultProxy) -> None:
    proxy.inject(Fault(API, "status", times=None, status=429, headers={"Retry-After": "3600"}))
    start = time.monotonic()
    report = bench.download(bench.new(FILES))
    assert report.reason is Reason.SERVER_ERROR
    assert "wait 3600 s" in report.message
    assert time.monotonic() - start < 5


def test_download_waits_until_the_date_that_503_names(bench: Bench, proxy: FaultProxy) -> None:
    repo = bench.new(FILES)
    past = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    proxy.inject(Fault(API, "status", status=503, headers=past))
    assert bench.download(repo).reason is Reason.TRANSFER_COMPLETE
    assert proxy.count(API) == 2


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, Reason.ACCESS_DENIED),
        (404, Reason.NOT_FOUND),
        (500, Reason.SERVER_ERROR),
        (502, Reason.SERVER_ERROR),
        (503, Reason.SERVER_ERROR),
        (429, Reason.SERVER_ERROR),
    ],
)
@pytest.mark.parametrize("match", [RESOLVE, API])
def test_download_says_why_when_the_hub_answers(
    bench: Bench, proxy: FaultProxy, match: str, status: int, reason: Reason
) -> None:
    proxy.inject(Fault(match, "status", times=None, status=status))
    report = bench.download(bench.new(FILES))
    assert report.reason is reason
    assert str(status) in report.message or status == 404
    assert is_clean(bench)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("match", [CONTENT, "GET /api/models/.*/tree"])
def test_download_tries_again_after_one(bench: Bench, proxy: FaultProxy, match: str, status: int) -> None:
    repo = bench.new(FILES)
    proxy.inject(Fault(match, "status", times=2, status=status))
    assert bench.download(repo).reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)


def test_download_asks_the_hub_again_when_a_signed_place_has_expired(
    bench: Bench, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_fetch, "PART", 100_000)
    monkeypatch.setattr(bench.hub, "cdn_elsewhere", True)
    repo = bench.new(FILES)
    with start_fault_proxy(bench.hub.cdn.url) as cdn:
        cdn.inject(Fault(CONTENT, "status", skip=1, status=403))
        monkeypatch.setattr(type(bench.hub.cdn), "url", property(lambda _server: cdn.url))
        report = bench.download(repo)
        assert cdn.count(CONTENT) == 5
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)
    assert proxy.count(RESOLVE) == 2


def test_download_saves_no_login_page(bench: Bench, proxy: FaultProxy) -> None:
    proxy.inject(Fault("GET .*/resolve/", "html", times=None))
    report = bench.download(bench.new(FILES))
    assert report.reason is Reason.SERVER_ERROR
    assert "web page" in report.message
    assert list(bench.volume.iterdir()) == []


def test_download_says_that_a_web_page_is_no_hub(bench: Bench, proxy: FaultProxy) -> None:
    proxy.inject(Fault("GET /api/", "html", times=None))
    report = bench.download(bench.new(FILES))
    assert report.reason is Reason.SERVER_ERROR
    assert "HF_ENDPOINT" in report.message


@pytest.mark.parametrize("ignore_first", [0, 2])
def test_download_works_with_a_server_that_ignores_ranges(
    bench: Bench, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, ignore_first: int
) -> None:
    from tests.servers.hub_http import Handler

    monkeypatch.setattr(hf_fetch, "PART", 100_000)
    monkeypatch.setattr(Handler, "_ranged", lambda _self, answer: (answer, 0, answer.file.stat().st_size))
    repo = bench.new(FILES)
    proxy.inject(Fault(CONTENT, "reset", times=ignore_first, after=200_000))
    assert bench.download(repo).reason is Reason.TRANSFER_COMPLETE
    assert tree(bench.volume) == bench.hub.files(repo)


def test_download_says_that_nothing_listens_at_the_address(bench: Bench) -> None:
    bench.endpoint = "http://127.0.0.1:1"
    report = bench.download("alice/any")
    assert report.reason is Reason.ENDPOINT_UNREACHABLE
    assert "http://127.0.0.1:1" in report.message
