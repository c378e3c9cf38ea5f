"""Moves LFS objects with git-lfs, to and from the server that belongs to the URL, whatever `.lfsconfig` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datacube_flows.transfers.git_progress import lfs_progress
from datacube_flows.transfers.git_tree import files_of, lfs_pointers, read_tree

if TYPE_CHECKING:
    from pathlib import Path

    from datacube_flows.transfers.git_tool import Git
    from datacube_flows.transfers.git_tree import Pointer, Tree


def pointers_of(git: Git, commit: str, index: Path) -> tuple[Tree, dict[str, Pointer]]:
    """Returns the files of a commit and which of them are LFS files; `index` is made, and holds the commit then."""
    tree = read_tree(git, commit)
    at_commit = git.at(git.git_dir or index, work_tree=git.work_tree, index=index)
    at_commit.run("read-tree", commit)
    return tree, lfs_pointers(at_commit, commit, files_of(tree))


def fetch_lfs(git: Git, commit: str, pointers: dict[str, Pointer], *, present: Path | None = None) -> None:
    """Makes the LFS objects of a commit local; those in the storage `present`, which git borrows from, do not move."""
    wanted = {pointer.oid: pointer.size for pointer in pointers.values()}
    missing = sum(size for oid, size in wanted.items() if not (present and stored(present, oid).is_file()))
    if wanted:
        _run(git, "fetch", "origin", commit, doing="fetching LFS files from", announced=missing)


def stored(storage: Path, oid: str) -> Path:
    """Where git-lfs keeps an object."""
    return storage / "objects" / oid[:2] / oid[2:4] / oid


def push_lfs(git: Git, branch: str, storage: Path) -> None:
    """Sends the LFS objects of a branch that the server lacks; `storage` is the volume's own `.git/lfs`."""
    git.run("config", "lfs.storage", str(storage))
    _run(git, "push", "origin", f"refs/heads/{branch}", doing="pushing LFS files to", announced=0)


def _run(git: Git, *arguments: str, doing: str, announced: int) -> None:
    log = git.attempt.scratch / "git" / "lfs-progress"
    with lfs_progress(log, git.attempt.progress, announced=announced):
        git.run("lfs", *arguments, doing=doing, more_env={"GIT_LFS_PROGRESS": str(log)})
