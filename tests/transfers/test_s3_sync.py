"""A sync deletes what the source lacks, below its folder, and nothing else ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.servers.faults import Fault, start_fault_proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.transfers.s3_case import S3Case

pytestmark = pytest.mark.t1
ENGINES = pytest.mark.parametrize("extra_args", [(), ("--checkers=4",)], ids=["built-in", "rclone"])


@pytest.fixture
def case(s3_case: S3Case) -> S3Case:
    s3_case.put(**{"p/a": b"a", "p/d/b": b"b"})
    return s3_case


@ENGINES
def test_sync_deletes_what_the_source_lacks_and_folders_left_empty(case: S3Case, extra_args: tuple[str, ...]) -> None:
    for name in ("x", "d/y", "e/f/z"):
        case.write(name)
    report = case.download("p", sync=True, extra_args=extra_args)
    assert (report.reason, report.deleted, report.files, report.listed) == (Reason.TRANSFER_COMPLETE, 3, 2, 2)
    assert case.names() == {"a", "d/b"}
    assert {p.name for p in case.folder.iterdir()} == {"a", "d"}
    again = case.download("p", sync=True, extra_args=extra_args)
    assert (again.reason, again.deleted, again.skipped) == (Reason.UP_TO_DATE, 0, 2)


@ENGINES
def test_sync_deletes_only_below_its_folder(case: S3Case, extra_args: tuple[str, ...]) -> None:
    beside = case.folder.parent / "beside"
    beside.mkdir()
    (beside / "x").write_bytes(b"x")
    case.write("y")
    assert case.download("p", sync=True, extra_args=extra_args).deleted == 1
    assert (beside / "x").exists()


@ENGINES
def test_sync_keeps_lost_and_found(case: S3Case, extra_args: tuple[str, ...]) -> None:
    case.write("lost+found/x")
    case.write("y")
    assert case.download("p", sync=True, extra_args=extra_args).deleted == 1
    assert case.names() == {"a", "d/b", "lost+found/x"}


@ENGINES
def test_sync_follows_no_link_and_keeps_it(case: S3Case, tmp_path: Path, extra_args: tuple[str, ...]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"x")
    (case.folder / "folder").symlink_to(outside)
    (case.folder / "file").symlink_to(outside / "x")
    assert case.download("p", sync=True, extra_args=extra_args).deleted == 0
    assert (outside / "x").exists()
    assert (case.folder / "folder").is_symlink()


@ENGINES
@pytest.mark.parametrize("key", ["nothing", "nothing/", "empty/"])
def test_sync_refuses_an_empty_source(case: S3Case, key: str, extra_args: tuple[str, ...]) -> None:
    case.store.put(case.bucket, "empty/", b"")
    case.write("x")
    assert case.download(key, sync=True, extra_args=extra_args).reason is Reason.SOURCE_EMPTY
    assert case.names() == {"x"}


def test_sync_deletes_nothing_when_the_listing_is_a_login_page(case: S3Case) -> None:
    case.write("x")
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        proxy.inject(Fault("list-type=2", "html", times=None))
        report = case.download("p/", sync=True)
    assert report.reason is Reason.SERVER_ERROR
    assert case.names() == {"x"}


@ENGINES
def test_sync_moves_and_deletes_nothing_when_max_delete_is_exceeded(case: S3Case, extra_args: tuple[str, ...]) -> None:
    case.write("x")
    case.write("y")
    report = case.download("p", sync=True, max_delete=1, extra_args=extra_args)
    assert report.reason is Reason.TOO_MANY_DELETES
    assert case.names() == {"x", "y"}
    assert case.download("p", sync=True, max_delete=2, extra_args=extra_args).deleted == 2


@ENGINES
def test_sync_of_a_single_object_deletes_nothing(case: S3Case, extra_args: tuple[str, ...]) -> None:
    case.write("x")
    report = case.download("p/a", sync=True, extra_args=extra_args)
    assert (report.files, report.deleted) == (1, 0)
    assert case.names() == {"x", "a"}


def test_sync_deletes_nothing_when_a_copy_fails(case: S3Case) -> None:
    case.write("x")
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        proxy.inject(Fault(r"GET /[^?]*/p/d/b", "status", status=403, times=None))
        assert case.download("p", sync=True).reason is Reason.ACCESS_DENIED
    assert "x" in case.names()


def test_sync_keeps_folders_that_stand_for_themselves_in_the_store(case: S3Case) -> None:
    case.store.put(case.bucket, "p/kept/", b"")
    (case.folder / "kept").mkdir()
    (case.folder / "gone").mkdir()
    case.download("p", sync=True)
    assert {p.name for p in case.folder.iterdir()} == {"a", "d", "kept"}


def test_download_without_sync_deletes_nothing(case: S3Case) -> None:
    case.write("x")
    assert case.download("p").deleted == 0
    assert case.names() == {"a", "d/b", "x"}


def test_sync_with_include_is_refused_beside_lost_and_found(case: S3Case) -> None:
    case.write("lost+found/x")
    report = case.download("p", sync=True, extra_args=("--include", "**"))
    assert report.reason is Reason.INVALID_SPEC
    assert "lost+found/x" in case.names()
