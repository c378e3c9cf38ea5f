"""Paths on an untrusted volume: where an upload starts, what it may read, how a finished file gets into its place.

Nothing here follows a symbolic link out of the folder that it was given.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.base import NEVER_MOVED, WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datacube_flows.transfers.progress import Progress

MAX_NAME_BYTES = 255


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file to upload: its name below the source (`/` as separator), and what it was when it was listed."""

    name: str
    path: Path
    size: int
    mtime_ns: int

    def is_changed(self) -> bool:
        """Whether the file is no longer what was listed."""
        try:
            now = self.path.lstat()
        except FileNotFoundError:
            return True
        return (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns)


def resolve_source(root: Path, sub_path: str) -> Path:
    """Returns the existing file or folder that an upload starts from, `sub_path` below `root`.

    Raises:
        TransferError: NotFound when it is missing, InvalidSpec when a symbolic link leads out of the volume.
    """
    path = root / sub_path if sub_path else root
    try:
        real = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise TransferError(
            Reason.NOT_FOUND, f"the volume has no '{sub_path}': check source.pvc.subPath and the claim's name"
        ) from None
    except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError before Python 3.13
        raise TransferError(Reason.INVALID_SPEC, f"'{sub_path}' cannot be resolved: {error}") from error
    if not real.is_relative_to(root.resolve()):
        raise TransferError(
            Reason.INVALID_SPEC, f"'{sub_path}' leaves the volume through a symbolic link: name the real path"
        )
    return real


def make_folder(root: Path, sub_path: str) -> Path:
    """Returns the folder `sub_path` below `root`, made when missing, as kubelet does it: no link is followed.

    Raises:
        TransferError: PathCollision where a file or a symbolic link is in the way.
    """
    folders = [part for part in sub_path.split("/") if part]
    os.close(_open_folder(root, folders))
    return root.joinpath(*folders)


@dataclass(frozen=True, slots=True)
class Listing:
    """What an upload found: the files to move, and how many others it left out (each told in a notice)."""

    files: tuple[LocalFile, ...]
    skipped: int

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)


def list_files(source: Path, progress: Progress, *, never: frozenset[str] = NEVER_MOVED) -> Listing:
    """Returns the regular files below a folder, or the one file that `source` is, sorted by name.

    Symbolic links and special files are left out, counted and told in a notice (SECURITY S15); names in `never` at the
    folder's root, and the hub client's own `.cache/huggingface`, are not data and are left out silently.
    """
    if source.is_file():
        return Listing((_local_file(source.name, source, source.stat()),), 0)
    files, odd = [], []
    for name, entry in _walk(source, never):
        if entry.is_file(follow_symlinks=False):
            files.append(_local_file(name, Path(entry.path), entry.stat(follow_symlinks=False)))
        else:
            odd.append(name)
    if odd:
        some = ", ".join(odd[:3]) + (" ..." if len(odd) > 3 else "")  # noqa: PLR2004 - a few names are enough
        progress.notice(f"left out {len(odd)} symbolic links or special files: {some}")
    return Listing(tuple(sorted(files, key=lambda f: f.name)), len(odd))


def _local_file(name: str, path: Path, now: os.stat_result) -> LocalFile:
    return LocalFile(name, path, now.st_size, now.st_mtime_ns)


def _walk(folder: Path, never: frozenset[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    folders = [(os.fspath(folder), "")]  # not by recursion: a tree may be deeper than Python's stack
    while folders:
        path, prefix = folders.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                name = prefix + entry.name
                if (not prefix and entry.name in never) or name == ".cache/huggingface":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, name + "/"))
                else:
                    yield name, entry


def check_names(names: Iterable[str]) -> None:
    """Makes sure that all names from a remote listing can be files side by side below one folder.

    Raises:
        TransferError: PathCollision for a name that leaves the folder, is no file name, or is also another's folder.
    """
    files: set[str] = set()
    folders: set[str] = set()
    for name in names:
        parts = name.split("/")
        if not all(_is_file_name(p) for p in parts):
            raise TransferError(Reason.PATH_COLLISION, f"'{name}' cannot be a file below the folder: rename it")
        if parts[0] == WORK_FOLDER:
            raise TransferError(Reason.PATH_COLLISION, f"'{name}' is a name that DataCube keeps for itself: rename it")
        files.add(name)
        folders.update("/".join(parts[:n]) for n in range(1, len(parts)))
    if clash := files & folders:
        raise TransferError(
            Reason.PATH_COLLISION, f"'{min(clash)}' is both a file and a folder at the source: rename one of them"
        )


def _is_file_name(part: str) -> bool:
    if part in ("", ".", "..") or "\0" in part:
        return False
    try:
        return len(os.fsencode(part)) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


class WorkFolder:
    """The folder `.datacube` of one transfer: files grow in it and are renamed into their places when they are right.

    Entering it removes what a killed attempt left; leaving it removes it whole. One transfer at a time has it: that is
    what the path lock is for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / WORK_FOLDER

    def __enter__(self) -> Self:
        self._remove()
        self.path.mkdir(mode=0o700)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._remove()

    def _remove(self) -> None:
        if self.path.is_symlink():
            self.path.unlink()
        elif self.path.exists():
            shutil.rmtree(self.path)

    def part(self, number: int) -> Path:
        """Path of the `number`-th unfinished file."""
        return self.path / f"{number}.part"

    def place(self, part: Path, name: str) -> None:
        """Moves a finished file to `name` below the folder, durable and in one step; folders are made as needed.

        Raises:
            TransferError: PathCollision where a folder or a symbolic link is in the way.
        """
        _sync_file(part)
        self.move(part, name)

    def move(self, part: Path, name: str) -> None:
        """Moves a file or a symbolic link to `name` as `place` does, without waiting for the disk.

        Raises:
            TransferError: as `place`.
        """
        *folders, leaf = name.split("/")
        descriptor = _open_folder(self.folder, folders)
        try:
            if _is_folder(leaf, descriptor):
                raise TransferError(Reason.PATH_COLLISION, f"'{name}' is a folder on the volume: move it away")
            os.rename(part, leaf, dst_dir_fd=descriptor)
        finally:
            os.close(descriptor)


def _open_folder(root: Path, folders: list[str]) -> int:
    """Opens `root/folders...` step by step, making what is missing and following no link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for position, folder in enumerate(folders):
        try:
            try:
                inner = os.open(folder, flags, dir_fd=descriptor)
            except FileNotFoundError:
                with suppress(FileExistsError):  # another thread places a file in the same new folder
                    os.mkdir(folder, dir_fd=descriptor)
                inner = os.open(folder, flags, dir_fd=descriptor)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, NotADirectoryError) or error.errno == errno.ELOOP:
                at = "/".join(folders[: position + 1])
                message = f"'{at}' on the volume is a file or a symbolic link where a folder is needed: move it away"
                raise TransferError(Reason.PATH_COLLISION, message) from error
            raise
        os.close(descriptor)
        descriptor = inner
    return descriptor


def _is_folder(name: str, descriptor: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def sync_volume(path: Path) -> None:
    """Returns when all that was written to the file system of `path` is on its disk, where the system can tell.

    Raises:
        OSError: some of it could not be written.
    """
    sync = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if sync is None:
            os.fsync(descriptor)
        elif sync(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(descriptor)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
