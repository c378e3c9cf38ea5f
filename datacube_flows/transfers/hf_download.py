"""A download from a hub: one commit, the files that were asked for, only what is not on the volume already."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan, TransferReport
from datacube_flows.errors import TransferError
from datacube_flows.transfers.failures import free_bytes
from datacube_flows.transfers.hf_client import connect, limiter, make_repository, matching
from datacube_flows.transfers.hf_crew import Crew
from datacube_flows.transfers.hf_errors import Repository, hub_errors
from datacube_flows.transfers.hf_fetch import Fetcher
from datacube_flows.transfers.hf_files import RemoteFile, VolumeFiles, check_text, find_files, list_tree, resolve
from datacube_flows.transfers.paths import WorkFolder, check_names

if TYPE_CHECKING:
    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.hf_library import HfApi

WORKERS = 8
_PATTERN = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be on the volume in the end: the files of one commit, and which of them still have to move."""

    repository: Repository
    commit: str
    files: tuple[RemoteFile, ...]
    missing: tuple[RemoteFile, ...]
    added: int

    @property
    def size(self) -> int:
        """Bytes that have to move."""
        return sum(f.size for f in self.missing)


def download(attempt: Attempt) -> TransferReport:
    """Brings the files of one commit into the attempt's folder and returns the report."""
    repository = make_repository(attempt)
    with connect(attempt, repository) as api:
        with hub_errors(repository):
            commit, files = choose(api, attempt, repository)
        selection = compare(attempt, repository, commit, files)
        check_space(attempt, selection)
        attempt.progress.expect(files=len(selection.missing), size=selection.size)
        if selection.missing:
            fetch(attempt, selection)
    return report(attempt, selection)


def plan(attempt: Attempt) -> ChangePlan:
    """Says what a download would add and update."""
    repository = make_repository(attempt)
    with connect(attempt, repository) as api, hub_errors(repository):
        commit, files = choose(api, attempt, repository)
        selection = compare(attempt, repository, commit, files)
    updated = len(selection.missing) - selection.added
    return ChangePlan(add=selection.added, update=updated, bytes=selection.size)


def choose(api: HfApi, attempt: Attempt, repository: Repository) -> tuple[str, tuple[RemoteFile, ...]]:
    """Returns the commit that the revision stands on now, and the files to have, largest first.

    Raises:
        TransferError: NotFound for a file that is not there, SourceEmpty for a repository without any.
    """
    names = file_names(attempt.options.get("files", ""))
    commit = resolve(api, repository)
    if names:
        found = _named(api, repository, commit, names)
    else:
        found = _matching(attempt, repository, list_tree(api, repository, commit))
    check_text(f.name for f in found)
    check_names(f.name for f in found)
    return commit, tuple(sorted(found, key=lambda f: (-f.size, f.name)))


def _matching(attempt: Attempt, repository: Repository, files: list[RemoteFile]) -> list[RemoteFile]:
    at = f"at '{repository.revision}'"
    if not files:
        raise TransferError(Reason.SOURCE_EMPTY, f"{repository} holds no file {at}: check options repo and revision")
    kept = matching(attempt, [f.name for f in files])
    if not kept:
        raise TransferError(Reason.NOT_FOUND, f"no file of {repository} {at} matches extraArgs --include, --exclude")
    return [f for f in files if f.name in kept]


def file_names(files: str) -> list[str]:
    """Returns the names in option `files`: blanks trimmed, empties and repetitions dropped.

    Raises:
        TransferError: InvalidSpec for a name that starts with `-`.
    """
    names = list(dict.fromkeys(name.strip() for name in files.split(",") if name.strip()))
    if bad := next((n for n in names if n.startswith("-")), None):
        raise TransferError(Reason.INVALID_SPEC, f"option files: '{bad}' must not start with '-'")
    return names


def _named(api: HfApi, repository: Repository, commit: str, names: list[str]) -> list[RemoteFile]:
    try:
        found = find_files(api, repository, commit, [n.rstrip("/") for n in names])
    except TransferError as error:
        if error.reason is not Reason.PATH_COLLISION:
            raise
        raise TransferError(
            Reason.INVALID_SPEC, f"option files: {error.message}; name its files, or use extraArgs --include"
        ) from error
    if lacking := [n for n in names if n not in found]:
        raise TransferError(Reason.NOT_FOUND, _lacking(repository, lacking))
    return [found[n] for n in names]


def _lacking(repository: Repository, names: list[str]) -> str:
    quoted = ", ".join(f"'{n}'" for n in names)
    hint = "; patterns work only as extraArgs --include" if any(_PATTERN & set(n) for n in names) else ""
    return f"{repository} has no {quoted} at '{repository.revision}': check option files{hint}"


def compare(attempt: Attempt, repository: Repository, commit: str, files: tuple[RemoteFile, ...]) -> Selection:
    """Finds out which files are on the volume already."""
    volume = VolumeFiles(attempt.folder)
    held: set[str] = set()
    with Crew(WORKERS, attempt.stop) as crew:

        def look(remote: RemoteFile) -> None:
            if volume.holds(remote, attempt.settings.verify, attempt.progress.alive):
                held.add(remote.name)

        for remote in files:
            if volume.size(remote.name) == remote.size:
                crew.submit(partial(look, remote))
    missing = tuple(f for f in files if f.name not in held)
    return Selection(repository, commit, files, missing, sum(volume.size(f.name) is None for f in missing))


def check_space(attempt: Attempt, selection: Selection) -> None:
    """Refuses a download that cannot fit, before anything moves.

    Raises:
        TransferError: DiskFull.
    """
    volume = VolumeFiles(attempt.folder)
    replaced = sum(volume.size(f.name) or 0 for f in selection.missing)
    needed, free = selection.size - replaced, free_bytes(attempt.folder)
    if needed > free:
        raise TransferError(
            Reason.DISK_FULL,
            f"the files need {needed} bytes and the volume has {free} free: free space on it or use a larger claim",
        )


def fetch(attempt: Attempt, selection: Selection) -> None:
    """Moves what is missing, each file checked and then renamed into its place."""
    with WorkFolder(attempt.folder) as work:
        crew = Crew(WORKERS, attempt.stop)
        fetcher = Fetcher(attempt, selection.repository, selection.commit, work, crew, limiter(attempt))
        try:
            with crew:
                for number, remote in enumerate(selection.missing):
                    fetcher.add(remote, number)
        finally:
            fetcher.close()


def report(attempt: Attempt, selection: Selection) -> TransferReport:
    """Returns what was done."""
    moved, skipped = len(selection.missing), len(selection.files) - len(selection.missing)
    where = f"{selection.repository} at {selection.commit[:12]}"
    message = (
        f"{moved} files ({selection.size} bytes) of {where} moved, {skipped} were here already"
        if moved
        else f"all {skipped} files of {where} were here already"
    )
    return TransferReport(
        Reason.TRANSFER_COMPLETE if moved else Reason.UP_TO_DATE,
        message,
        listed=len(selection.files),
        files=moved,
        skipped=skipped,
        bytes=selection.size,
        verified=attempt.settings.verify,
        revision=selection.commit,
        path=attempt.sub_path,
    )
