"""A later download into a repository that is there: fetched through a clean repository, moved in by file operations.

git never runs inside the repository on the volume. What is moved in is content-addressed first and visible last:
objects, then files, then index, branch and HEAD. A journal names the step between two commits, so that an attempt after
a killed one knows half-updated files from a person's changes.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core.extra_args import arguments_for
from datacube_flows.errors import TransferError
from datacube_flows.transfers.git_borrow import borrow
from datacube_flows.transfers.git_clone import find_commit, resolve
from datacube_flows.transfers.git_lfs import fetch_lfs, pointers_of
from datacube_flows.transfers.git_refs import RefKind
from datacube_flows.transfers.git_tree import files_of, read_tree
from datacube_flows.transfers.git_worktree import WorkTree
from datacube_flows.transfers.paths import sync_volume

if TYPE_CHECKING:
    from pathlib import Path

    from datacube_flows.transfers.git_refs import Target
    from datacube_flows.transfers.git_repository import LocalRepository
    from datacube_flows.transfers.git_tool import Git
    from datacube_flows.transfers.git_tree import Tree
    from datacube_flows.transfers.paths import WorkFolder

JOURNAL: Final = "datacube-update"
"""File in `.git` while the working tree is between two commits: `<from> <to>`."""

_JOURNAL_LINE = re.compile(r"([0-9a-f]{40}) ([0-9a-f]{40})\n")


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update did.

    Attributes:
        tree: of the commit that is checked out now.
        moved: paths whose content was put in place.
        is_news: whether anything of what a person sees changed.
    """

    commit: str
    tree: Tree
    moved: frozenset[str]
    is_news: bool


class Update:
    """One update of one repository."""

    def __init__(self, git: Git, local: LocalRepository, target: Target, work: WorkFolder) -> None:
        self._local, self._target, self._work = local, target, work
        self._clean = borrow(git, local, work.path / "git")
        self._place = work.path / "git"
        self._tree = WorkTree(self._clean, local, work)

    def run(self) -> Updated:
        """Brings the repository to the target.

        Raises:
            TransferError: DirtyRepository or NonFastForward, before anything was changed.
        """
        _refuse_lock(self._local)
        self._fetch()
        commit = resolve(self._clean, self._target)
        self._refuse_loss(commit)
        began = self._interrupted_at()
        tree, pointers = pointers_of(self._clean, commit, self._work.path / "target.index")
        paths = self._tree.check(files_of(tree), files_of(read_tree(self._clean, began)) if began else {})
        self._clean.attempt.progress.expect(files=len(paths & tree.keys()), size=0)
        fetch_lfs(self._clean, commit, pointers, present=self._local.git_dir / "lfs")
        self._tree.stage(paths, commit, pointers)
        self._move_objects()
        self._move_refs()
        moved = self._switch(paths, commit)
        is_news = bool(paths) or not self._is_at(commit)
        self._move_head(commit)
        return Updated(commit, tree, moved, is_news)

    def _fetch(self) -> None:
        extra = arguments_for("git fetch", self._clean.attempt.extra_args)
        for notice in extra.notices:
            self._clean.attempt.progress.notice(notice)
        argv = ("fetch", "--progress", "--no-write-fetch-head", *extra.argv, "origin", *self._refspecs())
        if argv[-1] != "origin":
            self._clean.run(*argv, doing="fetching from", more_env=extra.env)

    def _refspecs(self) -> list[str]:
        """All branches as `git fetch` does, but only the wanted one where only one was cloned or history is cut."""
        one = [self._target.refspec] if self._target.remote_ref else []
        if self._local.shallow or len(self._local.tracked) == 1:
            return one
        branches = "+refs/heads/*:refs/remotes/origin/*"
        return [branches, *one] if self._target.kind is RefKind.TAG else [branches]

    def _refuse_loss(self, commit: str) -> None:
        if self._target.kind is RefKind.BRANCH:
            self._refuse_local_commits(commit)
        if not self._local.branch and not self._is_held(self._local.head, commit):
            raise TransferError(
                Reason.NON_FAST_FORWARD,
                f"HEAD of '{self._local.path.name}' is detached at {self._local.head}, which no branch holds and the"
                " remote does not have: put a branch on it first",
            )

    def _refuse_local_commits(self, commit: str) -> None:
        name = self._target.name
        ours = self._local.refs.get(f"refs/heads/{name}", commit)
        if ours == commit or self._clean.is_true("merge-base", "--is-ancestor", ours, commit):
            return
        if self._local.shallow and ours == self._local.tracked.get(name):
            return  # history is cut, but the branch is what was fetched: there is no local commit to lose
        raise TransferError(
            Reason.NON_FAST_FORWARD,
            f"branch '{name}' of '{self._local.path.name}' has commits that the remote's does not have: push or remove"
            " them first; nothing was changed",
        )

    def _is_held(self, head: str, commit: str) -> bool:
        """Whether a detached HEAD can be left without losing commits: a ref of ours or the remote has it."""
        tips = {*self._local.refs.values(), *self._fetched_tips(), commit}
        asked = "\n".join([head, *(f"^{tip}" for tip in tips), ""]).encode()
        alone = self._clean.ask("rev-list", "--max-count=1", "--ignore-missing", "--stdin", stdin=asked)
        return not alone or self._clean.is_true("fetch", "--no-write-fetch-head", "--depth=1", "origin", head)

    def _fetched_tips(self) -> list[str]:
        return self._clean.ask("for-each-ref", "--format=%(objectname)", "refs/remotes", "refs/tags").split()

    def _interrupted_at(self) -> str:
        """The commit that a killed attempt was on its way to, "" when there was none."""
        path = self._local.git_dir / JOURNAL
        if path.is_symlink() or not path.is_file():
            return ""
        match = _JOURNAL_LINE.fullmatch(path.read_text(errors="replace"))
        is_ours = match and match[1] == self._local.head
        return find_commit(self._clean, match[2]) if match and is_ours else ""

    def _move_objects(self) -> None:
        packs = [p for p in (self._place / "objects" / "pack").iterdir() if p.suffix != ".keep"]
        for path in sorted(packs, key=lambda p: p.suffix == ".idx"):  # an index without its pack would be an error
            self._put(path, f"objects/pack/{path.name}")
        for path in (self._place / "lfs" / "objects").glob("*/*/*"):
            self._put(path, f"lfs/objects/{path.parent.parent.name}/{path.parent.name}/{path.name}")

    def _move_refs(self) -> None:
        self._move_shallow()
        wanted = self._clean.ask("for-each-ref", "--format=%(refname) %(objectname)", "refs/remotes", "refs/tags")
        for line in wanted.splitlines():
            name, value = line.split(" ")
            is_new = name.startswith("refs/remotes/") or name == self._target.remote_ref or name not in self._local.refs
            if is_new and self._local.refs.get(name) != value:
                with suppress(TransferError):  # a branch that was a folder of branches before: only its record is old
                    self._write(name, f"{value}\n")

    def _move_shallow(self) -> None:
        fetched = self._place / "shallow"
        if fetched.is_file():
            self._put(fetched, "shallow")
        elif self._local.shallow:
            self._local.shallow.unlink()

    def _switch(self, paths: frozenset[str], commit: str) -> frozenset[str]:
        if not paths:
            return frozenset()
        sync_volume(self._work.path)
        self._write(JOURNAL, f"{self._local.head} {commit}\n")
        moved = self._tree.put(paths)
        self._put(self._tree.new_index(commit), "index")
        return moved

    def _is_at(self, commit: str) -> bool:
        is_branch = self._target.kind is RefKind.BRANCH
        return self._local.head == commit and self._local.branch == (self._target.name if is_branch else "")

    def _move_head(self, commit: str) -> None:
        if self._target.kind is RefKind.BRANCH:
            name = self._target.name
            if self._local.refs.get(f"refs/heads/{name}") is None:
                self._track(name)
            self._write(f"refs/heads/{name}", f"{commit}\n")
            self._write("HEAD", f"ref: refs/heads/{name}\n")
        else:
            self._write("HEAD", f"{commit}\n")
        (self._local.git_dir / JOURNAL).unlink(missing_ok=True)

    def _track(self, branch: str) -> None:
        """Makes a new branch follow the remote's as a clone does; a copy of the configuration is parsed, not obeyed."""
        copy = self._work.path / "config"
        with suppress(FileNotFoundError):
            shutil.copyfile(self._local.git_dir / "config", copy)
        settings = {f"branch.{branch}.remote": "origin", f"branch.{branch}.merge": f"refs/heads/{branch}"}
        done = [self._clean.is_true("config", "--file", str(copy), name, value) for name, value in settings.items()]
        if all(done):
            self._put(copy, "config")

    def _write(self, name: str, text: str) -> None:
        part = self._work.part(0)
        part.write_text(text)
        self._put(part, name)

    def _put(self, part: Path, name: str) -> None:
        self._work.place(part, f"{self._local.path.name}/.git/{name}")


def _refuse_lock(local: LocalRepository) -> None:
    lock = local.git_dir / "index.lock"
    if lock.exists():
        raise TransferError(
            Reason.DIRTY_REPOSITORY,
            f"'{local.path.name}/.git/index.lock' is there: another git works in the repository, or was killed in it:"
            " wait for it, or remove that file",
        )
