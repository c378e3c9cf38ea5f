"""Removes files from a working tree on an untrusted volume, following no symbolic link."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def remove_file(root: Path, name: str) -> None:
    """Removes a file or link below `root`, and its folders as far as they are empty then; follows no link.

    A file that is gone already is fine.
    """
    *folders, leaf = name.split("/")
    for depth in range(len(folders), -1, -1):
        try:
            descriptor = _open_existing(root, folders[:depth])
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            if depth == len(folders):
                os.unlink(leaf, dir_fd=descriptor)
            else:
                os.rmdir(folders[depth], dir_fd=descriptor)
        except (FileNotFoundError, IsADirectoryError):
            continue
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                return
            raise
        finally:
            os.close(descriptor)


def _open_existing(root: Path, folders: list[str]) -> int:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for folder in folders:
        try:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor
