"""The files of a commit as git lists them, and which of them are LFS files. Reads; changes nothing."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from datacube_flows.transfers.git_tool import Git

SUBMODULE: Final = "160000"
SYMLINK: Final = "120000"
_POINTER = re.compile(
    rb"version https://(?:git-lfs|hawser)\.github\.com/spec/v1\n(?:ext-.*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize (\d+)\n?"
)
_MAX_POINTER = 1024
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a commit."""

    mode: str
    blob: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """What an LFS pointer stands for."""

    oid: str
    size: int


Tree = dict[str, Entry]
"""Path -> entry; a path that is not UTF-8 is kept with surrogate escapes, as Python's own file names are."""


def read_tree(git: Git, commit: str) -> Tree:
    """Returns every file of a commit."""
    tree: Tree = {}
    for record in _records(git, "ls-tree", "-r", "-z", "--full-tree", commit):
        head, _, name = record.partition("\t")
        mode, _kind, blob = head.split(" ")
        tree[name] = Entry(mode, blob)
    return tree


def changed(old: Tree, new: Tree) -> set[str]:
    """Returns the paths at which two trees differ."""
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def files_of(tree: Tree) -> Tree:
    """Returns the tree without submodules, which are other repositories and are not fetched."""
    return {name: entry for name, entry in tree.items() if entry.mode != SUBMODULE}


def blob_sizes(git: Git, blobs: Iterable[str]) -> dict[str, int]:
    """Returns blob -> size; a blob that is not here (a partial clone) is left out."""
    wanted = "\n".join([*dict.fromkeys(blobs), ""]).encode()
    lines = (line.split(" ") for line in git.ask("cat-file", "--batch-check", stdin=wanted).splitlines())
    return {words[0]: int(words[2]) for words in lines if words[1] == "blob"}


def lfs_pointers(git: Git, commit: str, tree: Tree) -> dict[str, Pointer]:
    """Returns path -> pointer of the files that git-lfs keeps: attribute `filter=lfs`, and a pointer in the commit.

    Needs `git.index` to hold the commit, since attributes are read from there.
    """
    if not _uses_lfs(git, tree):
        return {}
    names = [n for n, e in tree.items() if e.mode not in (SUBMODULE, SYMLINK)]
    fields = _records(git, "check-attr", "-z", "--cached", "--stdin", "filter", stdin=_joined(names))
    kept = [name for name, value in zip(fields[::3], fields[2::3], strict=True) if value == "lfs"]
    contents = _small_blobs(git, {tree[name].blob for name in kept})
    found = {name: parse_pointer(contents.get(tree[name].blob, b"")) for name in kept}
    return {name: pointer for name, pointer in found.items() if pointer}


def parse_pointer(content: bytes) -> Pointer | None:
    """Returns what an LFS pointer says, or None for any other content (git-lfs docs/spec.md)."""
    match = _POINTER.fullmatch(content)
    return Pointer(match[1].decode(), int(match[2])) if match else None


def verify_lfs(folder: Path, pointers: Mapping[str, Pointer]) -> None:
    """Makes sure that every LFS file below `folder` is the content that its pointer names, not the pointer.

    Raises:
        TransferError: IntegrityMismatch, naming the first one that is not.
    """
    for name, pointer in pointers.items():
        if not _is_content(folder / name, pointer):
            shown = os.fsencode(name).decode("utf-8", "replace")
            text = f"the LFS file '{shown}' is not the content that its pointer names (sha256 {pointer.oid})"
            raise TransferError(
                Reason.INTEGRITY_MISMATCH, f"{text}: see that the LFS server has it; remove .git/lfs to fetch it anew"
            )


def _is_content(path: Path, pointer: Pointer) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != pointer.size:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == pointer.oid


def _uses_lfs(git: Git, tree: Tree) -> bool:
    attributes = {e.blob for n, e in tree.items() if n.rpartition("/")[2] == ".gitattributes" and e.mode != SUBMODULE}
    return any(b"lfs" in git.run("cat-file", "blob", blob).stdout for blob in attributes)


def _small_blobs(git: Git, blobs: set[str]) -> dict[str, bytes]:
    small = [blob for blob, size in blob_sizes(git, blobs).items() if size <= _MAX_POINTER]
    output = git.run("cat-file", "--batch", stdin="\n".join([*small, ""]).encode()).stdout if small else b""
    contents, position = {}, 0
    for _ in small:
        end = output.index(b"\n", position)
        blob, _kind, size = output[position:end].split(b" ")
        contents[blob.decode()] = output[end + 1 : end + 1 + int(size)]
        position = end + 2 + int(size)
    return contents


def _records(git: Git, *arguments: str, stdin: bytes = b"") -> list[str]:
    output = git.run(*arguments, stdin=stdin).stdout
    if output and not output.endswith(b"\0"):
        raise TransferError(Reason.TRANSFER_ERROR, "the repository has more files than can be listed: split it")
    return [os.fsdecode(record) for record in output.split(b"\0")[:-1]]


def _joined(names: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(name) + b"\0" for name in names)
