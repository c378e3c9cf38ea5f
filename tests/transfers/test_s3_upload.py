"""S3 upload to a real object store: what goes where, what is left alone, what is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.servers.faults import Fault, start_fault_proxy
from tests.servers.objectstore import LIMITED_BUCKET
from tests.support import tree

if TYPE_CHECKING:
    from tests.transfers.s3_case import S3Case

pytestmark = pytest.mark.t1
MIB = 1024 * 1024
ENGINES = pytest.mark.parametrize("extra_args", [(), ("--checkers=4",)], ids=["built-in", "rclone"])


@pytest.fixture
def case(s3_case: S3Case) -> S3Case:
    return s3_case


@ENGINES
@pytest.mark.parametrize("key", ["up", "up/"])
def test_file_lands_below_the_uri_under_its_name(case: S3Case, key: str, extra_args: tuple[str, ...]) -> None:
    case.write("d/model.bin", b"weights")
    report = case.upload(key, "d/model.bin", extra_args=extra_args)
    assert (report.reason, report.listed, report.files, report.bytes) == (Reason.TRANSFER_COMPLETE, 1, 1, 7)
    assert (report.verified, report.path) == ("checksum", "d/model.bin")
    assert case.store.list(case.bucket) == {"up/model.bin": 7}


@ENGINES
def test_folder_lands_below_the_uri_with_its_tree(case: S3Case, extra_args: tuple[str, ...]) -> None:
    for name in ("d/1", "d/e/2", "other"):
        case.write(name)
    report = case.upload("up", "d", extra_args=extra_args)
    assert (report.files, report.skipped, report.listed) == (2, 0, 2)
    assert set(case.store.list(case.bucket)) == {"up/1", "up/e/2"}


def test_whole_volume_lands_in_the_bucket_when_neither_path_nor_key_is_given(case: S3Case) -> None:
    case.write("a/b")
    assert case.upload().files == 1
    assert set(case.store.list(case.bucket)) == {"a/b"}


@ENGINES
def test_what_is_not_data_is_left_out(case: S3Case, extra_args: tuple[str, ...]) -> None:
    for name in ("data", "lost+found/x", ".datacube/0.part", ".cache/huggingface/y", ".hidden"):
        case.write(name)
    (case.folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(case.folder / "fifo")
    report = case.upload("up", extra_args=extra_args)
    assert set(case.store.list(case.bucket)) == {"up/data", "up/.hidden"}
    assert (report.listed, report.files, report.skipped) == (4, 2, 2)
    assert any("left out 2" in n for n in report.notices)


def test_odd_names_keep_their_names(case: S3Case) -> None:
    names = {"ünï", "sp ace", "100%", "a%20b", "q?x#y", "nl\nx", "n" * 255, "-dash", "emoji😀", "back\\slash"}
    names -= {"back\\slash"}  # SeaweedFS takes it for a folder
    for name in names:
        case.write(f"d/{name}", name.encode())
    assert case.upload("up", "d").files == len(names)
    assert set(case.store.list(case.bucket)) == {f"up/{name}" for name in names}


def test_name_that_is_no_text_is_refused(case: S3Case) -> None:
    (case.folder / os.fsdecode(b"bad\xff")).write_bytes(b"x")
    report = case.upload("up")
    assert report.reason is Reason.PATH_COLLISION
    assert "UTF-8" in report.message


@ENGINES
def test_unchanged_objects_are_not_sent_again_and_changed_ones_are(case: S3Case, extra_args: tuple[str, ...]) -> None:
    for number in range(20):
        case.write(f"d/{number}", os.urandom(100))
    case.write("d/large", os.urandom(9 * MIB))
    assert case.upload("up", "d", extra_args=extra_args).files == 21
    again = case.upload("up", "d", extra_args=extra_args)
    assert (again.reason, again.files, again.skipped) == (Reason.UP_TO_DATE, 0, 21)
    case.write("d/3", b"new")
    report = case.upload("up", "d", extra_args=extra_args)
    assert (report.files, report.skipped, report.verified) == (1, 20, "checksum")
    assert case.store.get(case.bucket, "up/3") == b"new"


def test_large_file_goes_in_parts_and_is_verified_by_checksum(case: S3Case) -> None:
    content = os.urandom(19 * MIB + 3)
    case.write("large", content)
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        report = case.upload("up", "large")
        assert proxy.count("PUT .*partNumber=") == 3
    assert (report.files, report.verified, report.bytes) == (1, "checksum", len(content))
    assert case.store.get(case.bucket, "up/large") == content
    assert case.store.uploads(case.bucket) == 0


def test_upload_that_was_left_behind_is_ended(case: S3Case) -> None:
    case.store.client.create_multipart_upload(Bucket=case.bucket, Key="up/large")
    case.store.client.create_multipart_upload(Bucket=case.bucket, Key="up/large2")
    case.write("large", os.urandom(9 * MIB))
    assert case.upload("up", "large").files == 1
    assert case.store.uploads(case.bucket) == 1


def test_failed_upload_leaves_no_parts(case: S3Case) -> None:
    case.write("large", os.urandom(17 * MIB))
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        proxy.inject(Fault("PUT .*partNumber=2", "status", status=403, times=None))
        assert case.upload("up", "large").reason is Reason.ACCESS_DENIED
    assert case.store.uploads(case.bucket) == 0
    assert not case.store.list(case.bucket)


@pytest.mark.parametrize(("sub_path", "reason"), [("nope", Reason.NOT_FOUND), ("empty", Reason.SOURCE_EMPTY)])
def test_missing_or_empty_source_is_an_error(case: S3Case, sub_path: str, reason: Reason) -> None:
    (case.folder / "empty").mkdir()
    report = case.upload("up", sub_path)
    assert report.reason is reason
    assert sub_path in report.message


@ENGINES
@pytest.mark.parametrize("check", [{}, {"s3-no-check-bucket": "true"}])
def test_missing_bucket_is_not_found_and_not_created(
    case: S3Case, check: dict[str, str], extra_args: tuple[str, ...]
) -> None:
    case.write("x")
    options = case.options() | {"s3-uri": "s3://no-such-bucket/up"} | check
    report = case.upload(options=options, extra_args=extra_args)
    assert report.reason is Reason.NOT_FOUND
    assert "no-such-bucket" not in [b["Name"] for b in case.store.client.list_buckets()["Buckets"]]


@ENGINES
def test_read_only_identity_is_access_denied(case: S3Case, extra_args: tuple[str, ...]) -> None:
    case.write("x")
    options = case.store.options(f"s3://{case.bucket}/up", keys=case.store.read_only)
    assert case.upload(options=options, extra_args=extra_args).reason is Reason.ACCESS_DENIED
    assert not case.store.list(case.bucket)


def test_denied_bucket_check_names_the_option_that_skips_it(case: S3Case) -> None:
    case.write("x")
    report = case.upload(options=case.store.options(f"s3://{case.bucket}/up", keys=case.store.limited))
    assert report.reason is Reason.ACCESS_DENIED
    assert "s3-no-check-bucket" in report.message


def test_no_check_bucket_sends_all_when_the_keys_may_only_write(case: S3Case) -> None:
    if LIMITED_BUCKET not in [b["Name"] for b in case.store.client.list_buckets()["Buckets"]]:
        case.store.make_bucket(LIMITED_BUCKET)
    case.write("x")
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        proxy.inject(Fault("^(HEAD|GET) ", "status", status=403, times=None))
        options = case.store.options(f"s3://{LIMITED_BUCKET}/up", url=proxy.url, keys=case.store.limited)
        assert case.upload(options=options).reason is Reason.ACCESS_DENIED
        report = case.upload(options=options | {"s3-no-check-bucket": "true"})
    assert (report.reason, report.files) == (Reason.TRANSFER_COMPLETE, 1)
    assert any("may not be read" in n for n in report.notices)
    assert case.store.get(LIMITED_BUCKET, "up/x") == b"local"


def test_file_that_changes_while_it_is_sent_is_source_changed(case: S3Case) -> None:
    path = case.write("x", b"before")
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        proxy.inject(Fault("PUT", "pass", before=lambda: path.write_bytes(b"afterwards")))
        assert case.upload("up").reason is Reason.SOURCE_CHANGED


def test_dry_run_tells_the_numbers_of_what_then_happens(case: S3Case) -> None:
    for name, content in (("new", b"12345"), ("changed", b"abc"), ("same", b"same")):
        case.write(name, content)
    case.put(**{"up/changed": b"xyz", "up/same": b"same", "up/extra": b"extra"})
    planned = case.upload("up", dry_run=True).plan
    assert planned is not None
    assert (planned.add, planned.update, planned.delete, planned.bytes) == (1, 1, 0, 8)
    done = case.upload("up")
    assert (done.files, done.bytes) == (2, 8)
    assert "up/extra" in case.store.list(case.bucket)


def test_round_trip_gives_the_same_tree(case: S3Case) -> None:
    for number in range(300):
        case.write(f"d/{number % 7}/{number}", os.urandom(number))
    case.upload("up", "d")
    wanted = tree(case.folder / "d")
    case.folder = case.folder / "back"
    case.folder.mkdir()
    assert case.download("up").files == 300
    assert tree(case.folder) == wanted


def test_upload_reads_a_read_only_volume(case: S3Case) -> None:
    case.write("d/x")
    before = {p: p.stat().st_mtime_ns for p in case.folder.rglob("*")}
    assert case.upload("up", "d").files == 1
    assert {p: p.stat().st_mtime_ns for p in case.folder.rglob("*")} == before
