"""A hub on loopback that the real `huggingface_hub` and `hf` clients talk to: models, datasets and spaces.

Written here because the packaged `hf-local-hub` ships only a client: its server is a Go program that is not in the
wheel, and it knows neither gated repositories nor LFS hashes, ranges, redirects or the hub's error headers. Everything
that the transfers rely on is here; what is absent is Xet storage, so clients must use LFS (`HF_HUB_DISABLE_XET=1`).
Breaking the data path is not done here: put `faults.start_fault_proxy(hub.url)` in front.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.canary import CANARY
from tests.servers import hub_api, hub_files  # noqa: F401 - they register their routes
from tests.servers.hub_http import HubError, HubServer, Request
from tests.servers.hub_store import Commit, Entry, Repository, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

OWNER, OTHER, READER = "alice", "bob", "rita"


class Hub:
    """A running hub.

    Attributes:
        token: of `alice`, who may read and write everything below `alice/` and `team/`.
        other_token: of `bob`, a valid user without access to any gated or private repository of others.
        read_token: of `alice` too, but it may only read.
        cdn_elsewhere: when set, LFS content is served by a second address, which refuses any Authorization header.
        part_size: LFS uploads larger than this go in parts.
        page_size: entries on one page of a tree listing.
        requests: every request so far, in order of arrival.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store = Store(folder)
        self.token = f"hf_{CANARY}_alice"
        self.other_token = f"hf_{CANARY}_bob"
        self.read_token = f"hf_{CANARY}_reader"
        self.cdn_elsewhere = False
        self.part_size = 64 * 1024 * 1024
        self.page_size = 1000
        self.requests: list[Request] = []
        self.users = {self.token: OWNER, self.other_token: OTHER, self.read_token: OWNER}
        self._log = (folder / "hub.log").open("a", encoding="utf-8")
        self._log_lock = threading.Lock()
        self._server = HubServer(self)
        self.cdn = HubServer(self)

    @property
    def url(self) -> str:
        """What `HF_ENDPOINT` must be."""
        return self._server.url

    def make_repository(
        self,
        repo_id: str,
        files: Mapping[str, bytes | Path],
        repo_type: str = "model",
        *,
        private: bool = False,
        gated: bool = False,
        branches: Mapping[str, Mapping[str, bytes | Path]] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Makes (or replaces) a repository; returns the commit that `main` stands on.

        Args:
            files: content of `main`; names are not checked, so that a hostile hub can be played.
            branches: name -> content of further branches.
            tags: name -> branch whose commit it names.
        """
        repository = self.store.create(repo_type, repo_id, private=private, gated=gated)
        for name, content in {"main": files, **(branches or {})}.items():
            tree = {path: self.store.entry_for(path, data) for path, data in content.items()}
            self.store.commit(repository, name, tree, f"Add {len(tree)} files")
        repository.tags.update({tag: repository.branches[branch] for tag, branch in (tags or {}).items()})
        return repository.branches["main"]

    def commit(self, repo_id: str, files: Mapping[str, bytes | Path], repo_type: str = "model") -> str:
        """Adds files to `main`, as someone else would; returns the commit."""
        repository = self._repository(repo_id, repo_type)
        tree = dict(self._commit(repo_id, "main", repo_type).tree)
        tree |= {path: self.store.entry_for(path, data) for path, data in files.items()}
        return self.store.commit(repository, "main", tree, "Change files").id

    def rename(self, old: str, new: str, repo_type: str = "model") -> None:
        """Moves a repository; the old name answers with a redirect."""
        repository = self.store.repositories.pop((repo_type, old))
        repository.id = new
        self.store.repositories[repo_type, new] = repository
        self.store.renamed[repo_type, old] = new

    def repository(self, repo_id: str, repo_type: str = "model") -> Repository | None:
        """The repository, or None."""
        return self.store.repositories.get((repo_type, repo_id))

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, str]:
        """Name -> sha256 of every file at a revision, without the hub's own `.gitattributes`."""
        tree = self._commit(repo_id, revision, repo_type).tree
        return {name: entry.sha256 for name, entry in sorted(tree.items()) if name != ".gitattributes"}

    def entries(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> Mapping[str, Entry]:
        """Name -> entry of every file at a revision."""
        return self._commit(repo_id, revision, repo_type).tree

    def content(self, repo_id: str, name: str, revision: str = "main", repo_type: str = "model") -> bytes:
        """The bytes of one file."""
        return self.store.blob(self._commit(repo_id, revision, repo_type).tree[name].sha256).read_bytes()

    def commits(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> list[Commit]:
        """The commits of a branch, newest first."""
        repository, found = self._repository(repo_id, repo_type), []
        commit: Commit | None = self._commit(repo_id, revision, repo_type)
        while commit is not None:
            found.append(commit)
            commit = repository.commits.get(commit.parent)
        return found

    def count(self, method: str, part: str) -> int:
        """How many requests so far had this method and `part` in their path."""
        return sum(1 for r in list(self.requests) if r.method == method and part in r.path)

    def user_of(self, request: Request) -> str:
        """Name of the user that a request's token belongs to, "" for nobody.

        Raises:
            HubError: 401 for a token that is nobody's.
        """
        if not request.token:
            return ""
        if request.token not in self.users:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.users[request.token]

    def may_write(self, request: Request, namespace: str) -> bool:
        """Whether a request's token may write below a namespace."""
        user = self.user_of(request)
        return request.token != self.read_token and bool(user) and namespace in (user, "team")

    def log(self, line: str) -> None:
        """Keeps a line in `hub.log`."""
        with self._log_lock:
            if not self._log.closed:
                self._log.write(line + "\n")
                self._log.flush()

    def stop(self) -> None:
        """Ends both servers."""
        self._server.stop()
        self.cdn.stop()
        with self._log_lock:
            self._log.close()

    def _repository(self, repo_id: str, repo_type: str) -> Repository:
        return self.store.repositories[repo_type, repo_id]

    def _commit(self, repo_id: str, revision: str, repo_type: str) -> Commit:
        found = self._repository(repo_id, repo_type).commit_of(revision)
        assert found is not None, f"{repo_id} has no {revision}"
        return found


@contextmanager
def start_hub(folder: Path) -> Iterator[Hub]:
    """Runs a hub that keeps its data and its log below `folder`."""
    hub = Hub(folder)
    try:
        yield hub
    finally:
        hub.stop()
