"""Git upload against the real server: the current branch as it is, and a clear error for all else."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.canary import find_canary
from tests.servers.gitrepository import Access
from tests.transfers.gitcase import LFS_FILES, everything_in, folder_name

if TYPE_CHECKING:
    from tests.transfers.gitcase import GitCase

pytestmark = pytest.mark.t1


def test_upload_pushes_the_current_branch_when_the_remote_is_empty(git_case: GitCase) -> None:
    repository = git_case.repository({})
    head = git_case.new_local(repository, {"a.txt": "a\n", "d/数据 1.txt": "b\n"})
    before = everything_in(git_case.volume)
    report = git_case.upload(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert repository.head("main") == report.revision == head
    assert (report.listed, report.files, report.skipped, report.bytes) == (2, 2, 0, 4)
    assert report.verified == "git"
    assert everything_in(git_case.volume) == before
    assert find_canary(git_case.volume) == []


def test_upload_fast_forwards_and_then_says_up_to_date_when_the_remote_is_behind(git_case: GitCase) -> None:
    repository = git_case.repository()
    git_case.download(repository)
    head = git_case.commit(repository, {"new.txt": "new\n", "README.md": "changed\n"})
    report = git_case.upload(repository)
    assert (report.listed, report.files, report.skipped) == (5, 2, 3)
    assert repository.head() == head
    assert git_case.upload(repository).reason is Reason.UP_TO_DATE


def test_upload_pushes_to_the_url_when_origin_says_another(git_case: GitCase) -> None:
    repository = git_case.repository({})
    head = git_case.new_local(repository)
    git_case.git(repository, "remote", "add", "origin", "http://127.0.0.1:9/elsewhere.git")
    assert git_case.upload(repository).revision == repository.head("main") == head


def test_upload_keeps_uncommitted_work_at_home_when_there_is_some(git_case: GitCase) -> None:
    repository = git_case.repository({})
    git_case.new_local(repository)
    (git_case.place(repository) / "draft.txt").write_text("draft")
    git_case.upload(repository)
    assert list(repository.files("main")) == ["a.txt"]


@pytest.mark.parametrize("sub_path", ["", "teams/a b/数据"])
def test_upload_sends_lfs_objects_when_there_are_some(git_case: GitCase, sub_path: str) -> None:
    repository = git_case.repository({})
    git_case.new_local(repository, {".gitattributes": "*.bin filter=lfs -text\n", **LFS_FILES})
    if sub_path:
        (git_case.volume / sub_path).mkdir(parents=True)
        shutil.move(git_case.place(repository), git_case.volume / sub_path)
    before = everything_in(git_case.volume)
    report = git_case.upload(repository, sub_path=sub_path)
    assert report.reason is Reason.TRANSFER_COMPLETE, report.message
    assert len(repository.lfs.oids) == len(LFS_FILES)
    assert report.bytes > sum(map(len, LFS_FILES.values()))
    assert everything_in(git_case.volume) == before
    assert report.path == f"{sub_path}/{folder_name(repository)}".lstrip("/")


def test_upload_fails_when_an_lfs_object_is_nowhere(git_case: GitCase) -> None:
    repository = git_case.repository({})
    git_case.new_local(repository, {".gitattributes": "*.bin filter=lfs -text\n", **LFS_FILES})
    shutil.rmtree(git_case.place(repository) / ".git/lfs/objects")
    report = git_case.upload(repository)
    assert report.reason not in (Reason.TRANSFER_COMPLETE, Reason.UP_TO_DATE)
    assert not repository.has("refs/heads/main")


def test_upload_of_a_new_branch_needs_no_old_lfs_objects_when_the_server_has_them(git_case: GitCase) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    repository.commit({}, lfs_files={"weights/a.bin": b"second"})
    git_case.download(repository)
    git_case.git(repository, "checkout", "--quiet", "-b", "feature")
    head = git_case.commit(repository, {"weights/c.bin": b"c" * 5000})
    report = git_case.upload(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE, report.message
    assert repository.head("feature") == head
    assert len(repository.lfs.oids) == 4


def test_upload_works_when_the_clone_is_shallow(git_case: GitCase) -> None:
    repository = git_case.repository(lfs_files=LFS_FILES)
    for number in range(3):
        repository.commit({"count": str(number)})
    git_case.download(repository, extra_args=["--depth=1"])
    head = git_case.commit(repository, {"mine.txt": "mine"})
    report = git_case.upload(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE, report.message
    assert repository.head() == head
    assert report.files == 1


def test_upload_sends_tags_when_extra_args_say_so(git_case: GitCase) -> None:
    repository = git_case.repository({})
    git_case.new_local(repository)
    git_case.git(repository, "tag", "v1")
    git_case.upload(repository, extra_args=["--tags"])
    assert repository.has("refs/tags/v1")


def test_upload_refuses_when_the_remote_has_other_commits(git_case: GitCase) -> None:
    repository = git_case.repository()
    git_case.download(repository)
    git_case.commit(repository, {"mine.txt": "mine"})
    theirs = repository.commit({"theirs.txt": "theirs"})
    report = git_case.upload(repository)
    assert report.reason is Reason.NON_FAST_FORWARD
    assert "merge" in report.message
    assert repository.head() == theirs


def test_upload_passes_on_the_remotes_words_when_a_hook_declines(git_case: GitCase) -> None:
    repository = git_case.repository({})
    git_case.new_local(repository)
    repository.refuse_pushes("main is protected: open a merge request")
    report = git_case.upload(repository)
    assert report.reason is Reason.ACCESS_DENIED
    assert "main is protected: open a merge request" in report.message


@pytest.mark.parametrize("force", ["--force", "--mirror", "--receive-pack=x", "--delete"])
def test_upload_refuses_extra_args_when_they_overwrite_or_execute(git_case: GitCase, force: str) -> None:
    repository = git_case.repository({})
    git_case.new_local(repository)
    assert git_case.upload(repository, extra_args=[force]).reason is Reason.INVALID_SPEC
    assert not repository.has("refs/heads/main")


@pytest.mark.parametrize(
    ("token", "access", "words"),
    [
        ("dcSECRETcanary-wrong", Access.PUBLIC, "check option token"),
        ("", Access.PUBLIC, "give option token"),
        (None, Access.FORBIDDEN, "check option token"),
    ],
)
def test_upload_says_what_is_wrong_with_the_token_when_it_is_refused(
    git_case: GitCase, token: str | None, access: Access, words: str
) -> None:
    repository = git_case.repository({}, access=access)
    git_case.new_local(repository)
    report = git_case.upload(repository, options={} if token is None else {"token": token})
    assert report.reason is Reason.ACCESS_DENIED
    assert words in report.message


def test_upload_says_not_found_when_the_remote_is_missing(git_case: GitCase) -> None:
    repository = git_case.repository({})
    repository.name = "team/no-such"
    git_case.new_local(repository)
    assert git_case.upload(repository).reason is Reason.NOT_FOUND


def test_upload_names_the_parent_when_sub_path_is_the_repository(git_case: GitCase) -> None:
    repository = git_case.repository({})
    git_case.new_local(repository)
    report = git_case.upload(repository, sub_path=folder_name(repository))
    assert report.reason is Reason.INVALID_SPEC
    assert "is the repository itself: name its parent" in report.message


def test_upload_says_so_when_sub_path_is_a_file(git_case: GitCase) -> None:
    (git_case.volume / "file").write_text("x")
    report = git_case.upload(git_case.repository({}), sub_path="file")
    assert report.reason is Reason.INVALID_SPEC
    assert "'file' is a file" in report.message


def test_upload_lists_what_is_there_when_the_repository_is_missing(git_case: GitCase) -> None:
    repository = git_case.repository({})
    (git_case.volume / "other").mkdir()
    report = git_case.upload(repository)
    assert report.reason is Reason.NOT_FOUND
    assert f"no repository '{folder_name(repository)}'" in report.message
    assert "(there: other)" in report.message
    assert git_case.upload(repository, sub_path="nowhere").reason is Reason.NOT_FOUND


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("plain folder", Reason.INVALID_SPEC, "not a Git repository"),
        ("no commit", Reason.SOURCE_EMPTY, "no commit"),
        ("detached", Reason.INVALID_SPEC, "detached"),
        ("damaged", Reason.INTEGRITY_MISMATCH, "damaged"),
    ],
)
def test_upload_says_what_is_wrong_with_the_repository_when_it_is(
    git_case: GitCase, state: str, reason: Reason, words: str
) -> None:
    repository = git_case.repository({})
    git_case.new_local(repository)
    place = git_case.place(repository)
    match state:
        case "plain folder":
            shutil.rmtree(place / ".git")
        case "no commit":
            git_case.git(repository, "update-ref", "-d", "HEAD")
        case "detached":
            git_case.git(repository, "checkout", "--quiet", "--detach")
        case "damaged":
            shutil.rmtree(place / ".git" / "objects")
            os.mkdir(place / ".git" / "objects")
    report = git_case.upload(repository)
    assert report.reason is reason
    assert words in report.message


def test_upload_finds_the_branch_when_refs_are_packed(git_case: GitCase) -> None:
    repository = git_case.repository({})
    head = git_case.new_local(repository)
    git_case.git(repository, "checkout", "--quiet", "-b", "feature/x")
    git_case.git(repository, "pack-refs", "--all")
    assert git_case.upload(repository).revision == head
    assert repository.head("feature/x") == head


def test_upload_sends_nothing_when_it_is_a_dry_run(git_case: GitCase) -> None:
    repository = git_case.repository()
    git_case.download(repository)
    git_case.commit(repository, {"new.txt": "new\n", "README.md": "changed\n"})
    report = git_case.upload(repository, dry_run=True)
    assert report.plan is not None
    assert (report.plan.add, report.plan.update, report.plan.delete, report.plan.bytes) == (1, 1, 0, 12)
    assert "new.txt" not in repository.files()
