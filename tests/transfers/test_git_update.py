"""Git download into a repository that is there: fast-forward, or a clear refusal that changes nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.git_worktree import WorkTree
from tests.transfers.gitcase import LFS_FILES, everything_in

if TYPE_CHECKING:
    from tests.servers.gitrepository import Repository
    from tests.transfers.gitcase import GitCase

pytestmark = pytest.mark.t1


@pytest.fixture
def repository(git_case: GitCase) -> Repository:
    """A repository with LFS that has been downloaded once."""
    repository = git_case.repository(lfs_files=LFS_FILES)
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE
    return repository


def test_update_fast_forwards_when_the_remote_moved_on(git_case: GitCase, repository: Repository) -> None:
    changes = {"README.md": "new\n", "data/one.csv": None, "deep/er/new.txt": "n\n"}
    repository.commit(
        changes, lfs_files={"weights/a.bin": b"A" * 90_000, "weights/c.bin": b"c"}, links={"link": "no/where"}
    )
    report = git_case.download(repository)
    git_case.assert_tree(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE
    assert (report.listed, report.files, report.skipped) == (9, 5, 4)
    assert report.bytes > 90_000
    assert os.readlink(git_case.place(repository) / "link") == "no/where"
    assert git_case.git(repository, "status", "--porcelain", "--branch") == "## main...origin/main"
    assert git_case.git(repository, "fsck", "--full") == ""


def test_update_swaps_file_and_folder_when_the_commit_does(git_case: GitCase, repository: Repository) -> None:
    repository.commit(
        {"README.md": None, "README.md/inside.txt": "x", "data/one.csv": None, "data/two words.csv": None}
    )
    repository.commit({"data": "a file now"})
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE
    git_case.assert_tree(repository)
    assert git_case.git(repository, "status", "--porcelain") == ""


@pytest.mark.parametrize("moved_on", [False, True])
@pytest.mark.parametrize("becomes", ["folder", "file"])
def test_update_goes_on_when_an_attempt_was_killed_between_two_commits(
    git_case: GitCase, repository: Repository, monkeypatch: pytest.MonkeyPatch, becomes: str, moved_on: bool
) -> None:
    shapes: tuple[dict[str, str | bytes | None], ...] = (
        {"swap": "file", "swap/x": None},
        {"swap": None, "swap/x": "in"},
    )
    before, after = shapes if becomes == "folder" else reversed(shapes)
    repository.commit({**before, "gone": "gone"})
    git_case.download(repository)
    repository.commit({**after, "gone": None, "new/file": "new"}, lfs_files={"weights/a.bin": b"new"})
    with monkeypatch.context() as patch:
        patch.setattr(WorkTree, "new_index", _die)
        assert git_case.download(repository).reason is Reason.VOLUME_LOST
    assert git_case.git(repository, "status", "--porcelain") != ""
    if moved_on:
        repository.commit({**before, "other": "other"})
    report = git_case.download(repository)
    assert report.reason is Reason.TRANSFER_COMPLETE, report.message
    git_case.assert_tree(repository)
    assert git_case.git(repository, "status", "--porcelain") == ""


def _die(_self: WorkTree, _commit: str) -> None:
    raise TransferError(Reason.VOLUME_LOST, "the attempt ends here")


@pytest.mark.parametrize("obstacle", ["link", "file", "full folder"])
def test_update_changes_nothing_when_something_untracked_is_where_a_folder_or_file_has_to_be(
    git_case: GitCase, repository: Repository, obstacle: str
) -> None:
    place = git_case.place(repository)
    if obstacle == "link":
        (place / "new").symlink_to(git_case.folder)
    elif obstacle == "file":
        (place / "new").write_text("mine")
    else:
        (place / "new").mkdir()
        (place / "new" / "mine.txt").write_text("mine")
    added: dict[str, str | bytes | None] = {"new": "file"} if obstacle == "full folder" else {"new/x": "x"}
    repository.commit({"README.md": "changed", **added})
    before = everything_in(place)
    report = git_case.download(repository)
    assert report.reason is Reason.DIRTY_REPOSITORY
    assert "new" in report.message
    assert everything_in(place) == before


def test_update_says_up_to_date_when_nothing_changed(git_case: GitCase, repository: Repository) -> None:
    before = everything_in(git_case.place(repository))
    report = git_case.download(repository)
    assert report.reason is Reason.UP_TO_DATE
    assert (report.listed, report.files, report.skipped, report.bytes) == (7, 0, 7, 0)
    assert everything_in(git_case.place(repository)) == before


def test_update_moves_only_what_is_missing_when_lfs_objects_are_there(
    git_case: GitCase, repository: Repository
) -> None:
    repository.commit({}, lfs_files={"weights/c.bin": b"c" * 1000})
    git_case.server.requests.clear()
    git_case.download(repository)
    assert [r.path for r in git_case.server.requests if "/lfs/" in r.path and r.method == "GET"].__len__() == 1


def test_update_attaches_a_new_branch_that_follows_the_remote_when_ref_names_one(
    git_case: GitCase, repository: Repository
) -> None:
    repository.commit({"on": "feature"}, branch="feature/x", start="main")
    report = git_case.download(repository, options={"ref": "feature/x"})
    git_case.assert_tree(repository, "feature/x")
    assert report.files == 1
    assert git_case.git(repository, "status", "--porcelain", "--branch") == "## feature/x...origin/feature/x"
    git_case.download(repository, options={"ref": "main"})
    git_case.assert_tree(repository, "main")


def test_update_leaves_a_detached_head_when_ref_is_a_tag_that_moved(git_case: GitCase, repository: Repository) -> None:
    repository.point(["refs/tags/v1"])
    git_case.download(repository, options={"ref": "v1"})
    newer = repository.commit({"newer": "newer"})
    repository.point(["refs/tags/v1"])
    assert git_case.download(repository, options={"ref": "v1"}).revision == newer
    assert git_case.git(repository, "rev-parse", "HEAD", "v1").split() == [newer, newer]
    git_case.assert_tree(repository)


@pytest.mark.parametrize("change", ["modified", "staged", "deleted", "lfs", "hidden"])
def test_update_keeps_local_changes_when_they_are(git_case: GitCase, repository: Repository, change: str) -> None:
    place = git_case.place(repository)
    name = "weights/a.bin" if change == "lfs" else "README.md"
    (place / name).unlink()
    if change != "deleted":
        (place / name).write_text("mine\n")
    if change == "staged":
        git_case.git(repository, "add", "README.md")
    if change == "hidden":
        git_case.git(repository, "update-index", "--skip-worktree", "README.md")
    repository.commit({"README.md": "theirs\n", "other": "other"}, lfs_files={"weights/a.bin": b"theirs"})
    before = everything_in(place)
    report = git_case.download(repository)
    assert report.reason is Reason.DIRTY_REPOSITORY
    assert name in report.message
    assert everything_in(place) == before


def test_update_keeps_an_untracked_file_when_the_remote_adds_one_there(
    git_case: GitCase, repository: Repository
) -> None:
    place = git_case.place(repository)
    (place / "mine.txt").write_text("mine")
    (place / "notes.txt").write_text("notes")
    repository.commit({"mine.txt": "theirs"})
    before = everything_in(place)
    report = git_case.download(repository)
    assert report.reason is Reason.DIRTY_REPOSITORY
    assert "mine.txt" in report.message
    assert everything_in(place) == before
    (place / "mine.txt").unlink()
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE
    assert (place / "notes.txt").read_text() == "notes"


@pytest.mark.parametrize("case", ["diverged", "ahead", "rewritten"])
def test_update_refuses_when_the_local_branch_is(git_case: GitCase, repository: Repository, case: str) -> None:
    first = repository.head()
    if case == "rewritten":
        repository.commit({"second": "second"})
        git_case.download(repository)
        repository.point(["refs/heads/main"], first)
    else:
        git_case.commit(repository, {"mine.txt": "mine"})
    if case != "ahead":
        repository.commit({"theirs.txt": "theirs"})
    head = git_case.git(repository, "rev-parse", "HEAD")
    report = git_case.download(repository)
    assert report.reason is Reason.NON_FAST_FORWARD
    assert "branch 'main'" in report.message
    assert git_case.git(repository, "rev-parse", "HEAD") == head
    assert git_case.git(repository, "status", "--porcelain") == ""


def test_update_refuses_when_a_detached_head_holds_commits_that_nothing_else_has(
    git_case: GitCase, repository: Repository
) -> None:
    git_case.git(repository, "checkout", "--quiet", "--detach")
    mine = git_case.commit(repository, {"mine.txt": "mine"})
    report = git_case.download(repository)
    assert report.reason is Reason.NON_FAST_FORWARD
    assert mine in report.message
    git_case.git(repository, "branch", "kept")
    assert git_case.download(repository).reason is Reason.TRANSFER_COMPLETE


def test_update_says_what_to_do_when_another_git_holds_the_index(git_case: GitCase, repository: Repository) -> None:
    lock = git_case.place(repository) / ".git" / "index.lock"
    lock.touch()
    report = git_case.download(repository)
    assert report.reason is Reason.DIRTY_REPOSITORY
    assert "index.lock" in report.message
    lock.unlink()
    assert git_case.download(repository).reason is Reason.UP_TO_DATE


def test_update_refuses_when_head_is_a_branch_without_commit(git_case: GitCase, repository: Repository) -> None:
    git_case.git(repository, "checkout", "--quiet", "--orphan", "new")
    report = git_case.download(repository)
    assert report.reason is Reason.DIRTY_REPOSITORY
    assert "HEAD has no commit" in report.message


def test_update_says_so_when_the_repository_is_damaged(git_case: GitCase, repository: Repository) -> None:
    for pack in (git_case.place(repository) / ".git/objects/pack").glob("*.pack"):
        pack.unlink()
    report = git_case.download(repository)
    assert report.reason is Reason.INTEGRITY_MISMATCH
    assert "git fsck" in report.message


def test_update_does_not_use_an_lfs_object_when_its_content_is_wrong(git_case: GitCase, repository: Repository) -> None:
    repository.commit({"weights/a.bin": None})
    git_case.download(repository)
    repository.commit({}, lfs_files={"weights/copy.bin": LFS_FILES["weights/a.bin"]})
    oid = repository.tree()["weights/copy.bin"]
    planted = git_case.place(repository) / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid
    planted.chmod(0o644)
    planted.write_bytes(b"x" * len(LFS_FILES["weights/a.bin"]))
    report = git_case.download(repository)
    assert report.reason is Reason.INTEGRITY_MISMATCH
    assert "weights/copy.bin" in report.message
    assert not (git_case.place(repository) / "weights/copy.bin").exists()


def test_update_completes_a_partial_clone_when_extra_args_made_one(git_case: GitCase) -> None:
    repository = git_case.repository()
    for number in range(2):
        repository.commit({"README.md": str(number), f"new-{number}": "n"})
        report = git_case.download(repository, extra_args=["--filter=blob:none"])
        assert report.reason is Reason.TRANSFER_COMPLETE, report.message
        git_case.assert_tree(repository)
        assert git_case.git(repository, "status", "--porcelain") == ""
