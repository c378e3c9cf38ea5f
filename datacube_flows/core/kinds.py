"""The six transfers as six rows of data. Validation, env order, CRD, docs and tests read them; nothing else lists them.

Rows come from SPEC sections 2, 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from datacube_flows.api.ends import EndType


class Direction(StrEnum):
    """Which way the bytes go, seen from the volume."""

    DOWNLOAD = "download"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Option:
    """One entry that `options` of a store may hold.

    Attributes:
        name: as users write it; the attempt sees it as `env_name`.
        help: one sentence, shown in docs and in `kubectl explain`.
        required: a document without it is refused.
        literal: must be a direct `value`, since it decides what is rendered.
        secret: a credential: it is redacted everywhere, and given as a literal it earns a warning.
        default: what applies when it is absent; empty where absence itself has a meaning.
        choices: the only values it may have; empty where any will do.
        prose: text for people: it may begin with `-` and hold newlines and tabs.
    """

    name: str
    help: str
    required: bool = False
    literal: bool = False
    secret: bool = False
    default: str = ""
    choices: tuple[str, ...] = ()
    prose: bool = False

    @property
    def env_name(self) -> str:
        """Name of the environment variable: upper case, `-` as `_` (SPEC section 2)."""
        return env_name(self.name)


@dataclass(frozen=True, slots=True)
class TransferKind:
    """One row: a store, a direction, and all that follows from them.

    Attributes:
        tool: the program that takes over when `extraArgs` are given.
        verbs: sub-commands of that tool whose arguments may be given.
        sync: whether `executor.options.sync` is allowed.
    """

    store: EndType
    direction: Direction
    tool: str
    verbs: tuple[str, ...]
    options: tuple[Option, ...]
    sync: bool = False

    @property
    def name(self) -> str:
        """`git-download`, `s3-upload`, ... : what attempts are started with and labels carry."""
        return f"{self.store}-{self.direction}"

    @property
    def is_upload(self) -> bool:
        """Whether the volume is the source."""
        return self.direction is Direction.UPLOAD

    def option(self, name: str) -> Option | None:
        """The option of that name, or None."""
        return next((o for o in self.options if o.name == name), None)


def env_name(option_name: str) -> str:
    """Name of the environment variable that carries an option: `s3-uri` -> `S3_URI` (SPEC section 2)."""
    return option_name.upper().replace("-", "_")


_FLAG = ("true", "false")
_GIT_URL = Option("url", "URL of the repository; `$(TOKEN)` in it is replaced by option `token`.", required=True)
_GIT_TOKEN = Option("token", "Personal access token.", secret=True)
_HF_COMMON = (
    Option("repo", "Name of the repository on the hub, `owner/name`.", required=True),
    Option("token", "Access token of the hub; needed for private and gated repositories.", secret=True),
    Option("revision", "Branch, tag or commit in the hub's repository.", default="main"),
    Option("repo-type", "`model`, `dataset` or `space`.", default="model", choices=("model", "dataset", "space")),
)
_S3_COMMON = (
    Option("s3-uri", "Object or prefix: `s3://bucket/path`.", required=True, literal=True),
    Option("s3-endpoint", "URL of the S3 service; absent: AWS."),
    Option("s3-access-key-id", "Access key; absent: the pod's own identity, then anonymous.", secret=True),
    Option("s3-secret-access-key", "Secret of the access key.", secret=True),
    Option("s3-session-token", "Session token of temporary credentials.", secret=True),
    Option("s3-region", "Region of the bucket.", default="us-east-1"),
    Option("s3-addressing-style", "`path`, `virtual` or `auto`.", default="auto", choices=("path", "virtual", "auto")),
)

KINDS: Final = (
    TransferKind(
        EndType.GIT,
        Direction.DOWNLOAD,
        tool="git",
        verbs=("clone", "fetch"),
        options=(
            _GIT_URL,
            _GIT_TOKEN,
            Option("ref", "Branch, tag or commit to switch to.", default="master"),
        ),
    ),
    TransferKind(EndType.GIT, Direction.UPLOAD, tool="git", verbs=("push",), options=(_GIT_URL, _GIT_TOKEN)),
    TransferKind(
        EndType.HUGGINGFACE,
        Direction.DOWNLOAD,
        tool="hf",
        verbs=("download",),
        options=(
            *_HF_COMMON,
            Option("files", "Comma-separated files to fetch; absent: the whole repository.", literal=True),
        ),
    ),
    TransferKind(
        EndType.HUGGINGFACE,
        Direction.UPLOAD,
        tool="hf",
        verbs=("upload",),
        options=(
            *_HF_COMMON,
            Option("path-in-repo", "Where in the repository the data goes; a file keeps its name below `path/`."),
            Option("commit-message", "Message of the commit; absent: it says what was uploaded.", prose=True),
            Option("private", "`true` or `false`: create a missing repository with this visibility.", choices=_FLAG),
        ),
    ),
    TransferKind(
        EndType.S3,
        Direction.DOWNLOAD,
        tool="rclone",
        verbs=("copy", "sync"),
        options=_S3_COMMON,
        sync=True,
    ),
    TransferKind(
        EndType.S3,
        Direction.UPLOAD,
        tool="rclone",
        verbs=("copy",),
        options=(
            *_S3_COMMON,
            Option("s3-no-check-bucket", '`"true"`: do not check the bucket.', default="false", choices=_FLAG),
        ),
    ),
)
_BY_NAME: Final = {k.name: k for k in KINDS}


def kind_of(store: EndType, direction: Direction) -> TransferKind:
    """Returns the row for a store and a direction; raises KeyError for `pvc`, which is no store."""
    return _BY_NAME[f"{store}-{direction}"]


def kind_named(name: str) -> TransferKind:
    """Returns the row called `name` (`s3-download`); raises KeyError when there is none."""
    return _BY_NAME[name]
