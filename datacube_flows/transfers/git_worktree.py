"""The working tree on the volume: whether it is clean, and how changed files get into it without git writing there."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.git_files import remove_file
from datacube_flows.transfers.git_tree import changed, files_of, read_tree, verify_lfs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from datacube_flows.transfers.git_repository import LocalRepository
    from datacube_flows.transfers.git_tool import Git
    from datacube_flows.transfers.git_tree import Pointer, Tree
    from datacube_flows.transfers.paths import WorkFolder

_SHOWN = 3


class WorkTree:
    """Compares and changes the working tree of one repository; `git` is clean and borrows that one's objects."""

    def __init__(self, git: Git, local: LocalRepository, work: WorkFolder) -> None:
        self._git, self._local, self._work = git, local, work
        self._target: Tree = {}
        self._index = work.path / "index"
        self._staged = work.path / "tree"

    def check(self, target: Tree, interrupted: Tree) -> frozenset[str]:
        """Returns the paths that have to change for `target`, after making sure that none of them holds local changes.

        Args:
            target: the files that are wanted.
            interrupted: the files of the commit that a killed attempt was on its way to; empty when there was none.

        Raises:
            TransferError: DirtyRepository.
        """
        self._target = target
        base = files_of(read_tree(self._git, self._local.head))
        begun = changed(base, interrupted) if interrupted else set()
        paths = changed(base, target) | begun
        others = self._uncommitted() - begun
        if others:
            raise self._dirty(others, "uncommitted changes")
        known = [base, target, *([interrupted] if interrupted else [])]
        if blocked := self._blocked(paths, known):
            raise self._dirty(blocked, "local files or changes in the way")
        return frozenset(paths)

    def _uncommitted(self) -> set[str]:
        with suppress(FileNotFoundError):  # copied with its times: git compares files with them
            shutil.copy2(self._local.git_dir / "index", self._index)
        finished = self._at(self._index).try_run(
            "status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all", "--no-renames"
        )
        if finished.code:
            raise self._dirty([".git/index"], "an index that cannot be read")
        return {os.fsdecode(record)[3:] for record in finished.stdout.split(b"\0") if record}

    def _blocked(self, paths: set[str], known: list[Tree]) -> set[str]:
        """Paths where the volume has a person's own: none of the known versions, or in the way of a new one."""
        blocked = set(paths)
        for number, tree in enumerate(known):
            if blocked:
                blocked &= self._differing(tree, blocked, self._work.path / f"known-{number}.index")
        going, coming = paths - self._target.keys(), paths & self._target.keys()
        folders = {p for p in coming if self._is_folder(p)}
        above = {parent for p in coming for parent in _parents(p)} - going
        return (
            (blocked - folders)
            | {p for p in folders if not self._is_emptied(p, going)}
            | {p for p in above if os.path.lexists(self._local.path / p) and not self._is_folder(p)}
        )

    def _differing(self, tree: Tree, paths: set[str], index: Path) -> set[str]:
        """Paths whose file on the volume is not the tree's; a folder where the tree has no file is no difference."""
        entries = {p: tree[p] for p in paths if p in tree}
        text = b"".join(f"{e.mode} {e.blob}\t".encode() + os.fsencode(p) + b"\0" for p, e in entries.items())
        git = self._at(index)
        git.run("update-index", "-z", "--index-info", stdin=text)
        git.run("update-index", "-q", "--really-refresh", allowed=(0, 1))
        output = git.run("diff-files", "-z", "--name-only").stdout
        absent = paths - entries.keys()
        present = {p for p in absent if os.path.lexists(self._local.path / p) and not self._is_folder(p)}
        return {os.fsdecode(name) for name in output.split(b"\0") if name} | present

    def _is_folder(self, path: str) -> bool:
        place = self._local.path / path
        return place.is_dir() and not place.is_symlink()

    def _is_emptied(self, folder: str, going: set[str]) -> bool:
        """Whether a folder will be gone, since all of its files go."""
        tops = os.walk(self._local.path / folder)
        inside = (os.path.join(top, name) for top, folders, names in tops for name in (*names, *_links(top, folders)))
        return all(os.path.relpath(name, self._local.path) in going for name in inside)

    def stage(self, paths: Collection[str], commit: str, pointers: Mapping[str, Pointer]) -> None:
        """Checks the new versions of the paths out beside the repository, and verifies them."""
        wanted = [p for p in paths if p in self._target]
        self._staged.mkdir()
        index = self._work.path / "staged.index"
        git = self._git.at(self._work.path / "git", work_tree=self._staged, index=index)
        git.run("read-tree", commit)
        names = b"".join(os.fsencode(p) + b"\0" for p in wanted)
        if names:
            git.run("checkout-index", "--force", "-z", "--stdin", stdin=names, doing="checking out")
        verify_lfs(self._staged, {n: p for n, p in pointers.items() if n in set(wanted)})

    def put(self, paths: Collection[str]) -> frozenset[str]:
        """Moves the staged files into the working tree and removes those that are gone; returns what was moved."""
        gone = [p for p in paths if p not in self._target]
        for path in sorted(gone, reverse=True):
            remove_file(self._local.path, path)
        moved = sorted(p for p in paths if p in self._target)
        for path in moved:
            self._work.move(self._staged / path, f"{self._local.path.name}/{path}")
        return frozenset(moved)

    def new_index(self, commit: str) -> Path:
        """Returns an index for the working tree as it is now.

        Raises:
            TransferError: SourceChanged, when somebody changed files at the same time.
        """
        git = self._at(self._index)
        git.run("read-tree", "--reset", commit)
        git.run("update-index", "-q", "--really-refresh", "--ignore-submodules", allowed=(0, 1))
        wrong = git.run("diff-files", "-z", "--name-only", "--ignore-submodules=all").stdout
        if wrong:
            names = wrong.decode("utf-8", "replace").split("\0")
            text = f"files of '{self._local.path.name}' changed while they were updated ({names[0]})"
            raise TransferError(Reason.SOURCE_CHANGED, f"{text}: keep others from writing there meanwhile")
        return self._index

    def _at(self, index: Path) -> Git:
        return self._git.at(self._work.path / "git", work_tree=self._local.path, index=index)

    def _dirty(self, paths: Collection[str], what: str) -> TransferError:
        shown = [os.fsencode(p).decode("utf-8", "replace") for p in sorted(paths)[:_SHOWN]]
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        text = f"'{self._local.path.name}' has {what} ({', '.join(shown)}{more})"
        return TransferError(Reason.DIRTY_REPOSITORY, f"{text}: commit or remove them; nothing was changed")


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _links(top: str, folders: list[str]) -> list[str]:
    return [name for name in folders if os.path.islink(os.path.join(top, name))]
