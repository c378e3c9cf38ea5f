"""Git download (SPEC section 3): a clone where there is no repository, an update where there is one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan, TransferReport
from datacube_flows.errors import TransferError
from datacube_flows.transfers.git_borrow import borrow
from datacube_flows.transfers.git_clone import clone, find_commit, resolve
from datacube_flows.transfers.git_refs import RefKind, find_target
from datacube_flows.transfers.git_remote import parse_remote
from datacube_flows.transfers.git_repository import is_repository, read_repository
from datacube_flows.transfers.git_tool import make_git
from datacube_flows.transfers.git_tree import changed, files_of, read_tree
from datacube_flows.transfers.git_update import Update, Updated
from datacube_flows.transfers.paths import WorkFolder

if TYPE_CHECKING:
    from pathlib import Path

    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.git_refs import Target
    from datacube_flows.transfers.git_repository import LocalRepository
    from datacube_flows.transfers.git_tool import Git


def download(attempt: Attempt) -> TransferReport:
    """Leaves the repository at `<folder>/<name>` with option `ref` checked out."""
    _say_unused(attempt)
    git = make_git(attempt, parse_remote(attempt))
    place = attempt.folder / git.remote.name
    local = existing_repository(place)
    target = find_target(git)
    with WorkFolder(attempt.folder) as work:
        if local is not None:
            return _report(git, target, Update(git, local, target, work).run())
        if os.path.lexists(place):
            os.rename(place, work.path / "broken")
        commit, tree = clone(git, target, work)
    return _report(git, target, Updated(commit, tree, frozenset(files_of(tree)), is_news=True))


def plan_download(attempt: Attempt) -> ChangePlan:
    """Returns how many files a download would add, update and remove; their sizes are not known before a fetch."""
    git = make_git(attempt, parse_remote(attempt))
    local = existing_repository(attempt.folder / git.remote.name)
    target = find_target(git)
    attempt.progress.notice("sizes are not known before git has fetched: bytes is 0")
    place = attempt.scratch / "plan.git"
    clean = _peek(git, target, place) if local is None else _peek_beside(git, local, target, place)
    old = files_of(read_tree(clean, local.head)) if local else {}
    new = files_of(read_tree(clean, resolve(clean, target)))
    differences = changed(old, new)
    added, gone = differences - old.keys(), differences - new.keys()
    return ChangePlan(add=len(added), update=len(differences - added - gone), delete=len(gone))


def existing_repository(place: Path) -> LocalRepository | None:
    """Returns the repository at its place, None when it has to be cloned.

    What a killed `git clone` left, a `.git` without any commit and nothing beside it, counts as none.

    Raises:
        TransferError: PathCollision where something else is in the way, DirtyRepository where HEAD has no commit.
    """
    if not os.path.lexists(place):
        return None
    if place.is_symlink() or not place.is_dir():
        raise _collision(place, "a file or a link")
    if not is_repository(place):
        if any(place.iterdir()):
            raise _collision(place, "a folder with other files")
        return None
    local = read_repository(place)
    if local.head:
        return local
    if local.refs or len(list(place.iterdir())) > 1:
        text = f"'{place.name}' is a repository whose HEAD has no commit, with files or branches beside it"
        raise TransferError(Reason.DIRTY_REPOSITORY, f"{text}: switch it to a branch with a commit, or move it away")
    return None


def _peek(git: Git, target: Target, place: Path) -> Git:
    branch = () if target.kind is RefKind.COMMIT else (f"--branch={target.name}", "--depth=1")
    filters = ("--bare", "--filter=blob:none", "--template=")
    git.run("clone", *filters, *branch, "--", git.remote.url, str(place), doing="cloning")
    clean = git.at(place)
    commit = find_commit(clean, "HEAD" if target.remote_ref else target.name)
    if commit and target.remote_ref:
        clean.run("update-ref", target.local_ref, commit)
    return clean


def _peek_beside(git: Git, local: LocalRepository, target: Target, place: Path) -> Git:
    clean = borrow(git, local, place)
    if target.remote_ref:
        clean.run(
            "fetch", "--no-write-fetch-head", "--filter=blob:none", "origin", target.refspec, doing="fetching from"
        )
    return clean


def _report(git: Git, target: Target, now: Updated) -> TransferReport:
    attempt, name = git.attempt, git.remote.name
    tree, moved = now.tree, now.moved
    place = attempt.folder / name
    if submodules := len(tree) - len(files_of(tree)):
        attempt.progress.notice(f"{submodules} submodules were left out: they are repositories of their own")
    for _ in moved:
        attempt.progress.finish_file()
    words = "is" if now.is_news else "was already"
    return TransferReport(
        Reason.TRANSFER_COMPLETE if now.is_news else Reason.UP_TO_DATE,
        f"{target} of {git.remote.url} {words} checked out at commit {now.commit[:12]}",
        listed=len(tree),
        files=len(moved),
        skipped=len(tree) - len(moved),
        bytes=sum((place / path).lstat().st_size for path in moved),
        verified="git",
        revision=now.commit,
        path=f"{attempt.sub_path}/{name}" if attempt.sub_path else name,
    )


def _say_unused(attempt: Attempt) -> None:
    if attempt.settings.bandwidth_limit:
        attempt.progress.notice("bandwidthLimit has no effect on git, which cannot limit its rate")


def _collision(place: Path, what: str) -> TransferError:
    return TransferError(
        Reason.PATH_COLLISION, f"'{place.name}' on the volume is {what}, not the repository: move it away"
    )
