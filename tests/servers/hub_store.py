"""What the local hub holds: repositories as commits over blobs on disk, with git's and LFS's own ids. No HTTP here."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LFS_SUFFIXES = frozenset({".bin", ".safetensors", ".gguf", ".parquet", ".pt", ".onnx", ".zip", ".h5", ".npz"})
LFS_SIZE = 10 * 1024 * 1024
"""A file is stored as LFS when its suffix is in the hub's default `.gitattributes`, or when it is larger than this."""
CHUNK = 1 << 20
GITATTRIBUTES = "".join(f"*{s} filter=lfs diff=lfs merge=lfs -text\n" for s in sorted(LFS_SUFFIXES)).encode()


@dataclass(frozen=True)
class Entry:
    """A file in a commit: its git object id (of the pointer, for LFS), and where its bytes are."""

    oid: str
    sha256: str
    size: int
    lfs: bool
    pointer_size: int = 0

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    id: str
    message: str
    tree: Mapping[str, Entry]
    parent: str = ""
    date: str = ""


@dataclass
class Repository:
    type: str
    id: str
    private: bool = False
    gated: bool = False
    members: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    def commit_of(self, revision: str) -> Commit | None:
        revision = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        key = self.branches.get(revision) or self.tags.get(revision) or revision
        found = self.commits.get(key)
        if found is None and len(key) >= 7:
            found = next((c for c in self.commits.values() if c.id.startswith(key)), None)
        return found


class Store:
    """Blobs by sha256 below one folder, and repositories in memory."""

    def __init__(self, folder: Path) -> None:
        self.blobs = folder / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.renamed: dict[tuple[str, str], str] = {}
        self._git_ids: dict[str, str] = {}

    def blob(self, sha256: str) -> Path:
        return self.blobs / sha256

    def has_blob(self, sha256: str) -> bool:
        return self.blob(sha256).exists()

    def temporary(self) -> Path:
        return self.blobs / f".{uuid.uuid4().hex}"

    def add_bytes(self, data: bytes) -> Entry:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.has_blob(sha256):
            part = self.temporary()
            part.write_bytes(data)
            part.replace(self.blob(sha256))
        return Entry(git_blob_id(len(data), [data]), sha256, len(data), lfs=False)

    def add_path(self, path: Path) -> Entry:
        sha256, size = hash_file(path)
        if not self.has_blob(sha256):
            _link_or_copy(path, self.blob(sha256))
        return Entry(git_blob_id(size, _chunks(path)), sha256, size, lfs=False)

    def lfs_entry(self, sha256: str, size: int) -> Entry:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return Entry(git_blob_id(len(pointer), [pointer]), sha256, size, lfs=True, pointer_size=len(pointer))

    def entry_for(self, name: str, content: bytes | Path) -> Entry:
        entry = self.add_path(content) if isinstance(content, Path) else self.add_bytes(content)
        return self.lfs_entry(entry.sha256, entry.size) if is_lfs(name, entry.size) else entry

    def commit(self, repository: Repository, branch: str, tree: Mapping[str, Entry], message: str) -> Commit:
        with self.lock:
            parent = repository.branches.get(branch, "")
            seed = f"{repository.type} {repository.id} {parent} {message} {uuid.uuid4()}"
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            made = Commit(hashlib.sha1(seed.encode()).hexdigest(), message, dict(tree), parent, now)  # noqa: S324 - git
            repository.commits[made.id] = made
            repository.branches[branch] = made.id
            return made

    def create(self, repo_type: str, repo_id: str, *, private: bool = False, gated: bool = False) -> Repository:
        """Makes a repository with the first commit that the hub itself makes."""
        made = Repository(repo_type, repo_id, private, gated)
        with self.lock:
            self.repositories[repo_type, repo_id] = made
        self.commit(made, "main", {".gitattributes": self.add_bytes(GITATTRIBUTES)}, "initial commit")
        return made


def is_lfs(name: str, size: int) -> bool:
    return size > 0 and (Path(name).suffix in LFS_SUFFIXES or size > LFS_SIZE)


def git_blob_id(size: int, pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha1(f"blob {size}\0".encode())  # noqa: S324 - git's object id
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def hash_file(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for piece in _chunks(path):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _chunks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK):
            yield piece


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
