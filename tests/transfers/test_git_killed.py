"""kill -9 at random moments, then the same transfer again: the right tree, and nothing left over."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from tests.support import Child, start_child, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.gitrepository import Repository
    from tests.transfers.gitcase import GitCase

pytestmark = [pytest.mark.t1, pytest.mark.timeout(300)]

KILLS = 3
"""In a row, before the attempt that must succeed."""

DONE = (Reason.TRANSFER_COMPLETE, Reason.UP_TO_DATE)


class Killer:
    """Runs attempts as children and kills their process groups, at moments within the time that one takes."""

    def __init__(self, kind: str, case: GitCase, repository: Repository) -> None:
        self._kind, self._case, self._repository = kind, case, repository
        self._random = random.Random(20)  # noqa: S311 - the same moments in every run
        self._start = self._end = 0.0

    def measure(self) -> None:
        """Runs one attempt to its end; Python's own start counts for nothing."""
        began = time.monotonic()
        child = self._child()
        code, report, _ = child.finish()
        assert code == 0, report
        self._end = time.monotonic() - began
        self._start = self._end * 0.3

    def kill_one(self) -> None:
        """Starts an attempt and kills it and its tools some time later."""
        child = self._child()
        time.sleep(self._random.uniform(self._start, self._end))
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.communicate()

    def _child(self) -> Child:
        folder = self._case.scratch()
        folder.mkdir()
        options = self._case.options(self._repository)
        return start_child(self._kind, self._case.volume, options, report=folder / "report")


def repeat(rounds: int, killer: Killer, prepare: Callable[[int], None], check: Callable[[], None]) -> None:
    prepare(0)
    killer.measure()
    check()
    for number in range(1, rounds + 1):
        prepare(number)
        for _ in range(KILLS):
            killer.kill_one()
        check()


def changes(number: int) -> dict[str, str | bytes | None]:
    """A commit that turns files into folders and back, adds, changes and deletes."""
    odd = bool(number % 2)
    many: dict[str, str | bytes | None] = {f"many/{n}.txt": f"{number} {n}\n" * 50 for n in range(30)}
    return {
        "swap": None if odd else "file",
        "swap/inside": "folder" if odd else None,
        "gone": "here" if odd else None,
        "README.md": f"{number}\n",
        **many,
    }


def test_clone_is_whole_after_a_second_attempt_when_the_first_was_killed(git_case: GitCase) -> None:
    repository = git_case.repository(dict(changes(0)), lfs_files={"a.bin": os.urandom(200_000)})
    place = git_case.place(repository)

    def check() -> None:
        assert not place.exists() or tree(place) == repository.tree()  # whole or not there, also before the second
        assert git_case.download(repository).reason in DONE
        git_case.assert_tree(repository)

    repeat(8, Killer("git-download", git_case, repository), lambda _: shutil.rmtree(place, ignore_errors=True), check)


def test_update_is_whole_after_a_second_attempt_when_the_first_was_killed(git_case: GitCase) -> None:
    repository = git_case.repository(dict(changes(0)))
    git_case.download(repository)
    place = git_case.place(repository)
    (place / "notes.txt").write_text("mine")
    chance = random.Random(3)  # noqa: S311 - the remote moves on meanwhile, in the same rounds of every run

    def prepare(number: int) -> None:
        repository.commit(changes(number + 1), lfs_files={"a.bin": os.urandom(100_000)})

    def check() -> None:
        if chance.random() < 0.3:
            repository.commit({"moved on": str(time.monotonic_ns())})
        report = git_case.download(repository)
        assert report.reason in DONE, report.message
        assert {n: d for n, d in tree(place).items() if n != "notes.txt"} == repository.tree()
        assert (place / "notes.txt").read_text() == "mine"
        assert git_case.git(repository, "status", "--porcelain", "--branch").splitlines() == [
            "## main...origin/main",
            "?? notes.txt",
        ]
        assert sorted(os.listdir(git_case.volume)) == [place.name]
        assert not (place / ".git" / "datacube-update").exists()

    repeat(9, Killer("git-download", git_case, repository), prepare, check)


def test_upload_is_whole_after_a_second_attempt_when_the_first_was_killed(git_case: GitCase) -> None:
    repository = git_case.repository({"a.txt": "a"})
    git_case.download(repository)
    old = repository.head()
    attributes = {".gitattributes": "*.bin filter=lfs -text\n", "a.bin": os.urandom(100_000)}
    new = git_case.commit(repository, {**attributes, **{f"many/{n}.txt": "x" * 500 for n in range(30)}})
    before = tree(git_case.volume, without=())

    def prepare(_number: int) -> None:
        repository.point(["refs/heads/main"], old)
        for oid in repository.lfs.oids:
            repository.lfs.drop(oid)

    def check() -> None:
        report = git_case.upload(repository)
        assert report.reason in DONE, report.message
        assert repository.head() == new
        assert len(repository.lfs.oids) == 1
        assert tree(git_case.volume, without=()) == before
        repository.git("fsck", "--full")

    repeat(17, Killer("git-upload", git_case, repository), prepare, check)
