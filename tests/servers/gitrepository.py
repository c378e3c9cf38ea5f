"""A bare repository of the Git server, and how tests put commits into it and look at what it holds."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.lfsstore import LfsStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n"
PERSON = "Ada <ada@example.invalid>"


class Access(StrEnum):
    """Who may do what."""

    PUBLIC = "public"  # anyone reads; the credential writes
    PRIVATE = "private"  # the credential reads and writes
    FORBIDDEN = "forbidden"  # 403 for everybody


def git_environment(home: Path) -> dict[str, str]:
    """Returns an environment in which git sees no configuration of this machine."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        **{f"GIT_{who}_{what}": v for who in ("AUTHOR", "COMMITTER") for what, v in _PERSON.items()},
    }


_PERSON = {"NAME": "Ada", "EMAIL": "ada@example.invalid"}


@dataclass
class Repository:
    """One repository as the server holds it."""

    name: str
    path: Path
    lfs: LfsStore
    default_branch: str
    access: Access
    commits: int = 0

    def create(self) -> None:
        """Makes it, empty; pushing with the credential is allowed."""
        self.path.mkdir(parents=True)
        self.git("init", "--bare", "--quiet", "--template=", f"--initial-branch={self.default_branch}")
        self.git("config", "http.receivepack", "true")

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Runs git inside it and returns what it printed."""
        environment = git_environment(self.path.parent) | {"GIT_DIR": str(self.path)}
        finished = subprocess.run(
            ["git", *arguments], cwd=self.path, env=environment, input=stdin, capture_output=True, check=False
        )
        assert finished.returncode == 0, finished.stderr.decode()
        return finished.stdout

    def commit(
        self,
        files: Mapping[str, bytes | str | None],
        *,
        branch: str = "",
        lfs_files: Mapping[str, bytes] | None = None,
        start: str = "",
        links: Mapping[str, str] | None = None,
    ) -> str:
        """Adds a commit on top of a branch (or of `start`) and returns its id; a file that is None is removed."""
        branch = branch or self.default_branch
        self.commits += 1
        pointers = {n: self.lfs.add(c) for n, c in (lfs_files or {}).items()}
        changes: dict[str, bytes | str | None] = {**files, **pointers}
        if pointers:
            changes.setdefault(".gitattributes", ATTRIBUTES)
        base = start or (f"refs/heads/{branch}^0" if self.has(f"refs/heads/{branch}") else "")
        lines = [f"commit refs/heads/{branch}\n".encode()]
        lines.append(f"committer {PERSON} {1_700_000_000 + self.commits} +0000\n".encode())
        lines.append(_data(f"commit {self.commits}".encode()))
        if base:
            lines.append(f"from {base}\n".encode())
        lines += [_change(name, content) for name, content in changes.items()]
        lines += [f"M 120000 inline {_quoted(n)}\n".encode() + _data(t.encode()) for n, t in (links or {}).items()]
        self.git("fast-import", "--quiet", "--force", stdin=b"".join(lines))
        return self.head(branch)

    def point(self, refs: Sequence[str], at: str = "") -> None:
        """Makes the refs point at a commit, by default the head of the default branch."""
        sha = at or self.head()
        for ref in refs:
            self.git("update-ref", ref, sha)

    def has(self, ref: str) -> bool:
        """Whether a ref exists."""
        return bool(self.git("for-each-ref", ref).strip())

    def head(self, branch: str = "") -> str:
        """Commit id of a branch, by default of the default one."""
        return self.git("rev-parse", f"refs/heads/{branch or self.default_branch}").decode().strip()

    def files(self, ref: str = "") -> dict[str, bytes]:
        """Name -> content of every regular file of a commit, as stored: LFS files are pointers."""
        listing = self.git("ls-tree", "-r", "-z", ref or self.default_branch).decode().split("\0")
        regular = [line.partition("\t") for line in listing if line.startswith("100")]
        return {name: self.git("cat-file", "blob", head.split()[2]) for head, _, name in regular}

    def tree(self, ref: str = "") -> dict[str, str]:
        """Name -> sha256 of what a right checkout holds, LFS content in place: compares with `tests.support.tree`."""
        return {name: _digest(content) for name, content in self.files(ref).items()}

    def refuse_pushes(self, words: str) -> None:
        """Installs a pre-receive hook that says no."""
        hook = self.path / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
        hook.chmod(0o755)


def _digest(content: bytes) -> str:
    if content.startswith(b"version https://git-lfs") and b"oid sha256:" in content:
        return content.split(b"oid sha256:")[1].split()[0].decode()
    return hashlib.sha256(content).hexdigest()


def _change(name: str, content: bytes | str | None) -> bytes:
    if content is None:
        return f"D {_quoted(name)}\n".encode()
    raw = content.encode() if isinstance(content, str) else content
    return f"M 100644 inline {_quoted(name)}\n".encode() + _data(raw)


def _data(raw: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(raw), raw)


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
