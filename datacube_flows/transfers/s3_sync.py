"""Deletes what a sync has to delete, and folders left empty, below one folder: by descriptors, following no link."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from datacube_flows.transfers.base import NEVER_MOVED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def delete_files(folder: Path, doomed: Iterable[str], *, kept_folders: Iterable[str] = ()) -> int:
    """Deletes these files below the folder and then every empty folder in it that is not kept.

    Names were found by a walk of the same folder; one that is gone by now, or has become something else than a file,
    is left as it is.

    Returns:
        How many files were deleted.
    """
    sweep = _Sweep(frozenset(doomed), _with_parents(kept_folders))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sweep.clean(descriptor, "")
    finally:
        os.close(descriptor)
    return sweep.deleted


def _with_parents(folders: Iterable[str]) -> frozenset[str]:
    parts = [f.split("/") for f in folders if f]
    return frozenset("/".join(p[:n]) for p in parts for n in range(1, len(p) + 1))


class _Sweep:
    def __init__(self, doomed: frozenset[str], kept: frozenset[str]) -> None:
        self._doomed, self._kept = doomed, kept
        self.deleted = 0

    def clean(self, descriptor: int, prefix: str) -> None:
        with os.scandir(descriptor) as entries:
            found = [(e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)) for e in entries]
        for leaf, is_folder, is_file in found:
            name = prefix + leaf
            if name in NEVER_MOVED:
                continue
            if is_folder:
                self._clean_folder(descriptor, leaf, name)
            elif is_file and name in self._doomed:
                os.unlink(leaf, dir_fd=descriptor)
                self.deleted += 1

    def _clean_folder(self, above: int, leaf: str, name: str) -> None:
        inner = os.open(leaf, _FLAGS, dir_fd=above)
        try:
            self.clean(inner, name + "/")
        finally:
            os.close(inner)
        if name not in self._kept:
            _remove_if_empty(leaf, above)


def _remove_if_empty(leaf: str, above: int) -> None:
    try:
        os.rmdir(leaf, dir_fd=above)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
