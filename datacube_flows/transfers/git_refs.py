"""What the remote offers, and which of it option `ref` means: a branch, a tag or a commit."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.git_errors import git_failure, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.git_tool import Git
    from datacube_flows.transfers.process import Finished

FULL_ID = re.compile(r"[0-9a-f]{40}")
_ABBREVIATED = re.compile(r"[0-9a-f]{4,40}")
UNFIT_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|^[-/]|\.\.|@\{|//|/$|\.$|\.lock(/|$)|(^|/)\.")
"""What no ref's name may hold (git-check-ref-format)."""
_PAUSES: Final = (0.5, 1.0, 2.0)
_LONGEST_PAUSE: Final = 60.0
_RETRY_AFTER = re.compile(r"retry-after: (\d+)", re.IGNORECASE)
_SMART: Final = "application/x-git-upload-pack"
_TRACE: Final = {"GIT_TRACE_CURL": "2", "GIT_TRACE_CURL_NO_DATA": "1", "GIT_TRACE_REDACT": "1"}
"""Shows the headers of answers: git obeys no Retry-After, and takes any page for an old server's empty list of refs."""


class RefKind(Enum):
    """What a ref is."""

    BRANCH = "branch"
    TAG = "tag"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be checked out: a branch or tag by name, a commit by its (perhaps abbreviated) id."""

    kind: RefKind
    name: str

    @property
    def remote_ref(self) -> str:
        """Full name at the remote, "" for a commit."""
        return {RefKind.BRANCH: f"refs/heads/{self.name}", RefKind.TAG: f"refs/tags/{self.name}"}.get(self.kind, "")

    @property
    def local_ref(self) -> str:
        """Where a fetch puts it; for a commit its id."""
        return f"refs/remotes/origin/{self.name}" if self.kind is RefKind.BRANCH else (self.remote_ref or self.name)

    @property
    def refspec(self) -> str:
        """What to ask a fetch for."""
        return f"+{self.remote_ref}:{self.local_ref}" if self.remote_ref else self.name

    def __str__(self) -> str:
        return f"{self.kind.value} '{self.name}'"


@dataclass(frozen=True, slots=True)
class Advertised:
    """Refs of the remote: full name -> id, and the branch that its HEAD points at ("" when unknown)."""

    refs: Mapping[str, str] = field(default_factory=dict)
    head_branch: str = ""


def find_target(git: Git) -> Target:
    """Returns what option `ref` means at the remote; says so when its default had to be replaced.

    Raises:
        TransferError: RefNotFound, SourceEmpty for a repository without commits, or why the remote did not answer.
    """
    attempt = git.attempt
    ref = attempt.option("ref")
    name = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if UNFIT_REF.search(ref):
        raise TransferError(Reason.REF_NOT_FOUND, f"'{ref}' cannot be a branch, tag or commit: check option ref")
    offered = list_remote(git, "HEAD", f"refs/heads/{name}", f"refs/tags/{name}")
    if not ref.startswith("refs/tags/") and f"refs/heads/{name}" in offered.refs:
        return Target(RefKind.BRANCH, name)
    if not ref.startswith("refs/heads/") and f"refs/tags/{name}" in offered.refs:
        return Target(RefKind.TAG, name)
    if "ref" in attempt.options:
        return _commit(git, ref)
    return _default_branch(git, offered, ref)


def _commit(git: Git, ref: str) -> Target:
    everything = list_remote(git, "--heads", "--tags")
    if not everything.refs:
        raise _empty(git)
    if _ABBREVIATED.fullmatch(ref.lower()):
        return Target(RefKind.COMMIT, ref.lower())
    names = [r.split("/", 2)[2] for r in everything.refs if not r.endswith("^{}")]
    close = difflib.get_close_matches(ref, names, n=3)
    hint = f" (there are {', '.join(close)})" if close else ""
    raise ref_not_found(git, ref, hint)


def _default_branch(git: Git, offered: Advertised, ref: str) -> Target:
    if not offered.head_branch or "HEAD" not in offered.refs:
        if not list_remote(git, "--heads", "--tags").refs:
            raise _empty(git)
        raise ref_not_found(git, ref, " and the remote names no default branch")
    git.attempt.progress.notice(
        f"the remote has no branch '{ref}': its default branch '{offered.head_branch}' was taken; set option ref"
    )
    return Target(RefKind.BRANCH, offered.head_branch)


def ref_not_found(git: Git, ref: str, hint: str = "") -> TransferError:
    """Returns the error that names a ref which the remote does not have."""
    text = f"{git.remote.url} has no branch, tag or reachable commit '{ref}'{hint}: check option ref"
    return TransferError(Reason.REF_NOT_FOUND, text)


def _empty(git: Git) -> TransferError:
    return TransferError(Reason.SOURCE_EMPTY, f"{git.remote.url} has no commit yet: push something to it first")


def list_remote(git: Git, *what: str) -> Advertised:
    """Asks the remote for refs; waits and asks again when the server is in trouble or limits the rate (FAULTS F42)."""
    flags = [w for w in what if w.startswith("--")]
    patterns = [w for w in what if not w.startswith("--")]
    argv = ("ls-remote", "--symref", *flags, "--", git.remote.url, *patterns)
    finished = git.try_run(*argv, more_env=_TRACE)
    for pause in _PAUSES:
        if finished.code == 0 or reason_of(_without_trace(finished).text) is not Reason.SERVER_ERROR:
            break
        git.attempt.stop.wait(_pause(git.attempt, finished, pause))
        finished = git.try_run(*argv, more_env=_TRACE)
    if finished.code:
        raise git_failure(_without_trace(finished), git.remote, "reading")
    if not finished.stdout and _SMART not in finished.text:
        text = (
            f"{git.remote.url} answers with something that is not Git (a login page?): check option url and the proxy"
        )
        raise TransferError(Reason.TRANSFER_ERROR, text)
    return _parse(finished.stdout.decode("utf-8", "surrogateescape"))


def _pause(attempt: Attempt, finished: Finished, usual: float) -> float:
    """Returns how long to wait: what the server asked for, else the usual time."""
    asked = _RETRY_AFTER.search(finished.text)
    attempt.progress.alive()
    return min(float(asked[1]), _LONGEST_PAUSE) if asked else usual


def _without_trace(finished: Finished) -> Finished:
    lines = tuple(line for line in finished.tail if " http.c:" not in line and " == Info" not in line)
    return replace(finished, tail=lines)


def _parse(text: str) -> Advertised:
    refs, head = {}, ""
    for line in text.splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: refs/heads/") and name == "HEAD":
            head = value.removeprefix("ref: refs/heads/")
        elif FULL_ID.fullmatch(value):
            refs[name] = value
    return Advertised(refs, head)
