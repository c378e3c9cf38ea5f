"""A repository with every trap that a hostile owner of a volume could set: each leaves a mark when it fires."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAKING = "[include]\n\tpath = /etc/passwd\n"
"""git fails on this and shows a line of that file."""

HOOKS = (
    "applypatch-msg", "commit-msg", "fsmonitor-watchman", "post-checkout", "post-commit", "post-index-change",
    "post-merge", "post-receive", "post-rewrite", "post-update", "pre-auto-gc", "pre-commit", "pre-push", "pre-rebase",
    "pre-receive", "prepare-commit-msg", "push-to-checkout", "reference-transaction", "update",
)  # fmt: skip
_CONFIG = """
[core]
	fsmonitor = "{fire}"
	sshCommand = "{fire}"
	gitProxy = "{fire}"
	askPass = "{fire}"
	pager = "{fire}"
	editor = "{fire}"
	hooksPath = {hooks}
	attributesFile = {attributes}
	alternateRefsCommand = "{fire}"
	worktree = {elsewhere}
[sequence]
	editor = "{fire}"
[include]
	path = {included}
[credential]
	helper = "!{fire}"
[filter "trap"]
	smudge = "{fire}"
	clean = "{fire}"
	required = true
[filter "lfs"]
	smudge = "{fire}"
	clean = "{fire}"
	process = "{fire}"
[diff]
	external = "{fire}"
[diff "trap"]
	textconv = "{fire}"
	command = "{fire}"
[merge "trap"]
	driver = "{fire} %A"
[alias]
	fetch = "!{fire}"
	push = "!{fire}"
	status = "!{fire}"
	lfs = "!{fire}"
[url "{canary}/"]
	insteadOf = {server}/
	pushInsteadOf = {server}/
[http]
	proxy = {canary}
	sslVerify = false
	extraHeader = "X-Trap: yes"
	cookieFile = /etc/passwd
[remote "origin"]
	url = {canary}/x.git
	pushurl = {canary}/x.git
	uploadpack = "{fire}"
	receivepack = "{fire}"
	proxy = {canary}
[protocol]
	allow = always
[lfs]
	url = {canary}/lfs
	pushurl = {canary}/lfs
	concurrenttransfers = 1
[lfs "customtransfer.trap"]
	path = "{fire}"
[lfs "extension.trap"]
	clean = "{fire}"
	smudge = "{fire}"
	priority = 0
[uploadpack]
	packObjectsHook = "{fire}"
[gpg]
	program = "{fire}"
[commit]
	gpgSign = true
[submodule]
	recurse = true
[gc]
	auto = 1
"""


@dataclass
class Canary:
    """A server that no transfer may ever talk to."""

    url: str = ""
    visits: list[str] = field(default_factory=list)


@contextmanager
def listen() -> Iterator[Canary]:
    """Accepts connections on loopback and remembers each."""
    canary = Canary()
    with socket.create_server(("127.0.0.1", 0)) as server:
        canary.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        server.settimeout(0.05)
        done = threading.Event()
        thread = threading.Thread(target=_accept, args=(server, canary, done), daemon=True)
        thread.start()
        try:
            yield canary
        finally:
            done.set()
            thread.join()


def _accept(server: socket.socket, canary: Canary, done: threading.Event) -> None:
    while not done.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(1)
            canary.visits.append(connection.recv(65536).decode("latin-1"))


@dataclass(frozen=True)
class Traps:
    """The traps of one repository; `mark` exists when one fired."""

    folder: Path
    mark: Path

    def set_in(self, place: Path, *, server: str, canary: str) -> None:
        """Sets all of them in `.git` of the repository at `place`."""
        fire = self._script()
        hooks, elsewhere = self.folder / "hooks", self.folder / "elsewhere"
        elsewhere.mkdir()
        for target in (hooks, place / ".git" / "hooks"):
            target.mkdir(exist_ok=True)
            for name in HOOKS:
                (target / name).write_text(fire.read_text())
                (target / name).chmod(0o755)
        attributes = "* filter=trap diff=trap merge=trap\n"
        (self.folder / "attributes").write_text(attributes)
        (place / ".git" / "info").mkdir(exist_ok=True)
        (place / ".git" / "info" / "attributes").write_text(attributes)
        (self.folder / "included").write_text(f'[core]\n\tsshCommand = "{fire}"\n\tfsmonitor = "{fire}"\n')
        text = _CONFIG.format(
            fire=fire,
            hooks=hooks,
            attributes=self.folder / "attributes",
            elsewhere=elsewhere,
            included=self.folder / "included",
            canary=canary,
            server=server,
        )
        with (place / ".git" / "config").open("a") as config:
            config.write(text)

    def _script(self) -> Path:
        script = self.folder / "fire"
        script.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{self.mark}'\nexit 1\n")
        script.chmod(0o755)
        return script

    @property
    def fired(self) -> str:
        """What fired, "" when nothing did."""
        return self.mark.read_text() if self.mark.exists() else ""


def make_traps(folder: Path) -> Traps:
    """Returns traps whose scripts and mark are below `folder`."""
    folder.mkdir()
    return Traps(folder, folder / "fired")
