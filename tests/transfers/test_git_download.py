"""Git download against the real server: refs, LFS, and what stands at the repository's place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.canary import find_canary
from tests.servers.gitrepository import Access
from tests.support import tree
from tests.transfers.gitcase import FILES, LFS_FILES

if TYPE_CHECKING:
    from tests.transfers.gitcase import GitCase

pytestmark = pytest.mark.t1


def test_download_brings_the_tree_when_the_place_is_empty(git_case: GitCase) -> None:
    repository = git_case.repository(default_branch="master")
    report = git_case.download(repository)
    git_case.assert_tree(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert (report.listed, report.files, report.skipped) == (len(FILES), len(FILES), 0)
    assert report.bytes == sum(len(c.encode()) for c in FILES.values())
    assert (report.verified, report.revision) == ("git", repository.head())
    assert report.notices == ()


def test_download_names_its_path_from_the_claims_root_when_there_is_a_sub_path(git_case: GitCase) -> None:
    repository = git_case.repository()
    report = git_case.download(repository, sub_path="with blanks/数据")
    place = git_case.volume / "with blanks/数据" / repository.name.split("/")[1]
    assert tree(place) == repository.tree()
    assert report.path == f"with blanks/数据/{place.name}"


@pytest.mark.parametrize("ending", ["", ".git", "/", ".git/"])
def test_download_takes_the_folders_name_from_the_url_when_it_ends_in(git_case: GitCase, ending: str) -> None:
    repository = git_case.repository()
    url = git_case.server.url_of(repository).removesuffix(".git") + ending
    git_case.download(repository, options={"url": url})
    git_case.assert_tree(repository)


def test_download_fetches_lfs_files_when_there_are_some(git_case: GitCase) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    report = git_case.download(repository)
    git_case.assert_tree(repository)
    assert report.bytes > sum(map(len, LFS_FILES.values()))
    assert not (git_case.place(repository) / ".git" / "hooks").exists()


def test_download_leaves_a_clone_that_its_owner_can_work_in_when_it_is_done(git_case: GitCase) -> None:
    repository = git_case.repository()
    git_case.download(repository)
    assert git_case.git(repository, "status", "--porcelain", "--branch") == "## main...origin/main"
    assert git_case.git(repository, "remote", "get-url", "origin") == git_case.server.url_of(repository)
    assert git_case.git(repository, "fsck", "--full") == ""


def test_download_keeps_the_token_off_the_volume_when_it_stands_in_the_url(git_case: GitCase) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    url = git_case.server.url_of(repository, user="ada", password=git_case.server.token)
    assert git_case.download(repository, options={"url": url, "token": ""}).reason is Reason.TRANSFER_COMPLETE
    repository.commit({"more": "more"})
    assert git_case.download(repository, options={"url": url, "token": ""}).files == 1
    assert find_canary(git_case.volume) == []


@pytest.mark.parametrize("spelling", ["{token}@", "ada:{token}@"])
def test_download_accepts_a_token_with_special_characters_when_the_kubelet_put_it_in_raw(
    git_case: GitCase, spelling: str
) -> None:
    repository = git_case.repository()
    token = git_case.server.token
    assert "/" in token
    assert "+" in token
    url = git_case.server.url_of(repository).replace("://", f"://{spelling.format(token=token)}", 1)
    assert git_case.download(repository, options={"url": url}).reason is Reason.TRANSFER_COMPLETE


def test_download_works_without_credentials_when_the_repository_is_public(git_case: GitCase) -> None:
    repository = git_case.repository(access=Access.PUBLIC, lfs_files=LFS_FILES)
    assert git_case.download(repository, options={"token": ""}).reason is Reason.TRANSFER_COMPLETE
    assert not any(r.had_auth for r in git_case.server.requests)
    git_case.assert_tree(repository)


@pytest.mark.parametrize("ref", ["branch", "tag", "annotated", "commit", "abbreviated"])
def test_download_switches_to_the_ref_when_it_is_a(git_case: GitCase, ref: str) -> None:
    repository = git_case.repository(default_branch="master", lfs_files=LFS_FILES)
    old = repository.head()
    repository.point(["refs/heads/feature/branch", "refs/tags/tag"])
    repository.git("-c", "user.name=a", "-c", "user.email=b", "tag", "--annotate", "--message=m", "annotated", old)
    repository.commit({"later": "later"})
    name = {"branch": "feature/branch", "commit": old, "abbreviated": old[:8]}.get(ref, ref)
    report = git_case.download(repository, options={"ref": name})
    git_case.assert_tree(repository, old)
    assert report.revision == old
    attached = git_case.git(repository, "rev-parse", "--abbrev-ref", "HEAD")
    assert attached == ("feature/branch" if ref == "branch" else "HEAD")


def test_download_takes_the_branch_when_a_tag_has_the_same_name(git_case: GitCase) -> None:
    repository = git_case.repository()
    repository.point(["refs/tags/main"])
    repository.commit({"later": "later"})
    assert git_case.download(repository, options={"ref": "main"}).revision == repository.head()
    assert git_case.download(repository, options={"ref": "refs/tags/main"}).revision != repository.head()


def test_download_takes_master_when_ref_is_absent_and_another_branch_is_the_default(git_case: GitCase) -> None:
    repository = git_case.repository(default_branch="main", branches=["master"])
    repository.commit({"later": "later"})
    assert git_case.download(repository).revision == repository.head("master")


def test_download_takes_the_default_branch_and_says_so_when_there_is_no_master(git_case: GitCase) -> None:
    repository = git_case.repository(default_branch="trunk")
    report = git_case.download(repository)
    assert report.revision == repository.head()
    assert "no branch 'master': its default branch 'trunk'" in report.notices[0]


def test_download_does_not_fall_back_when_master_was_asked_for(git_case: GitCase) -> None:
    repository = git_case.repository(default_branch="trunk")
    report = git_case.download(repository, options={"ref": "master"})
    assert report.reason is Reason.REF_NOT_FOUND


@pytest.mark.parametrize("ref", ["mian", "v9", "0123456789abcdef0123456789abcdef01234567", "abcdef12", "a..b", "-x"])
def test_download_says_which_ref_is_missing_when_it_is_nowhere(git_case: GitCase, ref: str) -> None:
    repository = git_case.repository()
    report = git_case.download(repository, options={"ref": ref})
    assert report.reason is Reason.REF_NOT_FOUND
    assert f"'{ref}'" in report.message
    assert ("there are main" in report.message) == (ref == "mian")
    assert os.listdir(git_case.volume) == []


def test_download_says_that_the_source_is_empty_when_it_has_no_commit(git_case: GitCase) -> None:
    report = git_case.download(git_case.repository({}))
    assert report.reason is Reason.SOURCE_EMPTY
    assert "no commit yet" in report.message


@pytest.mark.parametrize(
    ("token", "access", "reason", "words"),
    [
        ("dcSECRETcanary-wrong", Access.PRIVATE, Reason.ACCESS_DENIED, "check option token"),
        ("", Access.PRIVATE, Reason.ACCESS_DENIED, "give option token"),
        (None, Access.FORBIDDEN, Reason.ACCESS_DENIED, "check option token"),
    ],
)
def test_download_says_what_is_wrong_with_the_token_when_it_is_refused(
    git_case: GitCase, token: str | None, access: Access, reason: Reason, words: str
) -> None:
    repository = git_case.repository(access=access)
    report = git_case.download(repository, options={} if token is None else {"token": token})
    assert report.reason is reason
    assert words in report.message
    assert "askpass" not in report.message


def test_download_says_not_found_when_the_repository_is_missing(git_case: GitCase) -> None:
    repository = git_case.repository()
    repository.name = "team/no-such"
    report = git_case.download(repository)
    assert report.reason is Reason.NOT_FOUND
    assert "team/no-such.git" in report.message


@pytest.mark.parametrize("obstacle", ["file", "link", "folder"])
def test_download_keeps_what_is_in_the_way_when_it_is_no_repository(git_case: GitCase, obstacle: str) -> None:
    repository = git_case.repository()
    place = git_case.place(repository)
    if obstacle == "file":
        place.write_text("mine")
    elif obstacle == "link":
        place.symlink_to(git_case.folder)
    else:
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    report = git_case.download(repository)
    assert report.reason is Reason.PATH_COLLISION
    assert place.is_symlink() or place.read_text() == "mine" if obstacle != "folder" else (place / "mine.txt").exists()


@pytest.mark.parametrize("leftover", ["empty folder", "killed clone", "stage"])
def test_download_heals_when_a_killed_attempt_left(git_case: GitCase, leftover: str) -> None:
    repository = git_case.repository()
    place = git_case.place(repository)
    if leftover == "stage":
        (git_case.volume / ".datacube" / "clone" / ".git").mkdir(parents=True)
    else:
        place.mkdir()
    if leftover == "killed clone":
        git_case.git(repository, "init", "--quiet", "--initial-branch=main")
        (place / ".git" / "index.lock").touch()
        (place / ".git" / "objects" / "pack" / "tmp_pack_x1y2z3").write_bytes(b"half")
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE
    git_case.assert_tree(repository)


def test_download_leaves_pointers_alone_when_no_attribute_makes_them_lfs_files(git_case: GitCase) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5\n"
    repository = git_case.repository({"doc/pointer-example": pointer, ".gitattributes": "*.bin filter=lfs\n"})
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE
    assert (git_case.place(repository) / "doc/pointer-example").read_text() == pointer


def test_download_fails_when_the_lfs_server_lacks_an_object(git_case: GitCase) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    repository.lfs.drop(next(iter(repository.lfs.oids)))
    report = git_case.download(repository)
    assert report.reason is Reason.NOT_FOUND
    assert "Object does not exist" in report.message
    assert os.listdir(git_case.volume) == []


def test_download_says_which_submodules_it_leaves_out_when_there_are_some(git_case: GitCase) -> None:
    repository = git_case.repository()
    head = repository.head()
    repository.git("fast-import", "--quiet", stdin=_submodule(head))
    report = git_case.download(repository)
    assert (report.listed, report.files, report.skipped) == (len(FILES) + 1, len(FILES), 1)
    assert any("1 submodules were left out" in n for n in report.notices)


def _submodule(commit: str) -> bytes:
    head = "commit refs/heads/main\ncommitter A <a@b> 1700000500 +0000\ndata 1\nx\n"
    return f"{head}from {commit}\nM 160000 {commit} sub\n\n".encode()


@pytest.mark.parametrize("ref", ["main", "tag", "commit"])
def test_download_hands_depth_to_git_when_extra_args_say_so(git_case: GitCase, ref: str) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    repository.point(["refs/tags/tag"])
    wanted = repository.head()
    for number in range(3):
        repository.commit({"later": str(number)})
    name = wanted if ref == "commit" else ref
    for _ in range(2):
        report = git_case.download(repository, options={"ref": name}, extra_args=["--depth", "1", "--single-branch"])
        assert report.reason in (Reason.TRANSFER_COMPLETE, Reason.UP_TO_DATE)
        assert tree(git_case.place(repository)) == repository.tree(repository.head() if ref == "main" else wanted)
        assert git_case.git(repository, "rev-list", "--count", "HEAD") == "1"
    assert report.notices == ("extraArgs: --single-branch is not an argument of `git fetch` and was left out",)


def test_download_refuses_extra_args_when_they_are_dangerous(git_case: GitCase) -> None:
    report = git_case.download(git_case.repository(), extra_args=["--upload-pack", "touch /tmp/canary"])
    assert report.reason is Reason.INVALID_SPEC


def test_download_moves_nothing_when_it_is_a_dry_run(git_case: GitCase) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    report = git_case.download(repository, dry_run=True)
    assert report.plan is not None
    assert report.plan.add == len(repository.tree())
    assert os.listdir(git_case.volume) == []
    git_case.download(repository)
    repository.commit({"README.md": "changed", "data/one.csv": None, "new": "new"})
    report = git_case.download(repository, dry_run=True)
    assert report.plan is not None
    assert (report.plan.add, report.plan.update, report.plan.delete) == (1, 1, 1)
    assert not (git_case.place(repository) / "new").exists()
