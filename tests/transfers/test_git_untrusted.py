"""A repository on a volume is hostile until shown otherwise: nothing in it runs, and nothing leads out of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.canary import CANARY
from tests.servers.gitfaults import Fault
from tests.servers.gitrepository import Access, git_environment
from tests.support import tree
from tests.transfers.gitcase import LFS_FILES, OWNERS_CONFIG, everything_in
from tests.transfers.gittraps import LEAKING, Canary, Traps, listen, make_traps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.gitrepository import Repository
    from tests.transfers.gitcase import GitCase

pytestmark = pytest.mark.t1


@pytest.fixture
def traps(tmp_path: Path) -> Traps:
    return make_traps(tmp_path / "traps")


@pytest.fixture
def canary() -> Iterator[Canary]:
    with listen() as server:
        yield server


@pytest.mark.parametrize("command", [["status"], ["fetch", "origin"], ["push", "origin", "main"], ["checkout", "main"]])
def test_traps_fire_when_git_runs_in_the_repository(
    git_case: GitCase, traps: Traps, canary: Canary, command: list[str]
) -> None:
    repository = git_case.repository({})
    git_case.new_local(repository)
    traps.set_in(git_case.place(repository), server=git_case.server.url, canary=canary.url)
    environment = git_environment(git_case.folder)
    subprocess.run(["git", *command], cwd=git_case.place(repository), env=environment, capture_output=True, check=False)
    assert traps.fired or canary.visits


def test_upload_fires_no_trap_when_the_repository_is_full_of_them(
    git_case: GitCase, traps: Traps, canary: Canary
) -> None:
    repository = git_case.repository({})
    lfsconfig = f'[lfs]\n\turl = {canary.url}\n\tpushurl = {canary.url}\n[remote "origin"]\n\tlfsurl = {canary.url}\n'
    files = {".gitattributes": "*.bin filter=lfs -text\n* diff=trap\n*.txt filter=trap\n", ".lfsconfig": lfsconfig}
    head = git_case.new_local(repository, {**files, "a.txt": "a\n", **LFS_FILES})
    traps.set_in(git_case.place(repository), server=git_case.server.url, canary=canary.url)
    before = everything_in(git_case.volume)
    report = git_case.upload(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE, report.message
    assert repository.head("main") == head
    assert len(repository.lfs.oids) == len(LFS_FILES)
    assert traps.fired == ""
    assert canary.visits == []
    assert everything_in(git_case.volume) == before


def test_update_fires_no_trap_when_the_repository_is_full_of_them(
    git_case: GitCase, traps: Traps, canary: Canary
) -> None:
    lfsconfig = f'[lfs]\n\turl = {canary.url}\n\tfetchexclude = *\n[remote "origin"]\n\tlfsurl = {canary.url}\n'
    repository = git_case.repository({"a.txt": "a\n", ".lfsconfig": lfsconfig}, lfs_files=LFS_FILES)
    git_case.download(repository)
    traps.set_in(git_case.place(repository), server=git_case.server.url, canary=canary.url)
    config = (git_case.place(repository) / ".git/config").read_text()
    attributes = "*.bin filter=lfs\n*.txt filter=trap diff=trap\n"
    repository.commit({"b.txt": "b\n", "a.txt": "A\n", ".gitattributes": attributes}, lfs_files={"weights/c.bin": b"c"})
    report = git_case.download(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE, report.message
    git_case.assert_tree(repository)
    repository.commit({"c.txt": "c\n"}, branch="feature", start="main")
    report = git_case.download(repository, options={"ref": "feature"})
    assert report.reason is Reason.TRANSFER_COMPLETE, report.message
    git_case.assert_tree(repository, "feature")
    assert traps.fired == ""
    assert canary.visits == []
    assert (git_case.place(repository) / ".git/config").read_text().startswith(config)


def test_transfers_show_no_line_of_a_file_that_the_configuration_includes(git_case: GitCase) -> None:
    repository = git_case.repository()
    git_case.download(repository)
    git_case.commit(repository, {"mine.txt": "mine"})
    with (git_case.place(repository) / ".git/config").open("a") as config:
        config.write(LEAKING)
    assert git_case.upload(repository).reason is Reason.TRANSFER_COMPLETE
    assert git_case.download(repository).reason is Reason.UP_TO_DATE


def test_download_fires_no_trap_when_the_remote_sets_them(git_case: GitCase, traps: Traps, canary: Canary) -> None:
    lfsconfig = f"[lfs]\n\turl = {canary.url}\n\tpushurl = {canary.url}\n\tfetchexclude = *\n"
    files = {".lfsconfig": lfsconfig, ".gitattributes": "*.txt filter=trap\n*.bin filter=lfs\n", "a.txt": "a"}
    modules = f'[submodule "x"]\n\tpath = x\n\turl = {canary.url}/x.git\n'
    repository = git_case.repository({**files, ".gitmodules": modules}, lfs_files=LFS_FILES)
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE
    git_case.assert_tree(repository)
    assert traps.fired == ""
    assert canary.visits == []


@pytest.mark.parametrize("name", [".git/hooks/post-checkout", "a/.GIT/config", "git~1/config", "..", "a/../b"])
def test_download_refuses_when_a_commit_holds_the_name(git_case: GitCase, name: str) -> None:
    repository = git_case.repository()
    blob = repository.git("hash-object", "-w", "--stdin", stdin=b"#!/bin/sh\n").decode().strip()
    top = _tree(repository, blob, name.split("/"))
    commit = repository.git("commit-tree", top, "-m", "evil").decode().strip()
    repository.point(["refs/heads/main"], commit)
    report = git_case.download(repository)
    assert report.reason in (Reason.INTEGRITY_MISMATCH, Reason.TRANSFER_ERROR), report
    assert os.listdir(git_case.volume) == []


def _tree(repository: Repository, blob: str, parts: list[str]) -> str:
    mode, entry = b"100755", blob
    for part in reversed(parts):
        raw = mode + b" " + part.encode() + b"\0" + bytes.fromhex(entry)
        arguments = ("hash-object", "-w", "-t", "tree", "--literally", "--stdin")
        mode, entry = b"40000", repository.git(*arguments, stdin=raw).decode().strip()
    return entry


def test_update_does_not_write_through_a_link_when_a_folder_was_replaced_by_one(
    git_case: GitCase, tmp_path: Path
) -> None:
    repository = git_case.repository()
    git_case.download(repository)
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(git_case.place(repository) / "data")
    (git_case.place(repository) / "data").symlink_to(outside)
    repository.commit({"data/one.csv": "changed", "data/new.csv": "new"})
    assert git_case.download(repository).reason in (Reason.DIRTY_REPOSITORY, Reason.PATH_COLLISION)
    assert os.listdir(outside) == []


@pytest.mark.parametrize(
    "trap", ["gitfile", "git link", "alternates", "objects link", "pack link", "HEAD link", "refs link", "lfs link"]
)
@pytest.mark.parametrize("direction", ["upload", "download"])
def test_transfer_refuses_when_the_repository_leads_out_by(
    git_case: GitCase, tmp_path: Path, trap: str, direction: str
) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    git_case.download(repository)
    git_case.commit(repository, {"mine.txt": "mine"})
    _lead_out(git_case.place(repository) / ".git", trap, tmp_path / "outside")
    before = everything_in(git_case.volume)
    report = git_case.upload(repository) if direction == "upload" else git_case.download(repository)
    assert report.reason is Reason.INVALID_SPEC
    assert "is not used" in report.message
    assert everything_in(git_case.volume) == before


def _lead_out(git_dir: Path, trap: str, outside: Path) -> None:
    match trap:
        case "gitfile":
            git_dir.rename(outside)
            git_dir.write_text(f"gitdir: {outside}\n")
        case "alternates":
            (git_dir / "objects/info").mkdir(exist_ok=True)
            (git_dir / "objects/info/alternates").write_text(f"{outside}\n")
        case "lfs link":
            secret = outside.with_name("secret")
            secret.write_text(f"{CANARY}-of-the-host")
            stored = next(p for p in (git_dir / "lfs/objects").rglob("*") if p.is_file())
            stored.unlink()
            stored.symlink_to(secret)
        case _:
            names = {"git link": ".", "objects link": "objects", "pack link": "objects/pack", "HEAD link": "HEAD"}
            path = git_dir / names.get(trap, "refs")
            path.rename(outside)
            path.symlink_to(outside)


@pytest.mark.parametrize("path", ["info/refs", "objects/batch"])
def test_download_gives_no_credential_when_redirected_to_another_host(
    git_case: GitCase, canary: Canary, path: str
) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES, access=Access.PUBLIC)
    git_case.server.fail(Fault(path, times=100, location=canary.url))
    report = git_case.download(repository)
    assert report.reason not in (Reason.TRANSFER_COMPLETE, Reason.UP_TO_DATE)
    assert "Authorization" not in "".join(canary.visits)
    assert CANARY not in "".join(canary.visits)


def test_repository_is_usable_by_its_owner_when_it_was_updated(git_case: GitCase) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    git_case.download(repository)
    repository.commit({"more": "more"})
    git_case.download(repository)
    git_case.commit(repository, {"mine.txt": "mine"})
    environment = git_environment(git_case.folder) | OWNERS_CONFIG
    place = git_case.place(repository)
    subprocess.run(["git", "clone", "--quiet", str(place), "copy"], cwd=git_case.folder, env=environment, check=True)
    assert tree(git_case.folder / "copy") == tree(place)
