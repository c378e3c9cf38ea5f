"""The Git remote of an attempt: its URL without credentials, the credentials apart from it, its folder's name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from datacube_flows.api.reasons import Reason
from datacube_flows.core.urls import check_url, repository_name
from datacube_flows.errors import TransferError
from datacube_flows.transfers.base import NEVER_MOVED

if TYPE_CHECKING:
    from datacube_flows.transfers.base import Attempt

TOKEN_USER: Final = "x-access-token"  # noqa: S105 - a name
"""User name sent with a token that came without one. GitHub documents it for installation tokens; GitHub, GitLab,
Gitea and Azure DevOps accept any name beside a token that is the password. Others are written `user:$(TOKEN)@host`."""

_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?")
_PATH = re.compile(r"[^\"'?#]*")
_NO_NAMES: Final = NEVER_MOVED | {".git"}


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a Git repository is.

    Attributes:
        url: without credentials; the only form that reaches argv, disk and messages.
        name: folder of the repository on the volume.
        user: empty when nothing is known to log in with.
        password: secret.
    """

    url: str
    name: str
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def lfs_url(self) -> str:
        """Where the LFS server of this repository is by convention (git-lfs, docs/api/server-discovery.md)."""
        base = self.url.rstrip("/")
        return f"{base}/info/lfs" if base.endswith(".git") else f"{base}.git/info/lfs"


def parse_remote(attempt: Attempt) -> Remote:
    """Returns the remote that options `url` and `token` describe.

    Raises:
        TransferError: InvalidSpec for a URL that may not be spoken or has no repository's name.
    """
    token, url = attempt.option("token"), attempt.option("url")
    if token:  # the kubelet puts a token into the URL as it is, without URL-encoding
        url = url.replace(f"{token}@", f"{quote(token, safe='')}@", 1)
    if problem := check_url(url, attempt.settings.allowed_schemes):
        raise _refused(problem)
    parts = urlsplit(url)
    userinfo, _, address = parts.netloc.rpartition("@")
    if not _AUTHORITY.fullmatch(address) or not _PATH.fullmatch(parts.path) or parts.query or parts.fragment:
        raise _refused("the URL is not a repository's: write it as https://host/path and encode special characters")
    clean = urlunsplit((parts.scheme, address, parts.path, "", ""))
    return Remote(clean, _folder_name(clean), *_credentials(userinfo, token))


def _folder_name(url: str) -> str:
    name = repository_name(url)
    if not name or name in _NO_NAMES or name.startswith("-"):
        raise _refused("the URL's last part names no repository that can be a folder")
    return name


def _credentials(userinfo: str, token: str) -> tuple[str, str]:
    """Returns user and password.

    `TOKEN@host` is how tokens are written most: a lone part is one, unless it differs from the option `token`, which
    is then the password of that user.
    """
    user, _, password = (unquote(part) for part in userinfo.partition(":"))
    if user and password:
        return user, password
    if token and user != token:
        return user or TOKEN_USER, token
    return (TOKEN_USER, user) if user else ("", "")


def _refused(problem: str) -> TransferError:
    return TransferError(Reason.INVALID_SPEC, f"option url: {problem}")
