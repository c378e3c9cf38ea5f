"""What every transfer is given and what it gives back: the protocol that a store implements. No store is named here."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from datacube_flows.transfers.progress import Progress
from datacube_flows.transfers.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_flows.api.report import ChangePlan, TransferReport
    from datacube_flows.core.kinds import TransferKind

WORK_FOLDER = ".datacube"
"""Folder below the transfer's own folder for everything unfinished: stages and parts. Never uploaded, never synced
away, empty (and removed) after a run that ended well."""

NEVER_MOVED = frozenset({WORK_FOLDER, "lost+found"})
"""Names at the root of a folder that no upload reads and no sync deletes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a transfer is to behave; straight from the plan, never secret.

    Attributes:
        verify: `checksum`, `size` or `none`.
        max_delete: files that a sync may delete; None is no limit.
        stall_timeout: seconds without a byte that end the attempt; None is never.
        bandwidth_limit: bytes per second; None is no limit.
        allowed_schemes: URL schemes that may be spoken, from `https` and `http`.
        ca_bundle: PEM file with the authorities to trust; None is the system's.
    """

    sync: bool = False
    verify: str = "checksum"
    max_delete: int | None = None
    dry_run: bool = False
    stall_timeout: int | None = None
    bandwidth_limit: int | None = None
    allowed_schemes: tuple[str, ...] = ("https",)
    ca_bundle: Path | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """Everything that one attempt of a transfer knows.

    Attributes:
        options: option name -> resolved value (SPEC section 2); options that are absent or empty are not in it.
        env: the user's `executor.env`, resolved; tools get these on top of a clean environment.
        folder: for a download the folder that the data goes into (made already; the jail). For an upload the root of
            the volume, mounted read-only.
        sub_path: the document's `subPath`, normalised, "" for the root. A download uses it only to name paths in the
            report; an upload resolves its source with it (see `paths.resolve_source`).
        scratch: an empty private folder outside the volume, removed after the attempt.
        redact: removes secret values from any text; everything that leaves the process passes it.
        stop: set when the attempt has been told to end; loops look at it between chunks.
    """

    kind: TransferKind
    options: Mapping[str, str]
    env: Mapping[str, str]
    folder: Path
    sub_path: str
    extra_args: tuple[str, ...]
    settings: Settings
    scratch: Path
    progress: Progress = field(default_factory=Progress)
    redact: Redactor = field(default_factory=Redactor)
    stop: threading.Event = field(default_factory=threading.Event)

    def option(self, name: str) -> str:
        """The resolved value of an option, its row's default where it is absent, "" where there is none.

        Raises:
            KeyError: the kind has no such option (a bug).
        """
        row = self.kind.option(name)
        if row is None:
            raise KeyError(name)
        return self.options.get(name) or row.default


class Transfer(Protocol):
    """One store. Every method raises TransferError with the reason that fits, and nothing else on purpose.

    A method returns only after the result was verified as `settings.verify` says; counts in its report add up
    (`listed == files + skipped`).
    """

    def download(self, attempt: Attempt) -> TransferReport:
        """Moves from the store into `attempt.folder`."""

    def upload(self, attempt: Attempt) -> TransferReport:
        """Moves from `attempt.folder / attempt.sub_path` to the store."""

    def plan(self, attempt: Attempt) -> ChangePlan:
        """Says what `download` or `upload` (as `attempt.kind` says) would change, and changes nothing."""
