"""`extraArgs` hand an S3 transfer to rclone; what may happen, and whether it did, is checked all the same."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.transfers.s3_rclone import PARTIAL_SUFFIX
from tests.canary import CANARY
from tests.servers.faults import Fault, start_fault_proxy
from tests.support import start_child, tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.transfers.s3_case import S3Case

pytestmark = pytest.mark.t1
MIB = 1024 * 1024


@pytest.fixture
def case(s3_case: S3Case) -> S3Case:
    s3_case.put(**{"p/a": b"a", "p/d/b": b"bb", "p/ünï %20": b"ccc", "p/large": os.urandom(12 * MIB)})
    return s3_case


@pytest.mark.parametrize("key", ["p", "p/"])
def test_download_with_rclone_brings_the_tree(case: S3Case, key: str) -> None:
    report = case.download(key, extra_args=("--transfers", "4"), sub_path="x")
    assert (report.reason, report.listed, report.files, report.skipped) == (Reason.TRANSFER_COMPLETE, 4, 4, 0)
    assert (report.verified, report.bytes, report.path) == ("checksum", 12 * MIB + 6, "x")
    assert case.names() == {"a", "d/b", "ünï %20", "large"}
    again = case.download(key, extra_args=("--transfers", "4"))
    assert (again.reason, again.files, again.skipped) == (Reason.UP_TO_DATE, 0, 4)


def test_download_of_one_object_with_rclone_lands_under_its_name(case: S3Case) -> None:
    report = case.download("p/d/b", extra_args=("--checksum",))
    assert (report.files, report.path) == (1, "b")
    assert case.names() == {"b"}


def test_filters_leave_out_files_and_it_is_said(case: S3Case) -> None:
    report = case.download("p", extra_args=("--exclude", "large", "--exclude=d/**"))
    assert (report.listed, report.files, report.skipped) == (4, 2, 2)
    assert any("left out 2" in n for n in report.notices)
    assert case.names() == {"a", "ünï %20"}


def test_argument_that_is_not_allowed_is_refused(case: S3Case) -> None:
    assert case.download("p", extra_args=("--config=/x",)).reason is Reason.INVALID_SPEC
    assert not case.names()


def test_missing_prefix_is_not_found_with_rclone_too(case: S3Case) -> None:
    assert case.download("nothing", extra_args=("--transfers=4",)).reason is Reason.NOT_FOUND


def test_wrong_bytes_are_not_accepted_with_rclone(case: S3Case) -> None:
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        proxy.inject(Fault("GET /[^?]*/p/a", "wrong", times=None))
        report = case.download("p/a", extra_args=("--low-level-retries=1",))
    assert report.reason is Reason.INTEGRITY_MISMATCH
    assert not case.names()


def test_denied_object_is_access_denied_with_rclone(case: S3Case) -> None:
    with start_fault_proxy(case.store.url) as proxy:
        case.url = proxy.url
        body = b"<Error><Code>AccessDenied</Code></Error>"
        proxy.inject(Fault("GET /[^?]*/p/a", "status", status=403, body=body, times=None))
        assert case.download("p/", extra_args=("--transfers=4",)).reason is Reason.ACCESS_DENIED


def test_partial_files_of_a_killed_rclone_are_removed_and_its_own_only(case: S3Case) -> None:
    case.write(f"d/b.1234abcd{PARTIAL_SUFFIX}")
    case.write("d/b.partial")
    case.download("p", extra_args=("--transfers=4",))
    assert case.names() == {"a", "d/b", "ünï %20", "large", "d/b.partial"}


def test_rclone_shows_progress_and_no_secret(case: S3Case, tmp_path: Path) -> None:
    child = start_child(
        "s3-download", case.folder, case.options("p"), report=tmp_path / "report", extra_args=("--bwlimit=6M",)
    )
    code, report, messages = child.finish()
    assert (code, report is not None and report.files) == (0, 4)
    seen = [m["progress"]["bytesDone"] for m in messages if "progress" in m]
    assert seen == sorted(seen)
    assert any(0 < done < 12 * MIB for done in seen)
    assert seen[-1] == 12 * MIB + 6
    assert CANARY not in str(messages)
    assert set(tree(case.folder)) == {"a", "d/b", "ünï %20", "large"}


def test_proxy_of_the_environment_is_used_by_rclone(case: S3Case) -> None:
    """Go asks no proxy for loopback, so the store gets another name, which the proxy leads to it."""
    with start_fault_proxy(case.store.url) as proxy:
        options = case.options("p/a") | {"s3-endpoint": "http://store.invalid"}
        env = {"HTTP_PROXY": proxy.url.removeprefix("http://")}
        report = case.download(options=options, env=env, extra_args=("--transfers=4",))
        assert report.files == 1, report
        agents = {s.headers["user-agent"].split("/")[0] for s in proxy.requests}
    assert "rclone" in agents
    assert case.names() == {"a"}
