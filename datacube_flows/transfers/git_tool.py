"""Runs git: an environment and a configuration of our own, credentials only through askpass (SECURITY 2.3).

git reads no file of configuration that is not written here, except that of a repository which this attempt made itself.
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.environment import BASE_PATH, clean_environment
from datacube_flows.transfers.git_errors import git_failure
from datacube_flows.transfers.git_progress import GitProgress
from datacube_flows.transfers.process import Finished, run_tool

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.git_remote import Remote

STALL_SECONDS: Final = 60
"""A request without a byte for so long is ended by git itself (FAULTS F37)."""

_ASKPASS: Final = """#!/bin/sh
# Answers git and git-lfs for one host only, so that a redirect elsewhere gets no credential.
case "$1" in
*" for '"{host}"'"* | *" for '"{user_host}"'"* | *' for "'{host}'"'* | *' for "'{user_host}'"'*) ;;
*" for '"{host}/* | *" for '"{user_host}/* | *' for "'{host}/* | *' for "'{user_host}/*) ;;
*) exit 1 ;;
esac
case "$1" in
Username*) exec cat {folder}/user ;;
Password*) exec cat {folder}/password ;;
esac
exit 1
"""
_CONFIG: Final = """[core]
	hooksPath = /dev/null
	fsmonitor = false
	untrackedCache = false
	commitGraph = false
	multiPackIndex = false
	alternateRefsCommand = true
	pager = cat
	editor = false
[safe]
	bareRepository = explicit
[protocol]
	allow = never
	version = 2
{protocols}[credential]
	helper =
[http]
	followRedirects = initial
	lowSpeedLimit = 1
	lowSpeedTime = {stall}
{authorities}[fetch]
	fsckObjects = true
	unpackLimit = 1
	writeCommitGraph = false
	recurseSubmodules = false
[fetch "fsck"]
{warnings}[transfer]
	bundleURI = false
	unpackLimit = 1
[gc]
	auto = 0
[maintenance]
	auto = false
[submodule]
	recurse = false
[push]
	recurseSubmodules = no
[advice]
	detachedHead = false
	pushUpdateRejected = false
[filter "lfs"]
	clean = git-lfs clean -- %f
	smudge = git-lfs smudge -- %f
	process = git-lfs filter-process
	required = true
[lfs]
	url = "{lfs_url}"
	pushurl = "{lfs_url}"
	fetchinclude =
	fetchexclude =
	skipdownloaderrors = false
	allowincompletepush = false
	locksverify = false
	fetchrecentalways = false
	activitytimeout = {stall}
[lfs "transfer"]
	maxretries = 4
"""
_HARMLESS: Final = (
    "badTimezone", "missingSpaceBeforeDate", "zeroPaddedFilemode", "badFilemode", "badDateOverflow", "badEmail",
    "missingEmail", "missingNameBeforeEmail", "badName", "missingSpaceBeforeEmail", "multipleAuthors",
    "missingTaggerEntry", "badTagName", "zeroPaddedDate", "nullSha1", "extraHeaderEntry", "fullPathname",
)  # fmt: skip
"""Findings of fsck in real histories that endanger nobody: warnings, not errors. What could (`.git` in a tree, odd
`.gitmodules`, duplicate entries) stays an error."""


@dataclass(frozen=True, slots=True)
class Git:
    """git with its environment, for one attempt; `at` gives the same for a repository.

    Every method passes the repository explicitly, so none is ever searched for, and ownership checks on volumes that
    map users do not stand in the way (tektoncd/pipeline#5122).
    """

    attempt: Attempt
    remote: Remote
    env: Mapping[str, str]
    git_dir: Path | None = None
    work_tree: Path | None = None
    index: Path | None = None

    def at(self, git_dir: Path, *, work_tree: Path | None = None, index: Path | None = None) -> Git:
        """The same git for a repository that this attempt made itself."""
        return replace(self, git_dir=git_dir, work_tree=work_tree, index=index)

    def run(
        self,
        *arguments: str,
        doing: str = "working on the clone of",
        allowed: Collection[int] = (0,),
        stdin: bytes = b"",
        more_env: Mapping[str, str] | None = None,
    ) -> Finished:
        """Runs one git command to its end.

        Raises:
            TransferError: it ended with a code that is not allowed; the reason comes from its words.
        """
        finished = self.try_run(*arguments, stdin=stdin, more_env=more_env)
        if finished.code not in allowed:
            raise git_failure(finished, self.remote, doing)
        return finished

    def try_run(self, *arguments: str, stdin: bytes = b"", more_env: Mapping[str, str] | None = None) -> Finished:
        """Runs one git command and returns how it ended, well or not."""
        places = {"GIT_DIR": self.git_dir, "GIT_WORK_TREE": self.work_tree, "GIT_INDEX_FILE": self.index}
        progress = GitProgress(self.attempt.progress)
        finished = run_tool(
            ["git", *arguments],
            env={**(more_env or {}), **self.env, **{name: str(path) for name, path in places.items() if path}},
            redact=self.attempt.redact,
            stop=self.attempt.stop,
            cwd=self.work_tree or self.git_dir or self.attempt.scratch,
            stdin=stdin,
            on_line=progress.read,
        )
        progress.finish()
        return finished

    def ask(self, *arguments: str, stdin: bytes = b"") -> str:
        """Runs one git command and returns what it printed, without the last line's end."""
        return self.run(*arguments, stdin=stdin).stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    def is_true(self, *arguments: str) -> bool:
        """Runs one git command that answers with its exit code."""
        return self.try_run(*arguments).code == 0


def make_git(attempt: Attempt, remote: Remote) -> Git:
    """Returns git for one attempt; its configuration and credentials are files in the attempt's private folder.

    Raises:
        TransferError: git or git-lfs is not installed.
    """
    folder = attempt.scratch / "git"
    folder.mkdir(mode=0o700)
    _write(folder / "config", _config(attempt, remote))
    ours = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(folder / "config"),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": str(_write_askpass(folder, remote)),
        "GIT_ALLOW_PROTOCOL": ":".join(attempt.settings.allowed_schemes),
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_SSH_COMMAND": "false",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LFS_SKIP_SMUDGE": "0",
        "LC_ALL": "C.UTF-8",
    }
    user_env = {name: value for name, value in attempt.env.items() if not name.upper().startswith("GIT_")}
    return Git(attempt, remote, clean_environment(user_env, home=attempt.scratch, path=_tool_path()) | ours)


def _tool_path() -> str:
    """Returns a PATH that begins where git is."""
    found = shutil.which("git")
    if found is None or shutil.which("git-lfs") is None:
        raise TransferError(Reason.TRANSFER_ERROR, "git and git-lfs are not both installed here: install them")
    return f"{Path(found).parent}:{Path(str(shutil.which('git-lfs'))).parent}:{BASE_PATH}"


def _config(attempt: Attempt, remote: Remote) -> str:
    bundle = attempt.settings.ca_bundle
    return _CONFIG.format(
        protocols="".join(f'[protocol "{s}"]\n\tallow = always\n' for s in attempt.settings.allowed_schemes),
        authorities=f'\tsslCAInfo = "{bundle}"\n' if bundle else "",
        warnings="".join(f"\t{name} = warn\n" for name in _HARMLESS),
        lfs_url=remote.lfs_url,
        stall=STALL_SECONDS,
    )


def _write_askpass(folder: Path, remote: Remote) -> Path:
    _write(folder / "user", f"{remote.user}\n")
    _write(folder / "password", f"{remote.password}\n")
    scheme, _, rest = remote.url.partition("://")
    host = f"{scheme}://{rest.partition('/')[0]}"
    user_host = host.replace("://", f"://{quote(remote.user, safe='')}@", 1)
    script = _ASKPASS.format(host=shlex.quote(host), user_host=shlex.quote(user_host), folder=shlex.quote(str(folder)))
    _write(folder / "askpass", script if remote.password else "#!/bin/sh\nexit 1\n")
    (folder / "askpass").chmod(0o700)
    return folder / "askpass"


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
