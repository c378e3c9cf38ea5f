"""The first download of a repository: cloned and checked out beside its place, then renamed into it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core.extra_args import arguments_for
from datacube_flows.transfers.git_errors import git_failure
from datacube_flows.transfers.git_lfs import fetch_lfs, pointers_of
from datacube_flows.transfers.git_refs import FULL_ID, RefKind, ref_not_found
from datacube_flows.transfers.git_tree import files_of, verify_lfs
from datacube_flows.transfers.paths import sync_volume

if TYPE_CHECKING:
    from pathlib import Path

    from datacube_flows.transfers.git_refs import Target
    from datacube_flows.transfers.git_tool import Git
    from datacube_flows.transfers.git_tree import Tree
    from datacube_flows.transfers.paths import WorkFolder

_NO_SUCH_COMMIT: Final = frozenset({Reason.REF_NOT_FOUND, Reason.TRANSFER_ERROR})
"""How a server says that it will not give a commit; the words differ between servers."""


def clone(git: Git, target: Target, work: WorkFolder) -> tuple[str, Tree]:
    """Puts a repository with the target checked out at its place; returns the commit and its files.

    Its `origin` is the URL without credentials. Nothing is at the place until everything is there and verified.
    """
    stage = work.path / "clone"
    _run_clone(git, target, stage)
    staged = git.at(stage / ".git", work_tree=stage)
    commit = resolve(staged, target)
    tree, pointers = pointers_of(staged, commit, work.path / "index")
    git.attempt.progress.expect(files=len(files_of(tree)), size=0)
    fetch_lfs(staged, commit, pointers)
    check_out(staged, target, commit)
    verify_lfs(stage, pointers)
    sync_volume(stage)
    os.rename(stage, work.folder / git.remote.name)
    return commit, tree


def _run_clone(git: Git, target: Target, stage: Path) -> None:
    extra = arguments_for("git clone", git.attempt.extra_args)
    for notice in extra.notices:
        git.attempt.progress.notice(notice)
    branch = () if target.kind is RefKind.COMMIT else (f"--branch={target.name}",)
    argv = (
        "clone",
        "--no-checkout",
        "--template=",
        "--progress",
        *branch,
        *extra.argv,
        "--",
        git.remote.url,
        str(stage),
    )
    git.run(*argv, doing="cloning", more_env=extra.env)


def resolve(git: Git, target: Target) -> str:
    """Returns the commit that the target is, asking the remote for it where the clone did not bring it.

    Raises:
        TransferError: RefNotFound.
    """
    if commit := find_commit(git, target.local_ref):
        return commit
    if target.remote_ref or FULL_ID.fullmatch(target.name):
        _fetch_alone(git, target)
    if commit := find_commit(git, target.local_ref):
        return commit
    raise ref_not_found(git, target.name)


def _fetch_alone(git: Git, target: Target) -> None:
    extra = arguments_for("git fetch", git.attempt.extra_args)
    argv = ("fetch", "--progress", "--no-write-fetch-head", *extra.argv, "origin", target.refspec)
    finished = git.try_run(*argv, more_env=extra.env)
    if finished.code and (error := git_failure(finished, git.remote, "fetching from")).reason not in _NO_SUCH_COMMIT:
        raise error


def find_commit(git: Git, name: str) -> str:
    """Returns the id of the commit that a full ref or an (abbreviated) id names, "" when there is none."""
    finished = git.try_run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return finished.stdout.decode().strip() if finished.code == 0 else ""


def check_out(git: Git, target: Target, commit: str) -> None:
    """Fills the working tree of a clone that this attempt made, HEAD attached for a branch and detached otherwise."""
    where = (target.name,) if target.kind is RefKind.BRANCH else ("--detach", commit)
    git.run("checkout", "--force", "--progress", *where, "--", doing="checking out")
