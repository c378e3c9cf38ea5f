"""What a status says, in a line for a person: on a terminal, or in a log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from datacube_flows.api.reasons import Reason
from datacube_flows.api.status import ConditionType, Phase

if TYPE_CHECKING:
    from datacube_flows.api.status import DataCubeStatus


def describe(values: dict[str, Any]) -> str:
    """Returns counters as one line: percent, bytes, files, rate, time left."""
    done, total = values.get("bytesDone", 0), values.get("bytesTotal", 0)
    parts = [f"{decimal(done)} of {decimal(total)}" if total else decimal(done)]
    if "percent" in values:
        parts.insert(0, f"{values['percent']} %")
    if files := values.get("filesTotal"):
        parts.append(f"{values.get('filesDone', 0)} of {files} files")
    if rate := values.get("bytesPerSecond"):
        parts.append(f"{decimal(rate)}/s")
    if (left := values.get("etaSeconds")) is not None:
        parts.append(f"{left} s left")
    return ", ".join(parts)


def summary(status: DataCubeStatus) -> str:
    """Returns what a run that succeeded did, in one line."""
    if plan := status.plan:
        changes = f"{plan.add} to add, {plan.update} to update, {plan.delete} to delete"
        return f"dry run: {changes}, {decimal(plan.bytes)}; nothing was moved"
    result = status.result
    if result is None:
        return ""
    parts = [f"{_files(result.files)}, {decimal(result.bytes or 0)} moved"]
    if result.skipped:
        parts.append(f"{result.skipped} skipped")
    parts.append(f"verified by {result.verified}")
    if result.revision:
        parts.append(f"revision {result.revision[:12]}")
    if outcome(status)[0] == Reason.UP_TO_DATE:
        parts[0] = "up to date, nothing moved"
    return ", ".join(parts) + f"; {result.path or '/'}"


def _files(number: int | None) -> str:
    return "1 file" if number == 1 else f"{number or 0} files"


def outcome(status: DataCubeStatus) -> tuple[str, str]:
    """Returns reason and message of the condition that says how the run stands; of one that goes on, what is said."""
    final = {Phase.SUCCEEDED: (ConditionType.COMPLETE,), Phase.FAILED: (ConditionType.FAILED,)}
    kinds = final.get(status.phase or Phase.PENDING, (ConditionType.INITIALIZED, ConditionType.COMPLETE))
    said = {c.type: (c.reason or "", c.message or "") for c in status.conditions or () if c.reason}
    return next((said[kind] for kind in kinds if kind in said), ("", ""))
