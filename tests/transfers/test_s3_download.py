"""S3 download against a real object store: what lands where, what is left alone, what is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.transfers import s3_client, s3_selection
from tests.servers.faults import Fault, start_fault_proxy
from tests.servers.objectstore import PUBLIC_BUCKET
from tests.support import tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.transfers.s3_case import S3Case

pytestmark = pytest.mark.t1
MIB = 1024 * 1024


@pytest.fixture
def case(s3_case: S3Case) -> S3Case:
    return s3_case


def test_object_lands_below_the_folder_under_its_name(case: S3Case) -> None:
    case.put(**{"a/b/model.bin": b"weights"})
    report = case.download("a/b/model.bin", sub_path="models/x")
    assert (report.reason, report.listed, report.files, report.skipped, report.bytes) == (
        Reason.TRANSFER_COMPLETE, 1, 1, 0, 7,
    )  # fmt: skip
    assert (report.verified, report.path, report.revision) == ("checksum", "models/x/model.bin", "")
    assert (case.folder / "model.bin").read_bytes() == b"weights"


@pytest.mark.parametrize("key", ["a/b", "a/b/"])
def test_prefix_lands_with_its_tree_and_does_not_match_a_longer_name(case: S3Case, key: str) -> None:
    case.put(**{"a/b/1": b"1", "a/b/c/2": b"2", "a/bc": b"no", "a/b-c/3": b"no", "a/b.txt": b"no"})
    report = case.download(key)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert case.names() == {"1", "c/2"}
    assert (report.listed, report.files, report.bytes) == (2, 2, 2)


def test_whole_bucket_lands_when_the_uri_has_no_key(case: S3Case) -> None:
    case.put(**{"x": b"1", "d/y": b"2"})
    options = case.options() | {"s3-uri": f"s3://{case.bucket}"}
    assert case.download(options=options).files == 2
    assert case.names() == {"x", "d/y"}


def test_object_wins_over_prefix_of_the_same_name_unless_a_slash_follows(case: S3Case) -> None:
    case.put(**{"a/b": b"object", "a/b/c": b"below"})
    report = case.download("a/b")
    assert case.names() == {"b"}
    assert any("trailing '/'" in n for n in report.notices)
    assert case.download("a/b/").files == 1
    assert case.names() == {"b", "c"}


ODD_KEYS = (
    "ünïcode/日本語", "with space", "100%", "a%20b", "plus+", "q?x=1&y", "h#h", ".hidden/.x", "-dash", "star*",
    "br[a]{b}", "quote'\"", "semi;colon,comma=at@", "tilde~", "tab\tx", "new\nline", "emoji😀", "n" * 255,
)  # fmt: skip


def test_odd_keys_land_under_their_own_names(case: S3Case) -> None:
    for key in ODD_KEYS:
        case.store.put(case.bucket, f"odd/{key}", key.encode())
    report = case.download("odd")
    assert (report.reason, report.files, report.verified) == (Reason.TRANSFER_COMPLETE, len(ODD_KEYS), "checksum")
    assert case.names() == set(ODD_KEYS)
    assert (case.folder / "new\nline").read_bytes() == b"new\nline"
    assert case.download("odd").reason is Reason.UP_TO_DATE


def test_odd_object_lands_when_the_uri_names_it(case: S3Case) -> None:
    case.store.put(case.bucket, "a b/100%?#.bin", b"odd")
    assert case.download("a b/100%?#.bin").path == "100%?#.bin"
    assert (case.folder / "100%?#.bin").read_bytes() == b"odd"


def _listing(bucket: str, *keys: str) -> bytes:
    items = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        '<ETag>"9dd4e461268c8034f5c8564e155c67a6"</ETag><Size>1</Size></Contents>'
        for key in keys
    )
    head = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return f"{head}<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()


@pytest.mark.parametrize(
    "keys", [("../out",), ("a/../../out",), ("/abs",), ("a//b",), (".datacube/x",), ("a", "a/b"), ("n" * 256,)]
)
def test_keys_that_cannot_be_files_are_refused_before_anything_is_written(case: S3Case, keys: tuple[str, ...]) -> None:
    body = _listing(case.bucket, *(f"p/{k}" for k in keys))
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        proxy.inject(Fault("list-type=2", "status", status=200, body=body, times=None))
        assert case.download("p/").reason is Reason.PATH_COLLISION
        assert not proxy.count("GET /[^?]*/p/")
    assert not case.names()
    assert {p.name for p in case.folder.parent.iterdir()} == {"claim"}


@pytest.mark.parametrize(("there", "key"), [("a/file", "p/a"), ("a", "p/a/b")])
def test_file_and_folder_in_each_others_place_are_refused(case: S3Case, there: str, key: str) -> None:
    case.put(**{key: b"x"})
    case.write(there)
    report = case.download("p/")
    assert report.reason is Reason.PATH_COLLISION
    assert "move it away" in report.message
    assert case.names() == {there}


def test_linked_folder_is_not_written_through(case: S3Case, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (case.folder / "a").symlink_to(outside)
    case.put(**{"p/a/b": b"x"})
    assert case.download("p/").reason is Reason.PATH_COLLISION
    assert not list(outside.iterdir())


def test_link_in_a_files_place_is_replaced_and_its_target_kept(case: S3Case, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"x")
    (case.folder / "b").symlink_to(target)
    case.put(**{"p/b": b"y"})
    assert case.download("p/").files == 1
    assert not (case.folder / "b").is_symlink()
    assert (target.read_bytes(), (case.folder / "b").read_bytes()) == (b"x", b"y")


def test_folder_markers_make_folders_and_are_not_counted(case: S3Case) -> None:
    case.store.put(case.bucket, "p/empty/", b"")
    case.put(**{"p/x": b"1"})
    report = case.download("p")
    assert (report.listed, report.files) == (1, 1)
    assert case.names() == {"x"}
    assert (case.folder / "empty").is_dir()


def test_unchanged_files_are_not_moved_again(case: S3Case) -> None:
    case.put(**{f"p/{i}": os.urandom(1000) for i in range(20)})
    case.store.put_parts(case.bucket, "p/parts", os.urandom(11 * MIB), 5 * MIB)
    case.store.put(case.bucket, "p/empty", b"")
    assert case.download("p").files == 22
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        report = case.download("p")
        assert (report.reason, report.files, report.skipped, report.listed) == (Reason.UP_TO_DATE, 0, 22, 22)
        assert report.verified == "checksum"
        assert not proxy.count(f"GET /{case.bucket}/p/")


def test_changed_files_are_moved_and_others_kept(case: S3Case) -> None:
    case.put(**{"p/a": b"aaa", "p/b": b"bbb"})
    case.download("p")
    case.write("own")
    case.write("b", b"xxx")  # the same size, another content
    case.put(**{"p/a": b"new"})
    report = case.download("p")
    assert (report.files, report.skipped) == (2, 0)
    assert [(case.folder / n).read_bytes() for n in ("a", "b", "own")] == [b"new", b"bbb", b"local"]


def test_large_objects_and_objects_of_parts_are_verified_by_checksum(case: S3Case) -> None:
    whole, parts = os.urandom(20 * MIB + 7), os.urandom(19 * MIB + 1)
    case.store.put(case.bucket, "p/whole", whole)
    case.store.put_parts(case.bucket, "p/parts", parts, 7 * MIB)
    report = case.download("p")
    assert (report.files, report.verified, report.bytes) == (2, "checksum", len(whole) + len(parts))
    assert (case.folder / "whole").read_bytes() == whole
    assert (case.folder / "parts").read_bytes() == parts


def test_large_objects_do_not_wait_for_each_other_when_memory_is_short(
    case: S3Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "BYTES_IN_FLIGHT", 16 * MIB)
    contents = {f"p/{i}": os.urandom(25 * MIB) for i in range(4)} | {"p/small": b"x" * MIB}
    case.put(**contents)
    assert case.download("p").files == 5
    assert case.download("p").skipped == 5


@pytest.mark.parametrize(("verify", "said"), [("size", "size"), ("none", "none")])
def test_verify_says_what_was_done_when_it_is_not_by_checksum(case: S3Case, verify: str, said: str) -> None:
    case.put(**{"p/a": b"aaa"})
    assert case.download("p", verify=verify).verified == said
    again = case.download("p", verify=verify)
    assert (again.reason, again.skipped, again.verified) == (Reason.UP_TO_DATE, 1, said)


@pytest.mark.parametrize(
    ("key", "reason"), [("nothing", Reason.NOT_FOUND), ("nothing/", Reason.NOT_FOUND), ("", Reason.SOURCE_EMPTY)]
)
def test_missing_or_empty_prefix_is_an_error(case: S3Case, key: str, reason: Reason) -> None:
    report = case.download(key)
    assert report.reason is reason
    assert f"s3://{case.bucket}/{key}" in report.message


def test_prefix_of_folder_markers_alone_is_empty(case: S3Case) -> None:
    case.store.put(case.bucket, "p/", b"")
    assert case.download("p/").reason is Reason.SOURCE_EMPTY


@pytest.mark.parametrize("key", ["", "a", "a/"])
def test_missing_bucket_is_not_found(case: S3Case, key: str) -> None:
    report = case.download(options=case.options() | {"s3-uri": f"s3://no-such-bucket/{key}"})
    assert report.reason is Reason.NOT_FOUND
    assert "bucket" in report.message


@pytest.mark.parametrize(("wrong", "said"), [("s3-secret-access-key", "secret"), ("s3-access-key-id", "access key")])
def test_wrong_credentials_are_access_denied(case: S3Case, wrong: str, said: str) -> None:
    case.put(**{"p/a": b"x"})
    report = case.download(options=case.options("p/") | {wrong: "WRONGVALUE"})
    assert report.reason is Reason.ACCESS_DENIED
    assert said in report.message


def test_foreign_bucket_is_access_denied(case: S3Case) -> None:
    case.put(**{"p/a": b"x"})
    options = case.store.options(f"s3://{case.bucket}/p/", keys=case.store.limited)
    assert case.download(options=options).reason is Reason.ACCESS_DENIED


def test_half_a_pair_of_keys_is_refused(case: S3Case) -> None:
    options = case.options("p/")
    del options["s3-secret-access-key"]
    assert case.download(options=options).reason is Reason.INVALID_SPEC


def test_public_bucket_is_read_without_keys(case: S3Case) -> None:
    case.store.make_bucket(PUBLIC_BUCKET)
    case.store.put(PUBLIC_BUCKET, "p/a", b"open")
    options = {"s3-uri": f"s3://{PUBLIC_BUCKET}/p", "s3-endpoint": case.store.url}
    assert case.download(options=options).files == 1
    private = {"s3-uri": f"s3://{case.bucket}/p", "s3-endpoint": case.store.url}
    assert case.download(options=private).reason is Reason.ACCESS_DENIED


def test_disk_full_is_told_before_the_first_byte(case: S3Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.put(**{"p/a": b"x" * 1000, "p/b": b"y" * 1000})
    monkeypatch.setattr(s3_selection.check_space, "__defaults__", (lambda _folder: 1999,))
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        report = case.download("p")
        assert report.reason is Reason.DISK_FULL
        assert "2000" in report.message
        assert "1999" in report.message
        assert not proxy.count(f"GET /{case.bucket}/p/")
    assert not case.names()


def test_dry_run_tells_the_numbers_of_what_then_happens(case: S3Case) -> None:
    case.put(**{"p/new": b"12345", "p/changed": b"abc", "p/same": b"same"})
    case.write("changed", b"xyz")
    case.write("same", b"same")
    case.write("extra")
    planned = case.download("p", dry_run=True, sync=True).plan
    assert planned is not None
    assert (planned.add, planned.update, planned.delete, planned.bytes) == (1, 1, 1, 8)
    assert case.names() == {"changed", "same", "extra"}
    done = case.download("p", sync=True)
    assert (done.files, done.deleted, done.bytes) == (planned.add + planned.update, planned.delete, planned.bytes)
    assert case.download("p", dry_run=True, sync=True).plan == type(planned)()


def test_leftovers_of_a_killed_attempt_are_removed(case: S3Case) -> None:
    case.put(**{"p/a": b"x"})
    case.write(".datacube/0.part")
    assert case.download("p").files == 1
    assert {p.name for p in case.folder.iterdir()} == {"a"}


def test_many_objects_arrive_with_one_request_each(case: S3Case) -> None:
    contents = {f"p/{i % 10}/{i}": b"%d" % i for i in range(1100)}
    case.store.put_many(case.bucket, contents)
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        report = case.download("p")
        assert (report.files, report.verified) == (1100, "checksum")
        assert proxy.count("GET") == 1100 + 1 + 2  # the objects, the look below the prefix, two pages
        assert proxy.count("HEAD") == 1
    assert len(tree(case.folder)) == 1100
