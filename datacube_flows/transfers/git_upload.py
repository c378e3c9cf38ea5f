"""Git upload (SPEC section 3): the current branch of a repository on the volume, pushed as it is.

The volume is read-only and its repository untrusted: git runs in a clean one that borrows its objects.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan, TransferReport
from datacube_flows.core.extra_args import arguments_for
from datacube_flows.errors import TransferError
from datacube_flows.transfers.git_borrow import borrow, known_tips
from datacube_flows.transfers.git_errors import git_failure
from datacube_flows.transfers.git_lfs import pointers_of, push_lfs
from datacube_flows.transfers.git_refs import list_remote
from datacube_flows.transfers.git_remote import parse_remote
from datacube_flows.transfers.git_repository import is_repository, read_repository
from datacube_flows.transfers.git_tool import make_git
from datacube_flows.transfers.git_tree import blob_sizes, changed, read_tree
from datacube_flows.transfers.paths import resolve_source

if TYPE_CHECKING:
    from pathlib import Path

    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.git_repository import LocalRepository
    from datacube_flows.transfers.git_tool import Git
    from datacube_flows.transfers.git_tree import Tree


@dataclass(frozen=True, slots=True)
class Push:
    """What is to be pushed.

    Attributes:
        git: in the clean repository.
        before: the remote's commit on that branch, "" when it has none.
        old: its files, as far as they are known here.
        sizes: path -> bytes of each file that the remote lacks.
        has_lfs: whether LFS objects belong to it.
    """

    git: Git
    local: LocalRepository
    before: str
    old: Tree
    new: Tree
    sizes: dict[str, int]
    has_lfs: bool

    @property
    def ref(self) -> str:
        """Full name of the branch at the remote."""
        return f"refs/heads/{self.local.branch}"


def upload(attempt: Attempt) -> TransferReport:
    """Leaves the current branch of the volume's repository at the URL, at the same commit."""
    push = prepare(attempt)
    if push.before == push.local.head:
        return _report(push, Reason.UP_TO_DATE)
    attempt.progress.expect(files=len(push.sizes), size=0)
    if push.has_lfs:
        push_lfs(push.git, push.local.branch, push.local.git_dir / "lfs")
    _push(push)
    after = list_remote(push.git, push.ref).refs.get(push.ref)
    if after != push.local.head:
        text = f"after the push branch '{push.local.branch}' of {push.git.remote.url} is at {after}, not at the commit"
        raise TransferError(Reason.TRANSFER_ERROR, f"{text} that was pushed: see whether somebody else pushes there")
    return _report(push, Reason.TRANSFER_COMPLETE)


def plan_upload(attempt: Attempt) -> ChangePlan:
    """Returns what an upload would change at the remote; without its commit at hand every file counts as added."""
    push = prepare(attempt)
    added, gone = push.new.keys() - push.old.keys(), push.old.keys() - push.new.keys()
    return ChangePlan(len(added), len(push.sizes.keys() - added), len(gone), sum(push.sizes.values()))


def prepare(attempt: Attempt) -> Push:
    """Returns the push that the attempt is about; nothing has been sent yet."""
    remote = parse_remote(attempt)
    local = find_source(attempt, remote.name)
    git = borrow(make_git(attempt, remote), local, attempt.scratch / "push.git")
    ref = f"refs/heads/{local.branch}"
    git.run("update-ref", ref, local.head)
    before = list_remote(git, ref).refs.get(ref, "")
    is_known = bool(before and known_tips(git, {before}))
    if is_known:
        git.run("update-ref", f"refs/remotes/origin/{local.branch}", before)
    old = read_tree(git, before) if is_known else {}
    new, pointers = pointers_of(git, local.head, attempt.scratch / "push.index")
    moved = changed(old, new) & new.keys()
    blobs = blob_sizes(git, (new[p].blob for p in moved))
    sizes = {p: pointers[p].size if p in pointers else blobs.get(new[p].blob, 0) for p in moved}
    has_lfs = bool(pointers) or (local.git_dir / "lfs" / "objects").is_dir()
    return Push(git, local, before, old, new, sizes, has_lfs)


def find_source(attempt: Attempt, name: str) -> LocalRepository:
    """Returns the repository `name` in the folder that `subPath` names.

    Raises:
        TransferError: saying which of the many ways in which that can be wrong it is.
    """
    folder = resolve_source(attempt.folder, attempt.sub_path)
    if not folder.is_dir():
        raise _unfit(f"subPath '{attempt.sub_path}' is a file", "name the folder that contains the repository")
    place = folder / name
    if not os.path.lexists(place):
        raise _missing(attempt, folder, name)
    if place.is_symlink() or not place.is_dir() or not is_repository(place):
        raise _unfit(f"'{name}' in subPath is not a Git repository", "make it one, with a commit on a branch")
    local = read_repository(place)
    if not local.head:
        raise TransferError(Reason.SOURCE_EMPTY, f"the repository '{name}' has no commit: commit something first")
    if not local.branch:
        raise _unfit(f"HEAD of the repository '{name}' is detached", "switch to a branch, which is what is pushed")
    return local


def _missing(attempt: Attempt, folder: Path, name: str) -> TransferError:
    if is_repository(folder):
        what = f"subPath '{attempt.sub_path}' is the repository itself"
        return _unfit(what, f"name its parent, and let the folder have the URL's name, '{name}'")
    there = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir())[:5]) or "no folder"
    text = f"subPath '{attempt.sub_path}' holds no repository '{name}', which is the URL's last part (there: {there})"
    return TransferError(Reason.NOT_FOUND, f"{text}: check source.pvc.subPath and option url")


def _push(push: Push) -> None:
    extra = arguments_for("git push", push.git.attempt.extra_args)
    for notice in extra.notices:
        push.git.attempt.progress.notice(notice)
    if {"--tags", "--follow-tags"} & set(extra.argv):
        _copy_tags(push)
    refspec = f"{push.local.head}:{push.ref}"
    argv = ("push", "--porcelain", "--progress", *extra.argv, "--", push.git.remote.url, refspec)
    finished = push.git.try_run(*argv, more_env=extra.env)
    if finished.code:
        refused = [line for line in finished.stdout.decode("utf-8", "replace").splitlines() if line.startswith("!")]
        tail = tuple(push.git.attempt.redact(line.rpartition("\t")[2]) for line in refused) + finished.tail
        raise git_failure(replace(finished, tail=tail), push.git.remote, "pushing to")


def _copy_tags(push: Push) -> None:
    tags = {n: i for n, i in push.local.refs.items() if n.startswith("refs/tags/")}
    known = known_tips(push.git, set(tags.values())) if tags else set()
    lines = [f"create {name} {tip}" for name, tip in tags.items() if tip in known]
    push.git.run("update-ref", "--stdin", stdin="\n".join([*lines, ""]).encode())


def _report(push: Push, reason: Reason) -> TransferReport:
    attempt, name = push.git.attempt, push.git.remote.name
    for _ in push.sizes:
        attempt.progress.finish_file()
    words = "was pushed to" if reason is Reason.TRANSFER_COMPLETE else "is already at"
    return TransferReport(
        reason,
        f"branch '{push.local.branch}' {words} {push.git.remote.url} at commit {push.local.head[:12]}",
        listed=len(push.new),
        files=len(push.sizes),
        skipped=len(push.new) - len(push.sizes),
        bytes=sum(push.sizes.values()),
        verified="git",
        revision=push.local.head,
        path=f"{attempt.sub_path}/{name}" if attempt.sub_path else name,
    )


def _unfit(what: str, remedy: str) -> TransferError:
    return TransferError(Reason.INVALID_SPEC, f"{what}: {remedy}")
