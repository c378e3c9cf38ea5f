"""What a Git transfer does when the server, the way to it, or the volume is in trouble."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.servers.faults import start_fault_proxy
from tests.servers.gitfaults import Ending, Fault
from tests.servers.gitserver import start_git_server
from tests.transfers.gitcase import LFS_FILES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.gitserver import start_git_server
from tests.support import mounted, seal
from tests.transfers.gitcase import GitCase

pytestmark = pytest.mark.t1

PACK = r"git-upload-pack$"
OBJECT = r"/lfs/[0-9a-f]{64}"


def test_download_waits_as_long_as_the_server_asks_when_it_limits_the_rate(git_case: GitCase) -> None:
    repository = git_case.repository()
    git_case.server.fail(Fault("info/refs", times=1, status=429, retry_after=2))
    started = time.monotonic()
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE
    assert time.monotonic() - started > 2
    git_case.assert_tree(repository)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_download_asks_again_when_the_server_fails_once(git_case: GitCase, status: int) -> None:
    repository = git_case.repository()
    git_case.server.fail(Fault("info/refs", times=1, status=status))
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE


@pytest.mark.parametrize(("direction", "status"), [("download", 500), ("upload", 429)])
def test_transfer_gives_up_as_server_error_when_the_server_fails_always(
    git_case: GitCase, direction: str, status: int
) -> None:
    repository = git_case.repository({} if direction == "upload" else {"a": "a"})
    if direction == "upload":
        git_case.new_local(repository)
    git_case.server.fail(Fault("info/refs", times=1000, status=status))
    report = git_case.upload(repository) if direction == "upload" else git_case.download(repository)
    assert report.reason is Reason.SERVER_ERROR
    assert str(status) in report.message
    assert "http.c" not in report.message
    assert len(git_case.server.requests) <= 4


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        (Fault(PACK, times=9, ending=Ending.RESET), {Reason.TRANSFER_ERROR, Reason.ENDPOINT_UNREACHABLE}),
        (Fault(PACK, times=9, ending=Ending.TRUNCATED), {Reason.TRANSFER_ERROR, Reason.ENDPOINT_UNREACHABLE}),
        (Fault(PACK, times=9, flips_bytes=True), {Reason.TRANSFER_ERROR, Reason.INTEGRITY_MISMATCH}),
        (Fault("info/refs", times=9, status=403), {Reason.ACCESS_DENIED}),
        (Fault("info/refs", times=9, status=404), {Reason.NOT_FOUND}),
        (Fault("info/refs", times=9, login_page=True), {Reason.TRANSFER_ERROR}),
        (Fault("info/lfs/objects/batch", times=99, status=403), {Reason.ACCESS_DENIED}),
        (Fault("info/lfs/objects/batch", times=99, login_page=True), {Reason.TRANSFER_ERROR}),
        (Fault(OBJECT, times=99, flips_bytes=True), {Reason.INTEGRITY_MISMATCH}),
    ],
    ids=lambda value: f"{value.pattern}-{value.status or value.ending}" if isinstance(value, Fault) else "",
)
def test_download_leaves_nothing_and_works_later_when_it_meets(
    git_case: GitCase, fault: Fault, reasons: set[Reason]
) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    git_case.server.fail(fault)
    report = git_case.download(repository)
    assert report.reason in reasons, report.message
    assert git_case.server.url_of(repository) in report.message
    assert os.listdir(git_case.volume) == []
    git_case.server.heal()
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE
    git_case.assert_tree(repository)


@pytest.mark.parametrize("ending", [Ending.RESET, Ending.TRUNCATED])
def test_download_gets_an_lfs_file_again_when_its_body_breaks_once(git_case: GitCase, ending: Ending) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    git_case.server.fail(Fault(OBJECT, times=1, ending=ending))
    report = git_case.download(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE, report.message
    git_case.assert_tree(repository)


@pytest.mark.parametrize("pattern", [PACK, OBJECT])
def test_download_ends_as_stalled_when_no_byte_moves_for_the_time_allowed(git_case: GitCase, pattern: str) -> None:
    repository = git_case.repository(lfs_files={"big.bin": bytes(300_000)})
    git_case.server.fail(Fault(pattern, times=9, ending=Ending.STALLED))
    started = time.monotonic()
    report = git_case.download(repository, stall_timeout=2)
    assert report.reason is Reason.STALLED
    assert time.monotonic() - started < 20
    assert os.listdir(git_case.volume) == []


def test_update_leaves_the_repository_alone_when_the_fetch_breaks(git_case: GitCase) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    git_case.download(repository)
    old = repository.head()
    repository.commit({"new": "new"}, lfs_files={"weights/a.bin": b"n" * 50_000})
    git_case.server.fail(Fault(OBJECT, times=99, flips_bytes=True))
    assert git_case.download(repository).reason is Reason.INTEGRITY_MISMATCH
    git_case.assert_tree(repository, old)
    assert git_case.git(repository, "status", "--porcelain") == ""
    git_case.server.heal()
    assert git_case.download(repository).files == 2
    git_case.assert_tree(repository)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a/b.git", "http://no-such-host.invalid/a/b.git"])
def test_download_says_unreachable_when_nobody_answers(git_case: GitCase, url: str) -> None:
    report = git_case.download(git_case.repository({}), options={"url": url})
    assert report.reason is Reason.ENDPOINT_UNREACHABLE
    assert url in report.message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key."""
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", "-", "-out", "-"]
    path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    return path


def test_download_says_tls_error_until_the_authority_is_given(git_case: GitCase, certificate: Path) -> None:
    with start_git_server(git_case.folder / "tls-server", certificate) as server:
        git_case.server = server
        repository = git_case.repository(lfs_files=LFS_FILES)
        report = git_case.download(repository)
        assert report.reason is Reason.TLS_ERROR
        assert "caBundle" in report.message
        assert git_case.download(repository, ca_bundle=certificate).reason is Reason.TRANSFER_COMPLETE
        git_case.assert_tree(repository)


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_transfer_goes_through_the_proxy_when_the_environment_names_one_without_scheme(
    git_case: GitCase, direction: str
) -> None:
    repository = git_case.repository({} if direction == "upload" else {"a": "a"})
    if direction == "upload":
        git_case.new_local(repository)
    with start_fault_proxy(None) as proxy:
        env = {"HTTP_PROXY": proxy.url.removeprefix("http://")}
        run = git_case.upload if direction == "upload" else git_case.download
        assert run(repository, env=env).reason is Reason.TRANSFER_COMPLETE
        assert proxy.count("info/refs") == len([r for r in git_case.server.requests if "info/refs" in r.path])


def test_download_says_disk_full_when_it_is(git_case: GitCase) -> None:
    repository = git_case.repository({"random": os.urandom(3_000_000)})
    with mounted(git_case.volume, size="1m"):
        report = git_case.download(repository)
        assert report.reason is Reason.DISK_FULL, report.message
        assert "larger claim" in report.message
        assert os.listdir(git_case.volume) == []


def test_download_says_disk_full_when_lfs_files_do_not_fit(git_case: GitCase) -> None:
    repository = git_case.repository({}, lfs_files={"a.bin": os.urandom(3_000_000)})
    with mounted(git_case.volume, size="2m"):
        report = git_case.download(repository)
        assert report.reason is Reason.DISK_FULL, report.message
        assert os.listdir(git_case.volume) == []


def test_update_keeps_the_old_tree_when_the_disk_is_full(git_case: GitCase) -> None:
    repository = git_case.repository()
    with mounted(git_case.volume, size="1m"):
        git_case.download(repository)
        old = repository.head()
        repository.commit({"random": os.urandom(3_000_000)})
        assert git_case.download(repository).reason is Reason.DISK_FULL
        git_case.assert_tree(repository, old)


def test_download_says_not_writable_when_the_volume_is_read_only(git_case: GitCase) -> None:
    repository = git_case.repository()
    with mounted(git_case.volume, size="1m"):
        seal(git_case.volume)
        report = git_case.download(repository)
    assert report.reason is Reason.VOLUME_NOT_WRITABLE
    assert "securityContext" in report.message


def test_upload_works_when_the_volume_is_read_only(git_case: GitCase) -> None:
    repository = git_case.repository({})
    with mounted(git_case.volume, size="1m"):
        head = git_case.new_local(repository, {".gitattributes": "*.bin filter=lfs -text\n", "a.bin": b"a" * 1000})
        seal(git_case.volume)
        report = git_case.upload(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE, report.message
    assert repository.head("main") == head
    assert len(repository.lfs.oids) == 1
