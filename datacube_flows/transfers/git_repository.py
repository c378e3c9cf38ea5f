"""Reads a repository on a volume from its files alone: it is untrusted, and git never runs inside it (SECURITY S12).

What is read here is data: ids and names. Its configuration, hooks and attributes are never looked at.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.git_refs import FULL_ID, UNFIT_REF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_FILE: Final = 256 * 1024 * 1024
_PACKED = re.compile(r"^([0-9a-f]{40}) (refs/\S+)$", re.MULTILINE)
_NO_LINKS: Final = ("objects", "objects/pack", "objects/info", "refs", "lfs")
"""Folders of `.git` that are walked to their last file for symbolic links."""
_FILES: Final = ("HEAD", "packed-refs", "shallow", "index", "config")


@dataclass(frozen=True, slots=True)
class LocalRepository:
    """A repository as its files describe it.

    Attributes:
        path: the working tree.
        branch: the current branch, "" when HEAD is detached.
        head: id of the current commit, "" when there is none.
        refs: full name -> id, loose and packed.
        is_partial: whether it leaves out objects that the remote has (`--filter`).
    """

    path: Path
    branch: str
    head: str
    refs: dict[str, str]
    is_partial: bool

    @property
    def git_dir(self) -> Path:
        """Its `.git`."""
        return self.path / ".git"

    @property
    def shallow(self) -> Path | None:
        """The file that says where history was cut, if it was."""
        path = self.git_dir / "shallow"
        return path if path.is_file() else None

    @property
    def tracked(self) -> dict[str, str]:
        """Branches of `origin` as last fetched: name -> id."""
        prefix = "refs/remotes/origin/"
        return {
            n.removeprefix(prefix): i for n, i in self.refs.items() if n.startswith(prefix) and n != prefix + "HEAD"
        }


def is_repository(path: Path) -> bool:
    """Whether there is a `.git` of any kind in a folder."""
    return os.path.lexists(path / ".git")


def read_repository(path: Path) -> LocalRepository:
    """Returns what the files of the repository at `path` say.

    Raises:
        TransferError: InvalidSpec where something in it leads out of it or is of a kind that is not supported.
    """
    git_dir = path / ".git"
    if not _is(git_dir, stat.S_ISDIR):
        raise _refused(path, "its .git is a link or a file that points elsewhere", "use a repository of its own")
    _refuse_traps(path, git_dir)
    refs = dict(_packed_refs(git_dir)) | dict(_loose_refs(git_dir))
    branch, head = _head(path, git_dir, refs)
    is_partial = any(e.name.endswith(".promisor") for e in _entries(git_dir / "objects" / "pack"))
    return LocalRepository(path, branch, head, refs, is_partial)


def _refuse_traps(path: Path, git_dir: Path) -> None:
    if (git_dir / "commondir").exists() or (git_dir / "reftable").exists():
        raise _refused(path, "it is a linked worktree or keeps its refs in reftables", "use a plain clone")
    for name in _FILES:
        if os.path.lexists(git_dir / name) and not _is(git_dir / name, stat.S_ISREG):
            raise _refused(path, f".git/{name} is not a regular file", "clone it again")
    for name in _NO_LINKS:
        if os.path.lexists(git_dir / name) and not _is(git_dir / name, stat.S_ISDIR):
            raise _refused(path, f".git/{name} is not a folder", "clone it again")
        if link := next(_links(git_dir / name), ""):
            raise _refused(path, f".git/{name} holds the link '{link}'", "replace it with the file itself")
    for name in ("alternates", "http-alternates"):
        if _text(git_dir / "objects" / "info" / name).strip():
            raise _refused(path, f"it borrows objects through .git/objects/info/{name}", "run `git repack -a -d` there")


def _head(path: Path, git_dir: Path, refs: dict[str, str]) -> tuple[str, str]:
    text = _text(git_dir / "HEAD").strip()
    if re.fullmatch(r"[0-9a-f]{64}", text) or any(len(i) != 40 for i in refs.values()):  # noqa: PLR2004 - SHA-1 in hex
        raise _refused(path, "it uses SHA-256 object names", "use a repository with SHA-1 names")
    if FULL_ID.fullmatch(text):
        return "", text
    name = text.removeprefix("ref: ")
    if not name.startswith("refs/heads/") or UNFIT_REF.search(name):
        return "", ""
    return name.removeprefix("refs/heads/"), refs.get(name, "")


def _packed_refs(git_dir: Path) -> Iterator[tuple[str, str]]:
    for match in _PACKED.finditer(_text(git_dir / "packed-refs")):
        if not UNFIT_REF.search(match[2]):
            yield match[2], match[1]


def _loose_refs(git_dir: Path) -> Iterator[tuple[str, str]]:
    for entry in _walk(git_dir / "refs"):
        name = os.path.relpath(entry.path, git_dir)
        value = "" if UNFIT_REF.search(name) else _text(git_dir / name).strip()
        if FULL_ID.fullmatch(value):
            yield name, value


def _links(folder: Path) -> Iterator[str]:
    return (entry.name for entry in _walk(folder) if entry.is_symlink())


def _walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        else:
            yield entry


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _text(path: Path) -> str:
    """Content of a regular file, "" for anything else: a pipe would never end, a link may lead anywhere."""
    if not _is(path, stat.S_ISREG) or path.lstat().st_size > MAX_FILE:
        return ""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return kind(mode)


def _refused(path: Path, what: str, remedy: str) -> TransferError:
    return TransferError(Reason.INVALID_SPEC, f"the repository '{path.name}' is not used: {what}: {remedy}")
