"""An upload to a hub: what differs becomes a commit on one branch, and is read back from the hub's own listing."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan, TransferReport
from datacube_flows.errors import TransferError
from datacube_flows.transfers.hf_addition import REGULAR_LIMIT, Addition, HashedFile, hash_file
from datacube_flows.transfers.hf_client import connect, limiter, make_repository
from datacube_flows.transfers.hf_crew import Crew
from datacube_flows.transfers.hf_errors import hub_errors
from datacube_flows.transfers.hf_files import find_files, list_tree, resolve
from datacube_flows.transfers.hf_library import errors
from datacube_flows.transfers.hf_source import Source, find_source, plural
from datacube_flows.transfers.hf_target import find_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.hf_errors import Repository
    from datacube_flows.transfers.hf_files import RemoteFile
    from datacube_flows.transfers.hf_library import HfApi
    from datacube_flows.transfers.paths import LocalFile

HASHERS = 4
SENDERS = 5
FILES_A_COMMIT = 2000
"""A larger upload becomes several commits: the hub answers a commit within a minute or not at all."""
REGULAR_BYTES_A_COMMIT = 100 * 1024 * 1024
"""Files outside of LFS travel inside the commit's request, which the library builds in memory."""
NAMES_ASKED_FOR = 500
"""With more files than this, the whole tree is listed instead of asking for each."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What the upload has to do: local files by whether the branch's commit holds them already."""

    added: tuple[HashedFile, ...]
    updated: tuple[HashedFile, ...]
    unchanged: int

    @property
    def files(self) -> tuple[HashedFile, ...]:
        """All that must move, in the order of their names."""
        return tuple(sorted((*self.added, *self.updated), key=lambda f: f.name))

    @property
    def size(self) -> int:
        """Bytes of all that must move."""
        return sum(f.local.size for f in self.files)


def upload(attempt: Attempt) -> TransferReport:
    """Commits what differs, verifies it, and returns the report."""
    repository = make_repository(attempt)
    source = find_source(attempt)
    with connect(attempt, repository) as api, hub_errors(repository):
        target = find_target(api, attempt, repository)
        difference = compare(api, attempt, repository, target.commit, source)
        ignored: list[str] = []
        commit = target.commit
        if difference.files:
            target.create(api)
            attempt.progress.expect(files=len(difference.files), size=difference.size)
            commit, ignored = send(api, attempt, repository, source, difference.files)
    return report(attempt, repository, source, difference, commit=commit, ignored=ignored)


def plan(attempt: Attempt) -> ChangePlan:
    """Says what an upload would add and update; a repository that it would create counts as empty."""
    repository = make_repository(attempt)
    source = find_source(attempt)
    with connect(attempt, repository) as api, hub_errors(repository):
        target = find_target(api, attempt, repository)
        difference = compare(api, attempt, repository, target.commit, source)
    return ChangePlan(add=len(difference.added), update=len(difference.updated), bytes=difference.size)


def compare(api: HfApi, attempt: Attempt, repository: Repository, commit: str, source: Source) -> Difference:
    """Hashes every local file once and sets it against the commit's listing."""
    remote = listed(api, repository, commit, list(source.files)) if commit else {}
    hashed = hash_all(attempt, source.files)
    added = tuple(f for f in hashed if f.name not in remote)
    updated = tuple(f for f in hashed if f.name in remote and not f.is_same(remote[f.name]))
    return Difference(added, updated, len(hashed) - len(added) - len(updated))


def listed(api: HfApi, repository: Repository, commit: str, names: Sequence[str]) -> Mapping[str, RemoteFile]:
    """Returns those of the names that are files at a commit."""
    if len(names) <= NAMES_ASKED_FOR:
        return find_files(api, repository, commit, names)
    wanted = set(names)
    return {f.name: f for f in list_tree(api, repository, commit) if f.name in wanted}


def hash_all(attempt: Attempt, files: Mapping[str, LocalFile]) -> list[HashedFile]:
    """Hashes files in parallel; what is read counts as life, not as progress."""
    done: list[HashedFile] = []

    def look(name: str, local: LocalFile) -> None:
        done.append(hash_file(local, name, attempt.progress.alive))

    with Crew(HASHERS, attempt.stop) as crew:
        for name, local in files.items():
            crew.submit(partial(look, name, local))
    return sorted(done, key=lambda f: f.name)


def send(
    api: HfApi, attempt: Attempt, repository: Repository, source: Source, files: Sequence[HashedFile]
) -> tuple[str, list[str]]:
    """Uploads and commits; returns the last commit and the names that the hub's `.gitignore` left out."""
    commit, ignored = "", []
    groups, take = list(_groups(files)), limiter(attempt)
    for number, group in enumerate(groups, 1):
        part = f" (part {number} of {len(groups)})" if len(groups) > 1 else ""
        message = (attempt.option("commit-message") or source.message(len(files))) + part
        additions = [Addition(f, attempt, take) for f in group]
        commit = _commit(api, repository, additions, message)
        left_out = [a.file.name for a in additions if a.is_ignored]
        ignored += left_out
        kept = [f for f in group if f.name not in left_out]
        if attempt.settings.verify != "none":
            verify(api, repository, commit, kept, by_hash=attempt.settings.verify == "checksum")
        for addition in additions:
            addition.finish()
    if ignored:
        some = ", ".join(ignored[:3])
        attempt.progress.notice(f"the repository's .gitignore keeps out {plural(len(ignored))}: {some}")
    return commit, ignored


def _groups(files: Sequence[HashedFile]) -> Iterator[list[HashedFile]]:
    group: list[HashedFile] = []
    regular = 0
    for file in files:
        size = file.local.size if file.local.size <= REGULAR_LIMIT else 0
        if group and (len(group) == FILES_A_COMMIT or regular + size > REGULAR_BYTES_A_COMMIT):
            yield group
            group, regular = [], 0
        group.append(file)
        regular += size
    if group:
        yield group


def _commit(api: HfApi, repository: Repository, additions: list[Addition], message: str) -> str:
    """Sends the contents, makes sure that they are still what was hashed, and commits them."""
    at: dict[str, Any] = {"repo_id": repository.id, "repo_type": repository.type, "revision": repository.revision}
    with warnings.catch_warnings(), _refusals(), _unchanged(additions):
        warnings.simplefilter("ignore")  # the library's advice on model cards is not for this log
        api.preupload_lfs_files(additions=additions, num_threads=SENDERS, free_memory=False, **at)
        for addition in additions:
            addition.file.check_unchanged()
        try:
            made = api.create_commit(operations=additions, commit_message=message, num_threads=SENDERS, **at)
        except TransferError as error:
            return _landed(api, repository, additions, error)
    return str(made.oid)


@contextmanager
def _unchanged(additions: Sequence[Addition]) -> Iterator[None]:
    """A file that changes while it is read makes the client fail in odd ways: then that is the cause to tell."""
    try:
        yield
    except Exception:
        for addition in additions:
            addition.file.check_unchanged()
        raise


@contextmanager
def _refusals() -> Iterator[None]:
    """The library raises a bare ValueError where the hub refuses a file or the metadata of a README.md."""
    try:
        yield
    except (json.JSONDecodeError, errors.HFValidationError):
        raise
    except ValueError as error:
        raise TransferError(Reason.INVALID_SPEC, f"the hub refuses the commit: {error}") from error


def _landed(api: HfApi, repository: Repository, additions: list[Addition], error: TransferError) -> str:
    """Returns the branch's commit if it holds all of it (only the answer was lost), else raises `error`."""
    if error.reason is not Reason.ENDPOINT_UNREACHABLE:
        raise error
    commit = resolve(api, repository)
    remote = listed(api, repository, commit, [a.file.name for a in additions])
    if not all(a.is_ignored or a.file.is_same(remote.get(a.file.name)) for a in additions):
        raise error
    return commit


def verify(api: HfApi, repository: Repository, commit: str, files: Sequence[HashedFile], *, by_hash: bool) -> None:
    """Makes sure that the commit holds each file as it was hashed here.

    Raises:
        TransferError: SourceChanged where the local file is another by now, else IntegrityMismatch.
    """
    remote = listed(api, repository, commit, [f.name for f in files])
    for file in files:
        found = remote.get(file.name)
        is_right = file.is_same(found) if by_hash else found is not None and found.size == file.local.size
        if not is_right:
            file.check_unchanged()
            raise TransferError(
                Reason.INTEGRITY_MISMATCH,
                f"{repository} does not hold '{file.name}' as it was sent, at commit {commit}",
            )


def report(
    attempt: Attempt, repository: Repository, source: Source, difference: Difference, *, commit: str, ignored: list[str]
) -> TransferReport:
    """Returns what was done."""
    moved = [f for f in difference.files if f.name not in set(ignored)]
    skipped = difference.unchanged + source.skipped + len(ignored)
    size = sum(f.local.size for f in moved)
    where = f"{repository}, branch {repository.revision}"
    message = (
        f"{plural(len(moved))} ({size} bytes) committed to {where}, {difference.unchanged} were there already"
        if moved
        else f"{where} holds all of it already"
    )
    return TransferReport(
        Reason.TRANSFER_COMPLETE if moved else Reason.UP_TO_DATE,
        message,
        listed=len(moved) + skipped,
        files=len(moved),
        skipped=skipped,
        bytes=size,
        verified=attempt.settings.verify,
        revision=commit,
        path=attempt.sub_path,
    )
