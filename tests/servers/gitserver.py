"""A real Git server on loopback: git's own http-backend behind basic auth, with LFS and switches for faults.

LFS is served by `lfsstore.py` beside this file: the `giftless` wheel declares none of the packages that it imports
(flask and its extensions), and could not share this server's credential, access rules and faults.

Needs no pytest, so that the demo starts the same server.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from tests.canary import CANARY
from tests.servers.gitfaults import Fault, Response
from tests.servers.gitrepository import Access, Repository, git_environment
from tests.servers.lfsstore import LfsStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

USER = "ada"
TOKEN = f"{CANARY}-git/t+ken"
_REPOSITORY = re.compile(
    r"^/((?:[^/]+/)*?[^/]+?)(?:\.git)?/(info/refs|git-upload-pack|git-receive-pack|info/lfs/.*|lfs/.*)$"
)


@dataclass(frozen=True)
class Request:
    """One request as the server saw it; `path` includes the query."""

    method: str
    path: str
    status: int
    had_auth: bool


@dataclass
class GitServer:
    """The running server.

    Attributes:
        url: base URL without credentials; a repository is at `<url>/<name>.git`.
        user: name that goes with the token; the token is accepted as password of any user, as the large hosts do.
        requests: everything asked so far; clear it to count anew.
    """

    folder: Path
    url: str = ""
    user: str = USER
    token: str = TOKEN
    requests: list[Request] = field(default_factory=list)
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def make_repository(
        self,
        name: str,
        files: Mapping[str, bytes | str] | None = None,
        *,
        lfs_files: Mapping[str, bytes] | None = None,
        branches: Sequence[str] = (),
        tags: Sequence[str] = (),
        default_branch: str = "main",
        access: Access = Access.PUBLIC,
    ) -> Repository:
        """Returns a repository with one commit (none without files), and branches and tags that point at it."""
        store = LfsStore(self.folder / "lfs" / name)
        repository = Repository(name, self.folder / "repositories" / f"{name}.git", store, default_branch, access)
        repository.create()
        self.repositories[name] = repository
        if files or lfs_files:
            repository.commit(files or {}, lfs_files=lfs_files)
            repository.point([f"refs/heads/{b}" for b in branches] + [f"refs/tags/{t}" for t in tags])
        return repository

    def url_of(self, repository: Repository | str, *, user: str = "", password: str = "") -> str:
        """Returns a repository's URL, with credentials when they are given."""
        name = repository if isinstance(repository, str) else repository.name
        scheme, rest = self.url.split("://")
        userinfo = ":".join(quote(part, safe="") for part in (user, password) if part)
        return f"{scheme}://{userinfo}@{rest}/{name}.git" if userinfo else f"{self.url}/{name}.git"

    def fail(self, fault: Fault) -> None:
        """Makes the next matching requests go wrong."""
        self.faults.append(fault)

    def heal(self) -> None:
        """Ends all faults and forgets the requests so far."""
        self.faults.clear()
        self.requests.clear()

    def fault_for(self, path: str) -> Fault | None:
        """The fault that this request meets; each is used up after its number of requests."""
        return next((f for f in self.faults if f.takes(path)), None)

    def is_credential(self, authorization: str) -> bool:
        """Whether a basic `Authorization` header carries the token."""
        try:
            user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        return self.token in (user, password)


@contextmanager
def start_git_server(folder: Path, certificate: Path | None = None) -> Iterator[GitServer]:
    """Serves on an ephemeral port of 127.0.0.1 until it is left; everything it keeps is below `folder`.

    With a certificate (one PEM file that also holds the key) it speaks HTTPS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = GitServer(folder)
    with (folder / "git-server.log").open("ab") as log:
        handler = type("Handler", (_Handler,), {"state": state, "log": log})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        state.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.stopping.set()
            server.shutdown()
            thread.join()
            server.block_on_close = False
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: GitServer
    log: object
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_arguments: object) -> None:
        """Requests are in `GitServer.requests`; nothing goes to the terminal."""

    def _answer(self) -> None:
        self.close_connection = True
        body = self._body()
        response = self._respond(body)
        fault = self.state.fault_for(self.path)
        if fault is not None:
            response = fault.change(response)
        self.state.requests.append(Request(self.command, self.path, response.status, "Authorization" in self.headers))
        try:
            response.send(self, self.state.stopping)
        except ConnectionError:
            return  # the client left first

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _respond(self, body: bytes) -> Response:
        match = _REPOSITORY.match(urlsplit(self.path).path)
        repository = self.state.repositories.get(match[1]) if match else None
        has_credential = self.state.is_credential(self.headers.get("Authorization", ""))
        if refusal := self._refusal(repository, has_credential):
            return refusal
        assert match is not None
        assert repository is not None
        if match[2].startswith(("info/lfs", "lfs/")):
            return self._lfs(repository, match[2], body)
        return self._backend(repository, match[2], body, has_credential)

    def _refusal(self, repository: Repository | None, has_credential: bool) -> Response | None:
        challenge = Response(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"who are you\n")
        if repository is None:
            return Response(404, {}, b"not found\n") if has_credential or self._has_no_auth() else challenge
        if repository.access is Access.FORBIDDEN:
            return Response(403, {}, b"forbidden\n")
        if has_credential:
            return None
        if not self._has_no_auth() or repository.access is Access.PRIVATE or self._writes():
            return challenge
        return None

    def _has_no_auth(self) -> bool:
        return "Authorization" not in self.headers

    def _writes(self) -> bool:
        return "git-receive-pack" in self.path or self.command == "PUT"

    def _lfs(self, repository: Repository, path: str, body: bytes) -> Response:
        if path == "info/lfs/objects/batch":
            request = json.loads(body)
            if request["operation"] == "upload" and self._has_no_auth():
                return self._refusal(None, has_credential=False) or Response(401, {}, b"")
            base = f"{self.state.url}/{repository.name}.git/lfs"
            answer = repository.lfs.batch(request, base, self.headers.get("Authorization", ""))
            return Response(200, {"Content-Type": "application/vnd.git-lfs+json"}, json.dumps(answer).encode())
        if path.startswith("lfs/"):
            return self._lfs_object(repository.lfs, path.removeprefix("lfs/"), body)
        return Response(404, {}, b'{"message": "not here"}')

    def _lfs_object(self, store: LfsStore, oid: str, body: bytes) -> Response:
        if self.command == "PUT":
            return Response(200 if store.put(oid, body) else 422, {}, b"")
        content = store.get(oid)
        return Response(404, {}, b"") if content is None else Response(200, {}, content)

    def _backend(self, repository: Repository, path: str, body: bytes, has_credential: bool) -> Response:
        environment = git_environment(self.state.folder) | {
            "GIT_PROJECT_ROOT": str(self.state.folder / "repositories"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{repository.name}.git/{path}",
            "QUERY_STRING": urlsplit(self.path).query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if has_credential:
            environment["REMOTE_USER"] = self.state.user
        finished = subprocess.run(
            [os.path.join(_exec_path(), "git-http-backend")],
            env=environment,
            input=body,
            stdout=subprocess.PIPE,
            stderr=self.log,  # type: ignore[arg-type]
            check=False,
        )
        return _from_cgi(finished.stdout)


def _from_cgi(output: bytes) -> Response:
    head, _, body = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    return Response(int(headers.pop("Status", "200").split()[0]), headers, body)


@cache
def _exec_path() -> str:
    return subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
