"""The pure parts of the S3 transfer: addresses, hashes, pauses, words of errors, the bandwidth limit."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from datacube_flows.api.reasons import PERMANENT, Reason
from datacube_flows.core.kinds import kind_named
from datacube_flows.errors import TransferError
from datacube_flows.transfers.base import Attempt, Settings
from datacube_flows.transfers.s3_client import RETRY_AFTER_CAP_SECONDS, ByteBudget, pause_seconds
from datacube_flows.transfers.s3_errors import Failure, explain, explain_text
from datacube_flows.transfers.s3_integrity import (
    MIB,
    EtagHash,
    candidate_part_sizes,
    expect_checksum,
    expect_etag,
    upload_part_size,
)
from datacube_flows.transfers.s3_sync import delete_files
from datacube_flows.transfers.s3_target import S3Target, parse_s3_uri, proxy_for
from datacube_flows.transfers.throttle import Throttle

pytestmark = pytest.mark.t0


def target(env: dict[str, str] | None = None, schemes: tuple[str, ...] = ("https",), **options: str) -> S3Target:
    given = {"s3-uri": "s3://bucket/a/b"} | {f"s3-{name.replace('_', '-')}": v for name, v in options.items()}
    settings = Settings(allowed_schemes=schemes)
    here = Path()
    return S3Target.of(Attempt(kind_named("s3-download"), given, env or {}, here, "", (), settings, here))


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b/a/b", "b", "a/b"),
        ("s3://b/a%20b?x#y", "b", "a%20b?x#y"),
        ("s3://b/a/", "b", "a/"),
    ],
)
def test_uri_gives_bucket_and_key_as_they_are(text: str, bucket: str, key: str) -> None:
    uri = parse_s3_uri(text)
    assert (uri.bucket, uri.key) == (bucket, key)
    assert uri.prefix == (key if not key or key.endswith("/") else key + "/")


@pytest.mark.parametrize(
    "text", ["", "b/a", "s3:/b", "s3://", "s3:///a", "-s3://b", "s3://-b", "http://b/a", "s3://a b"]
)
def test_uri_is_refused_when_it_names_no_bucket(text: str) -> None:
    with pytest.raises(TransferError) as caught:
        parse_s3_uri(text)
    assert caught.value.reason is Reason.INVALID_SPEC


@pytest.mark.parametrize(
    ("options", "endpoint", "virtual"),
    [
        ({}, "https://s3.us-east-1.amazonaws.com", True),
        ({"region": "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com", True),
        ({"region": "cn-north-1"}, "https://s3.cn-north-1.amazonaws.com.cn", True),
        ({"addressing_style": "path"}, "https://s3.us-east-1.amazonaws.com", False),
        ({"uri": "s3://dotted.name/x"}, "https://s3.us-east-1.amazonaws.com", False),
        ({"endpoint": "https://minio.example/"}, "https://minio.example", False),
        ({"endpoint": "minio.example"}, "https://minio.example", False),
        ({"endpoint": "https://minio.example:9000", "addressing_style": "virtual"}, "https://minio.example:9000", True),
    ],
)
def test_target_has_endpoint_and_style(options: dict[str, str], endpoint: str, virtual: bool) -> None:
    found = target(**options)
    assert (found.endpoint, found.virtual) == (endpoint, virtual)


def test_virtual_style_puts_the_bucket_before_the_host() -> None:
    found = target(endpoint="https://minio.example:9000", addressing_style="virtual")
    assert found.host_style_endpoint == "https://bucket.minio.example:9000"


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "http://plain.example"},
        {"endpoint": "-https://x"},
        {"endpoint": "https://user:secret@host"},
        {"endpoint": "https://host/?x=1"},
        {"addressing_style": "dns"},
        {"access_key_id": "only"},
    ],
)
def test_target_is_refused_when_an_option_cannot_be_used(options: dict[str, str]) -> None:
    with pytest.raises(TransferError) as caught:
        target(**options)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert "secret@" not in caught.value.message


def test_region_of_the_pod_is_used_when_the_document_names_none() -> None:
    assert target({"AWS_REGION": "eu-north-1"}).region == "eu-north-1"
    assert target({"AWS_REGION": "eu-north-1"}, region="us-west-2").region == "us-west-2"


def test_identity_of_the_pod_is_used_only_when_it_is_whole_and_no_keys_are_given() -> None:
    env = {"AWS_ROLE_ARN": "arn:x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}
    assert target(env).role == env
    assert not target({"AWS_ROLE_ARN": "arn:x"}).role
    assert not target(env, access_key_id="a", secret_access_key="b").role


@pytest.mark.parametrize(
    ("endpoint", "env", "proxy"),
    [
        ("https://s3.example", {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example", {"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example", {"HTTP_PROXY": "proxy:3128"}, ""),
        ("http://s3.example", {"HTTP_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example", {"ALL_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https://s3.example", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "example"}, ""),
        ("https://s3.example:9000", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "other,.example"}, ""),
        ("https://s3.example", {}, ""),
    ],
)
def test_proxy_is_the_one_that_the_environment_names(endpoint: str, env: dict[str, str], proxy: str) -> None:
    assert proxy_for(endpoint, env) == proxy


def test_etag_hash_is_what_s3_computes() -> None:
    content = os.urandom(1000)
    assert _hashed(EtagHash(), content) == hashlib.md5(content).hexdigest()  # noqa: S324 - S3 uses it
    parts = [hashlib.md5(content[i : i + 300]).digest() for i in range(0, 1000, 300)]  # noqa: S324
    assert _hashed(EtagHash(300), content) == hashlib.md5(b"".join(parts)).hexdigest() + "-4"  # noqa: S324
    assert _hashed(EtagHash(500), content).endswith("-2")


def _hashed(hasher: Any, content: bytes) -> str:
    for start in range(0, len(content), 77):
        hasher.update(content[start : start + 77])
    return str(hasher.value())


def test_candidates_fit_the_number_of_parts() -> None:
    assert candidate_part_sizes(22 * MIB, 3)[0] == 8 * MIB
    assert candidate_part_sizes(22 * MIB, 5)[0] == 5 * MIB
    assert candidate_part_sizes(21 * MIB, 3, known=7 * MIB) == (7 * MIB,)
    assert candidate_part_sizes(21 * MIB, 3, known=1 * MIB) == ()
    assert all(-(-100_000_001 // p) == 7 for p in candidate_part_sizes(100_000_001, 7))
    assert candidate_part_sizes(0, 1) == ()


@pytest.mark.parametrize("etag", ['"not-hex"', '"0123"', "", '"' + "G" * 32 + '"'])
def test_etag_that_is_no_md5_expects_nothing(etag: str) -> None:
    assert expect_etag(etag, 100) == ()


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ({"ChecksumSHA256": "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="}, True),
        ({"ChecksumSHA1": "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="}, True),
        ({"ChecksumCRC32": "NSRBwg=="}, True),
        ({"ChecksumCRC64NVME": "AAAAAAAAAAA="}, False),
        ({"ChecksumSHA256": "abc-3"}, False),
        ({"ChecksumSHA256": "abc", "ChecksumType": "COMPOSITE"}, False),
        ({}, False),
    ],
)
def test_checksum_of_the_whole_object_is_used(answer: dict[str, str], value: bool) -> None:
    expected = expect_checksum(answer)
    assert (expected is not None) == value
    if expected is not None:
        assert _hashed(expected.make(), b"abc") == expected.value


def test_parts_grow_when_ten_thousand_do_not_suffice() -> None:
    assert upload_part_size(9 * MIB) == 8 * MIB
    huge = 1024 * 1024 * MIB
    assert upload_part_size(huge) % MIB == 0
    assert -(-huge // upload_part_size(huge)) <= 10_000


def test_pause_doubles_spreads_and_obeys_the_store() -> None:
    plain, limited = Failure(Reason.SERVER_ERROR, "", 500), Failure(Reason.SERVER_ERROR, "", 503)
    assert pause_seconds(plain, 2, jitter=0.999) > pause_seconds(plain, 1, jitter=0.999)
    assert pause_seconds(plain, 1, jitter=0) < pause_seconds(plain, 1, jitter=0.9)
    assert pause_seconds(limited, 1, jitter=0) > pause_seconds(plain, 1, jitter=0.999)
    assert pause_seconds(plain, 50, jitter=0.999) <= 20
    told = Failure(Reason.SERVER_ERROR, "", 429, retry_after=7)
    assert 7 <= pause_seconds(told, 1, jitter=0.5) < 8
    assert pause_seconds(Failure(Reason.SERVER_ERROR, "", 429, retry_after=1e6), 1, jitter=0) <= RETRY_AFTER_CAP_SECONDS


def client_error(code: str, status: int, **headers: str) -> ClientError:
    meta = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": meta}, "GetObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status", "reason", "is_passing"),
    [
        ("AccessDenied", 403, Reason.ACCESS_DENIED, False),
        ("403", 403, Reason.ACCESS_DENIED, False),
        ("SignatureDoesNotMatch", 403, Reason.ACCESS_DENIED, False),
        ("InvalidAccessKeyId", 403, Reason.ACCESS_DENIED, False),
        ("RequestTimeTooSkewed", 403, Reason.CLOCK_SKEW, False),
        ("NoSuchBucket", 404, Reason.NOT_FOUND, False),
        ("NoSuchKey", 404, Reason.NOT_FOUND, False),
        ("404", 404, Reason.NOT_FOUND, False),
        ("SlowDown", 503, Reason.SERVER_ERROR, True),
        ("429", 429, Reason.SERVER_ERROR, True),
        ("InternalError", 500, Reason.SERVER_ERROR, True),
        ("RequestTimeout", 400, Reason.SERVER_ERROR, True),
        ("PreconditionFailed", 412, Reason.SOURCE_CHANGED, False),
        ("PermanentRedirect", 301, Reason.INVALID_SPEC, False),
        ("302", 302, Reason.INVALID_SPEC, False),
        ("BadDigest", 400, Reason.INTEGRITY_MISMATCH, True),
        ("Whatever", 400, Reason.INVALID_SPEC, False),
    ],
)
def test_answer_of_the_store_has_its_reason(code: str, status: int, reason: Reason, is_passing: bool) -> None:
    failure = explain(client_error(code, status))
    assert (failure.reason, failure.is_passing) == (reason, is_passing)
    assert not (failure.is_passing and failure.reason in PERMANENT)


def test_retry_after_is_read_from_the_answer() -> None:
    assert explain(client_error("429", 429, **{"retry-after": "12"})).retry_after == 12
    assert explain(client_error("429", 429, **{"retry-after": "Wed, 21 Oct 2026"})).retry_after is None


def test_error_of_the_volume_is_not_taken_for_the_stores() -> None:
    with pytest.raises(OSError, match="space"):
        explain(OSError(28, "No space left on device"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https response error StatusCode: 403, RequestID: X, api error Forbidden: Forbidden", Reason.ACCESS_DENIED),
        ("StatusCode: 403, api error SignatureDoesNotMatch: ...", Reason.ACCESS_DENIED),
        ("api error NoSuchBucket: gone", Reason.NOT_FOUND),
        ("write /x: no space left on device", Reason.DISK_FULL),
        ("open /x: permission denied", Reason.VOLUME_NOT_WRITABLE),
        ("dial tcp 127.0.0.1:1: connect: connection refused", Reason.ENDPOINT_UNREACHABLE),
        ("x509: certificate signed by unknown authority", Reason.TLS_ERROR),
        ("--max-delete threshold reached", Reason.TOO_MANY_DELETES),
        ("corrupted on transfer: md5 hashes differ", Reason.INTEGRITY_MISMATCH),
        ("StatusCode: 503, api error SlowDown", Reason.SERVER_ERROR),
        ("something new", Reason.TRANSFER_ERROR),
        ("", Reason.TRANSFER_ERROR),
    ],
)
def test_words_of_the_tool_have_their_reason(text: str, reason: Reason) -> None:
    assert explain_text(text).reason is reason


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_throttle_gives_bytes_at_its_rate() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock)
    assert [throttle.reserve(500) for _ in range(3)] == pytest.approx([0.5, 1.0, 1.5])
    clock.now = 10.0
    assert throttle.reserve(1000) == pytest.approx(0.75)
    assert Throttle(None).reserve(10**9) == 0


def test_throttle_stops_waiting_when_told() -> None:
    stop = threading.Event()
    stop.set()
    Throttle(1).wait(1000, stop)


def test_budget_serves_who_came_first_and_bounds_what_is_held() -> None:
    async def use() -> list[str]:
        budget, order = ByteBudget(10), []

        async def take(name: str, size: int) -> None:
            taken = await budget.take(size)
            order.append(name)
            await asyncio.sleep(0)
            budget.give(taken)

        await asyncio.gather(take("a", 6), take("large", 99), take("b", 1))
        return order

    assert asyncio.run(use()) == ["a", "large", "b"]


def test_delete_removes_only_files_that_are_named_and_folders_left_empty(tmp_path: Path) -> None:
    for name in ("a/x", "a/y", "b/c/z", "lost+found/l", ".datacube/p"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    doomed = ["a/x", "b/c/z", "lost+found/l", ".datacube/p", "link/y", "gone"]
    assert delete_files(tmp_path, doomed, kept_folders=["kept"]) == 2
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")}
    assert left == {"a", "a/y", "lost+found", "lost+found/l", ".datacube", ".datacube/p", "kept", "link"}
