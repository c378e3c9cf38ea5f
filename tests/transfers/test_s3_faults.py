"""Faults on the way to the store: each is survived or told for what it is, and never becomes data."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.transfers import s3_client, s3_send
from tests.canary import CANARY
from tests.servers.faults import Fault, start_fault_proxy
from tests.support import mounted, seal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.faults import FaultProxy
    from tests.transfers.s3_case import S3Case

pytestmark = pytest.mark.t1
MIB = 1024 * 1024
SMALL, LARGE = os.urandom(100_000), os.urandom(17 * MIB)
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@pytest.fixture
def case(s3_case: S3Case) -> S3Case:
    """A bucket with a small object and one that is fetched in three ranges."""
    s3_case.put(**{"p/small": SMALL, "p/large": LARGE})
    return s3_case


@pytest.fixture
def proxy(case: S3Case) -> Iterator[FaultProxy]:
    with start_fault_proxy(case.store.url) as running:
        case.url = running.url
        yield running


@pytest.fixture
def short_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "STALL_SECONDS", 1)
    monkeypatch.setattr(s3_send, "STALL_SECONDS", 1)


def assert_downloaded(case: S3Case) -> None:
    report = case.download("p/")
    assert (report.reason, report.files, report.verified) == (Reason.TRANSFER_COMPLETE, 2, "checksum"), report
    assert (case.folder / "small").read_bytes() == SMALL
    assert (case.folder / "large").read_bytes() == LARGE


@pytest.mark.parametrize("kind", ["reset", "truncate", "short", "wrong"])
@pytest.mark.parametrize("name", ["small", "large"])
def test_download_survives_when_bodies_are_broken_twice(case: S3Case, proxy: FaultProxy, kind: Any, name: str) -> None:
    proxy.inject(Fault(f"GET /[^?]*/p/{name}", kind, after=50_000, times=2))
    assert_downloaded(case)
    assert [s.fault for s in proxy.matching(f"GET /[^?]*/p/{name}")].count(kind) == 2


@pytest.mark.usefixtures("short_stalls")
@pytest.mark.parametrize("name", ["small", "large"])
def test_download_survives_a_stall(case: S3Case, proxy: FaultProxy, name: str) -> None:
    proxy.inject(Fault(f"GET /[^?]*/p/{name}", "stall", after=50_000))
    assert_downloaded(case)


@pytest.mark.usefixtures("short_stalls")
def test_listing_survives_a_stall(case: S3Case, proxy: FaultProxy) -> None:
    proxy.inject(Fault("list-type=2", "stall", after=10))
    assert_downloaded(case)


@pytest.mark.parametrize("match", ["list-type=2", "/p/small", "/p/large"])
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_download_survives_server_errors(case: S3Case, proxy: FaultProxy, match: str, status: int) -> None:
    proxy.inject(Fault(match, "status", status=status, times=2))
    assert_downloaded(case)


@pytest.mark.parametrize("match", ["GET .*list-type=2", "GET /[^?]*/p/small"])
def test_rate_limit_with_retry_after_is_obeyed(case: S3Case, proxy: FaultProxy, match: str) -> None:
    proxy.inject(Fault(match, "status", status=429, headers={"Retry-After": "1"}, body=SLOW_DOWN, times=2))
    report = case.download("p/small" if "small" in match else "p/")
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert any("limits the rate" in n for n in report.notices)
    hits = [s.at for s in proxy.matching(match)]
    assert hits[2] - hits[1] >= 1.0


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (429, SLOW_DOWN, Reason.SERVER_ERROR),
        (503, SLOW_DOWN, Reason.SERVER_ERROR),
        (500, b"", Reason.SERVER_ERROR),
        (403, b"", Reason.ACCESS_DENIED),
        (403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", Reason.CLOCK_SKEW),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", Reason.NOT_FOUND),
        (400, b"<Error><Code>ExpiredToken</Code></Error>", Reason.ACCESS_DENIED),
    ],
)
@pytest.mark.parametrize("match", ["list-type=2", "GET /[^?]*/p/small"])
def test_lasting_failure_is_told_for_what_it_is(
    case: S3Case, proxy: FaultProxy, match: str, status: int, body: bytes, reason: Reason
) -> None:
    proxy.inject(Fault(match, "status", status=status, body=body, times=None))
    assert case.download("p/").reason is reason
    tries = s3_client.TRIES if reason is Reason.SERVER_ERROR else 1
    assert proxy.count(match) == tries
    assert "small" not in case.names()
    assert not (case.folder / ".datacube").exists()


@pytest.mark.parametrize("name", ["small", "large"])
def test_lasting_wrong_bytes_are_an_integrity_mismatch(case: S3Case, proxy: FaultProxy, name: str) -> None:
    proxy.inject(Fault(f"GET /[^?]*/p/{name}", "wrong", after=50_000, times=None))
    assert case.download("p/").reason is Reason.INTEGRITY_MISMATCH
    assert name not in case.names()


def test_short_answer_is_never_accepted_when_nothing_is_hashed(case: S3Case, proxy: FaultProxy) -> None:
    proxy.inject(Fault("GET /[^?]*/p/small", "short", after=10, times=None))
    assert case.download("p/small", verify="none").reason is Reason.INTEGRITY_MISMATCH
    assert not case.names()


def test_login_page_is_never_saved_as_data(case: S3Case, proxy: FaultProxy) -> None:
    proxy.inject(Fault("GET /[^?]*/p/small", "html", times=None))
    report = case.download("p/small", verify="none")
    assert report.reason is Reason.SERVER_ERROR
    assert not case.names()


def _answers_for_small(case: S3Case) -> tuple[Fault, Fault]:
    etag = hashlib.md5(SMALL).hexdigest()  # noqa: S324 - S3 uses it
    headers = {"ETag": f'"{etag}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    listing = f"<ListBucketResult><Name>{case.bucket}</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
    return (
        Fault("HEAD", "status", status=200, headers=headers, body=SMALL, times=None),
        Fault("list-type=2", "status", status=200, body=listing.encode(), times=None),
    )


@pytest.mark.parametrize("match", ["list-type=2", "HEAD", "GET /[^?]*/p/small"])
@pytest.mark.parametrize("token", ["", f"token-{CANARY}"])
def test_redirect_to_another_host_gets_no_credentials_and_gives_no_data(
    case: S3Case, proxy: FaultProxy, match: str, token: str
) -> None:
    with start_fault_proxy(case.store.url) as other:
        elsewhere = f"http://localhost:{other.port}/login"
        other.inject(Fault(".", "html", times=None))
        proxy.inject(Fault(match, "redirect", status=307, location=elsewhere, times=None))
        options = case.options("p/" if "list" in match else "p/small") | ({"s3-session-token": token} if token else {})
        if token:  # the store of the tests knows no sessions: what comes before the redirect is answered for it
            proxy.inject(*_answers_for_small(case))
        report = case.download(options=options)
        assert proxy.count(match), "the redirect was met"
        assert report.reason not in (Reason.TRANSFER_COMPLETE, Reason.UP_TO_DATE)
        for seen in other.requests:
            assert "authorization" not in seen.headers
            assert CANARY not in str(seen.headers)
    assert not case.names()


@pytest.mark.parametrize("name", ["small", "large"])
def test_object_that_changes_between_list_and_get_is_source_changed(case: S3Case, proxy: FaultProxy, name: str) -> None:
    def change() -> None:
        case.store.put(case.bucket, f"p/{name}", os.urandom(17 * MIB if name == "large" else 100_000))

    proxy.inject(Fault(f"GET /[^?]*/p/{name}", "pass", before=change, skip=int(name == "large")))
    assert case.download(f"p/{name}").reason is Reason.SOURCE_CHANGED
    assert not case.names()


def test_object_that_vanishes_between_list_and_get_is_source_changed(case: S3Case, proxy: FaultProxy) -> None:
    proxy.inject(Fault("GET /[^?]*/p/small", "pass", before=lambda: case.store.delete(case.bucket, "p/small")))
    assert case.download("p/").reason is Reason.SOURCE_CHANGED


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_unreachable_endpoint_is_told(case: S3Case, endpoint: str) -> None:
    report = case.download(options=case.options("p/") | {"s3-endpoint": endpoint})
    assert report.reason is Reason.ENDPOINT_UNREACHABLE
    assert "s3-endpoint" in report.message


def test_tls_to_a_plain_server_is_a_tls_error(case: S3Case) -> None:
    report = case.download(options=case.options("p/") | {"s3-endpoint": case.store.url.replace("http:", "https:")})
    assert report.reason is Reason.TLS_ERROR


def test_plain_http_is_refused_unless_it_is_allowed(case: S3Case) -> None:
    report = case.download("p/", allowed_schemes=("https",))
    assert report.reason is Reason.INVALID_SPEC
    assert "https://" in report.message


def test_full_disk_is_told_and_leaves_nothing(case: S3Case) -> None:
    with mounted(case.folder, size="4m"):
        report = case.download("p/large")
        assert report.reason is Reason.DISK_FULL
        assert str(len(LARGE)) in report.message
        assert not list(case.folder.iterdir())


def test_disk_that_fills_up_meanwhile_is_told_and_leaves_nothing(case: S3Case, proxy: FaultProxy) -> None:
    with mounted(case.folder, size="20m"):
        filler = case.folder / "filler"
        proxy.inject(Fault("GET /[^?]*/p/large", "pass", before=lambda: filler.write_bytes(b"x" * 8 * MIB)))
        report = case.download("p/large")
        assert report.reason is Reason.DISK_FULL
        assert "bytes free" in report.message
        assert {p.name for p in case.folder.iterdir()} == {"filler"}


def test_read_only_volume_is_told(case: S3Case) -> None:
    with mounted(case.folder):
        seal(case.folder)
        assert case.download("p/").reason is Reason.VOLUME_NOT_WRITABLE


@pytest.mark.parametrize("kind", ["reset", "truncate", "wrong"])
@pytest.mark.parametrize("size", [100_000, 3 * MIB, 17 * MIB])
def test_upload_survives_when_a_body_is_broken(case: S3Case, proxy: FaultProxy, kind: Any, size: int) -> None:
    content = os.urandom(size)
    case.write("x", content)
    proxy.inject(Fault("PUT", kind, on="request", after=50_000))
    report = case.upload("up")
    assert (report.reason, report.files, report.verified) == (Reason.TRANSFER_COMPLETE, 1, "checksum"), report
    assert case.store.get(case.bucket, "up/x") == content


@pytest.mark.usefixtures("short_stalls")
@pytest.mark.parametrize("size", [100_000, 3 * MIB, 17 * MIB])
def test_upload_survives_a_stall(case: S3Case, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(s3_client, "PUT_SECONDS", 1)
    content = os.urandom(size)
    case.write("x", content)
    proxy.inject(Fault("PUT", "stall", on="request", after=50_000))
    assert case.upload("up").files == 1
    assert case.store.get(case.bucket, "up/x") == content


@pytest.mark.parametrize("match", ["PUT", "POST", "HEAD", "GET"])
def test_upload_survives_server_errors(case: S3Case, proxy: FaultProxy, match: str) -> None:
    case.write("x", LARGE)
    proxy.inject(Fault(match, "status", status=503, body=SLOW_DOWN, times=2))
    assert case.upload("up").files == 1
    assert case.store.get(case.bucket, "up/x") == LARGE


def test_upload_survives_when_the_answer_to_the_join_is_lost(case: S3Case, proxy: FaultProxy) -> None:
    case.write("x", LARGE)
    proxy.inject(Fault("POST .*uploadId=", "reset"))
    report = case.upload("up")
    assert (report.reason, report.verified) == (Reason.TRANSFER_COMPLETE, "checksum")


def test_upload_that_stays_wrong_is_an_integrity_mismatch(case: S3Case, proxy: FaultProxy) -> None:
    case.write("x", b"x" * 1000)
    proxy.inject(Fault("PUT", "wrong", on="request", times=None))
    assert case.upload("up").reason is Reason.INTEGRITY_MISMATCH


def test_bandwidth_limit_is_held_in_both_directions(case: S3Case) -> None:
    began = time.monotonic()
    case.put(**{"q/x": os.urandom(600_000)})
    case.download("q/", bandwidth_limit=400_000)
    assert 0.9 < time.monotonic() - began < 5
    began = time.monotonic()
    case.upload("up", bandwidth_limit=400_000)
    assert 0.9 < time.monotonic() - began < 5


@pytest.mark.parametrize("with_scheme", [True, False])
def test_proxy_of_the_environment_is_used_by_both_clients(case: S3Case, with_scheme: bool) -> None:
    with start_fault_proxy(None) as forward:
        value = forward.url if with_scheme else forward.url.removeprefix("http://")
        report = case.download("p/", env={"HTTP_PROXY": value})
        assert report.files == 2
        assert forward.count("list-type=2") == 1
        assert forward.count("GET /[^?]*/p/") == 4
        forward.clear()
        case.upload("up", env={"http_proxy": value, "NO_PROXY": "127.0.0.1"})
        assert not forward.requests
