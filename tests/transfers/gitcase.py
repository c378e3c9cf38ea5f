"""One volume, the real server, and attempts between them: what all tests of the Git transfer share."""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.servers.gitrepository import Access, git_environment
from tests.support import run_here, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from datacube_flows.api.report import TransferReport
    from tests.servers.gitrepository import Repository
    from tests.servers.gitserver import GitServer

_NUMBERS = itertools.count(1)
FILES = {"README.md": "read me\n", "data/one.csv": "1\n", "data/two words.csv": "2\n", "unicode/数据.txt": "好\n"}
LFS_FILES = {"weights/a.bin": b"a" * 50_000, "weights/b.bin": b"b" * 70_000}

_LFS = {
    "filter.lfs.clean": "git-lfs clean -- %f",
    "filter.lfs.smudge": "git-lfs smudge -- %f",
    "filter.lfs.process": "git-lfs filter-process",
    "filter.lfs.required": "true",
}
OWNERS_CONFIG = {"GIT_CONFIG_COUNT": str(len(_LFS))} | {
    f"GIT_CONFIG_{part}_{number}": text
    for number, pair in enumerate(_LFS.items())
    for part, text in zip(("KEY", "VALUE"), pair, strict=True)
}
"""The owner of a volume has installed git-lfs."""


@dataclass
class GitCase:
    """A volume below `folder`, and the server."""

    server: GitServer
    folder: Path
    volume: Path
    count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def repository(self, files: Any = FILES, *, name: str = "", **settings: Any) -> Repository:
        """A private repository of a name that no other test uses."""
        settings.setdefault("access", Access.PRIVATE)
        return self.server.make_repository(name or f"team/model-{next(_NUMBERS)}", files, **settings)

    def options(self, repository: Repository, **options: str) -> dict[str, str]:
        """URL and token as a document gives them."""
        return {"url": self.server.url_of(repository), "token": self.server.token} | options

    def download(self, repository: Repository, *, sub_path: str = "", **settings: Any) -> TransferReport:
        """Runs one download; options by name, settings as `run_here` takes them."""
        options = self.options(repository, **settings.pop("options", {}))
        folder = self.volume / sub_path
        folder.mkdir(parents=True, exist_ok=True)
        return run_here("git-download", folder, options, scratch=self.scratch(), sub_path=sub_path, **settings)

    def upload(self, repository: Repository, **settings: Any) -> TransferReport:
        """Runs one upload."""
        options = self.options(repository, **settings.pop("options", {}))
        return run_here("git-upload", self.volume, options, scratch=self.scratch(), **settings)

    def scratch(self) -> Path:
        """A new private folder."""
        return self.folder / f"scratch-{next(self.count)}"

    def place(self, repository: Repository) -> Path:
        """Where the repository is on the volume."""
        return self.volume / folder_name(repository)

    def git(self, repository: Repository, *arguments: str) -> str:
        """Works in the repository on the volume, as its owner does."""
        place = self.place(repository)
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            ["git", *arguments],
            cwd=place,
            env=git_environment(self.folder) | OWNERS_CONFIG,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, repository: Repository, files: dict[str, bytes | str]) -> str:
        """Writes and commits files on the volume; returns the commit."""
        for name, content in files.items():
            path = self.place(repository) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git(repository, "add", "--all")
        self.git(repository, "commit", "--quiet", "--message", "work")
        return self.git(repository, "rev-parse", "HEAD")

    def new_local(self, repository: Repository, files: dict[str, bytes | str] | None = None) -> str:
        """Makes a repository with one commit on branch main on the volume, with nothing of the remote's."""
        self.git(repository, "init", "--quiet", "--template=", "--initial-branch=main")
        return self.commit(repository, {"a.txt": "a\n"} if files is None else files)

    def assert_tree(self, repository: Repository, ref: str = "") -> None:
        """Makes sure that the volume holds exactly the ref's files and nothing unfinished."""
        assert tree(self.place(repository)) == repository.tree(ref)
        assert not (self.volume / ".datacube").exists()
        assert sorted(os.listdir(self.volume)) == [folder_name(repository)]


def folder_name(repository: Repository) -> str:
    """Last part of a repository's name."""
    return repository.name.rpartition("/")[2]


def everything_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, `.git` included, with its mode and content: to show that nothing was touched."""
    return {
        str(p.relative_to(folder)): (p.lstat().st_mode, p.read_bytes())
        for p in folder.rglob("*")
        if p.is_file() and not p.is_symlink()
    }
