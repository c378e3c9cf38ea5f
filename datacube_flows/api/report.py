"""The typed report with which an attempt ends: what crosses from the transfer to whoever started it.

Stdlib only, because the attempt's process starts once per try. Reading one is reading untrusted input.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from datacube_flows.api.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REPORT_BYTES = 2048
"""What survives in a termination message beside an engine's own containers (Kubernetes divides 12288 bytes by all
containers of a pod)."""

MAX_MESSAGE = 1024
MAX_REVISION = 253
VERIFIED = ("", "checksum", "size", "git", "none")
MAX_COUNT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What one attempt did.

    Attributes:
        reason: `TransferComplete` or `UpToDate` after success, else why the attempt failed.
        message: for a person: what happened, to what, what to do. Redacted.
        listed: files that the source offered (for git: files of the checked-out tree, or of the pushed commit).
        files: files that were moved.
        skipped: files that were listed and not moved, each for a stated cause (unchanged, symlink, special file).
        deleted: files that a sync removed.
        bytes: bytes of the moved files.
        verified: how the result was checked: `checksum`, `size`, `git` or `none`.
        revision: the commit that was moved; empty for S3.
        path: where the data is, from the claim's root.
        notices: short remarks that a person should see, at most a few.
    """

    reason: Reason
    message: str = ""
    listed: int = 0
    files: int = 0
    skipped: int = 0
    deleted: int = 0
    bytes: int = 0
    verified: str = ""
    revision: str = ""
    path: str = ""
    notices: tuple[str, ...] = ()
    plan: ChangePlan | None = None

    def render(self) -> str:
        """Returns the report as one JSON line of at most `MAX_REPORT_BYTES` bytes, the longest texts cut first."""
        report = replace(self, message=self.message[:MAX_MESSAGE])
        while len(text := report._json().encode("utf-8", "replace")) > MAX_REPORT_BYTES:
            if report.notices:
                report = replace(report, notices=report.notices[:-1])
            elif len(report.message) > 64:  # noqa: PLR2004 - below that the cause lies in another field
                report = replace(report, message=report.message[: len(report.message) // 2])
            else:
                path, revision, verified = (
                    report.path[: len(report.path) // 2],
                    report.revision[:64],
                    report.verified[:64],
                )
                report = replace(report, path=path, revision=revision, verified=verified)
        return text.decode()

    def _json(self) -> str:
        values = {k: v for k, v in asdict(self).items() if v not in ("", (), None)}
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """What a transfer would do (dry run): numbers of files, and the bytes that would move."""

    add: int = 0
    update: int = 0
    delete: int = 0
    bytes: int = 0


def parse_report(text: str) -> TransferReport | None:
    """Returns the report that `text` holds, or None where it holds none (a foreign or cut termination message)."""
    try:
        values = json.loads(text)
        return _report(values)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _count(value: Any) -> int:
    """A number of files or bytes; raises ValueError for one that no volume holds."""
    number = int(value)
    if not 0 <= number <= MAX_COUNT:
        raise ValueError(number)
    return number


def _verified(value: Any) -> str:
    if value not in VERIFIED:
        raise ValueError(value)
    return str(value)


def _short(value: Any) -> str:
    return str(value)[:MAX_MESSAGE]


def _report(values: dict[str, Any]) -> TransferReport:
    known: dict[str, Any] = {}
    for field in fields(TransferReport):
        if field.name not in values or field.name in ("notices", "plan"):
            continue
        cast: Callable[[Any], Any] = _CASTS.get(field.name, _count)
        known[field.name] = cast(values[field.name])
    plan = values.get("plan")
    return TransferReport(
        **known,
        notices=tuple(str(n)[:MAX_MESSAGE] for n in values.get("notices", ())),
        plan=ChangePlan(**{k: _count(plan.get(k, 0)) for k in ("add", "update", "delete", "bytes")}) if plan else None,
    )


_CASTS: dict[str, Callable[[Any], Any]] = {
    "reason": lambda value: Reason(str(value)),
    "message": _short,
    "verified": _verified,
    "revision": lambda value: str(value)[:MAX_REVISION],
    "path": _short,
}
