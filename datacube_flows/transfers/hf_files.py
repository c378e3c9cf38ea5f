"""Files of a repository on a hub: what it lists, their hashes, and which of them are on the volume already."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.hf_library import RepoFile, RepoFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from datacube_flows.transfers.hf_errors import Repository
    from datacube_flows.transfers.hf_library import HfApi

CHUNK = 1 << 20
PATHS_A_REQUEST = 100


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at one commit: `sha256` is of its content where it is stored as LFS, else only git's blob id is known."""

    name: str
    size: int
    blob_id: str
    sha256: str = ""

    @property
    def checksum(self) -> str:
        """What `new_digest` must end in."""
        return self.sha256 or self.blob_id

    def new_digest(self) -> hashlib._Hash:
        """The hash that this file's content is checked with."""
        return hashlib.sha256() if self.sha256 else blob_digest(self.size)


def blob_digest(size: int) -> hashlib._Hash:
    """Returns the beginning of git's object id of a blob of `size` bytes."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def resolve(api: HfApi, repository: Repository) -> str:
    """Returns the commit that the repository's revision stands on."""
    info = api.repo_info(repository.id, revision=repository.revision, repo_type=repository.type)
    if not info.sha:
        raise TransferError(Reason.SERVER_ERROR, f"{repository.endpoint} names no commit for {repository}")
    return info.sha


def check_text(names: Iterable[str]) -> None:
    """Makes sure that names are text, so that hub, volume and report can all hold them.

    Raises:
        TransferError: PathCollision for a name that is not UTF-8.
    """
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = name.encode("utf-8", "backslashreplace").decode()
            raise TransferError(Reason.PATH_COLLISION, f"the name '{shown}' is not UTF-8: rename the file") from None


def list_tree(api: HfApi, repository: Repository, commit: str) -> list[RemoteFile]:
    """Returns every file at a commit."""
    entries = api.list_repo_tree(repository.id, recursive=True, revision=commit, repo_type=repository.type)
    return [_remote_file(entry) for entry in entries if isinstance(entry, RepoFile)]


def find_files(api: HfApi, repository: Repository, commit: str, names: Sequence[str]) -> dict[str, RemoteFile]:
    """Returns those of the named files that are there at a commit.

    Raises:
        TransferError: PathCollision for a name that is a folder there.
    """
    found: dict[str, RemoteFile] = {}
    for start in range(0, len(names), PATHS_A_REQUEST):
        asked = list(names[start : start + PATHS_A_REQUEST])
        for entry in api.get_paths_info(repository.id, asked, revision=commit, repo_type=repository.type):
            if isinstance(entry, RepoFolder):
                raise TransferError(Reason.PATH_COLLISION, f"'{entry.path}' is a folder in {repository}, not a file")
            found[entry.path] = _remote_file(entry)
    return found


def _remote_file(entry: RepoFile) -> RemoteFile:
    if entry.lfs is not None:
        return RemoteFile(entry.path, entry.lfs.size, entry.blob_id, entry.lfs.sha256)
    return RemoteFile(entry.path, entry.size, entry.blob_id)


class VolumeFiles:
    """The regular files that a download finds below its folder; nothing behind a symbolic link counts as one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._real = os.path.realpath(folder)

    def size(self, name: str) -> int | None:
        """Size of the file, None where there is none."""
        path = self._folder / name
        try:
            now = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        is_ours = os.path.realpath(path.parent) == str(Path(self._real, name).parent)
        return now.st_size if stat.S_ISREG(now.st_mode) and is_ours else None

    def holds(self, remote: RemoteFile, verify: str, check: Callable[[], None]) -> bool:
        """Whether the file is here already, compared by hash where `verify` is `checksum`, else by size."""
        if self.size(remote.name) != remote.size:
            return False
        return verify != "checksum" or matches(self._folder / remote.name, remote, check)


def matches(path: Path, remote: RemoteFile, check: Callable[[], None]) -> bool:
    """Whether a file has the remote one's content; `check` is called between chunks."""
    digest = remote.new_digest()
    for chunk in read_chunks(path):
        check()
        digest.update(chunk)
    return digest.hexdigest() == remote.checksum


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yields the content of a file, following no link at its end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
