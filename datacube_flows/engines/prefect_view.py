"""What people see of a run in Prefect: names, tags, parameters, tables, links. Pure, and without Prefect.

Nothing here comes from a Secret, and of an address no part that may hold a credential is shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from datacube_flows.api.reasons import Reason
from datacube_flows.core.observation import PodPhase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datacube_flows.api.report import TransferReport
    from datacube_flows.core.observation import AttemptSeen
    from datacube_flows.core.plan import TransferPlan

FLOW: Final = "transfer"
DEPLOYMENT: Final = "datacube"
TAG: Final = "datacube"

_PLACES: Final = {"S3_URI": "", "URL": "", "REPO": "hf:"}
"""Variable that names the store's place -> what is put before it."""

_HUB: Final = "https://huggingface.co"
_REPO_PAGES: Final = {"dataset": "/datasets", "space": "/spaces"}


def run_title(plan: TransferPlan) -> str:
    """Returns the name of a flow run."""
    return f"{plan.namespace}/{plan.name}"


def run_tags(plan: TransferPlan) -> list[str]:
    """Returns what runs can be filtered by."""
    kind = plan.kind
    return [TAG, f"store:{kind.store}", f"direction:{kind.direction}", f"namespace:{plan.namespace}"]


def run_parameters(plan: TransferPlan) -> dict[str, Any]:
    """Returns the parameters of a flow run: what is moved whereto, and how often it is tried."""
    claim, store = f"pvc:{plan.claim.name}/{plan.claim.sub_path}", store_place(plan)
    source, sink = (claim, store) if plan.kind.is_upload else (store, claim)
    return {
        "datacube": run_title(plan),
        "source": source,
        "sink": sink,
        "attempts": plan.attempts,
        "deadline_seconds": plan.deadline_seconds,
        "sync": plan.sync,
    }


def store_place(plan: TransferPlan) -> str:
    """Returns the store's end of a transfer as its document names it; the store alone where a reference names it."""
    for variable in plan.env:
        if variable.name in _PLACES and variable.value and variable.name not in plan.user_env:
            return _PLACES[variable.name] + without_credentials(variable.value)
    return str(plan.kind.store)


def store_page(plan: TransferPlan, revision: str = "") -> str:
    """Returns the address of the store's end that a browser opens; empty where there is none."""
    place = store_place(plan)
    if not place.startswith("hf:"):
        return place if place.startswith("https://") else ""
    if not (hub := _hub_pages(plan)):
        return ""
    kind = next((v.value for v in plan.env if v.name == "REPO_TYPE"), "")
    page = f"{hub}{_REPO_PAGES.get(kind or '', '')}/{place.removeprefix('hf:')}"
    return f"{page}/tree/{revision}" if revision else page


def _hub_pages(plan: TransferPlan) -> str:
    """Where the hub's pages are; a document may name a hub of its own, and then also one that is not known here."""
    named = next((v for v in plan.env if v.name == "HF_ENDPOINT"), None)
    if named is None:
        return _HUB
    address = without_credentials(named.value or "").rstrip("/")
    return address if address.startswith("https://") else ""


def without_credentials(address: str) -> str:
    """Returns an address without user, password, query and fragment."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def artifact_key(plan: TransferPlan, what: str) -> str:
    """Returns the key of an artifact: one history for each DataCube."""
    return re.sub(r"[^a-z0-9]+", "-", f"{plan.namespace}-{plan.name}-{what}".lower()).strip("-")


def attempts_table(attempts: Sequence[AttemptSeen]) -> list[dict[str, Any]]:
    """Returns a row for each attempt."""
    return [
        {
            "attempt": seen.number,
            "pod": seen.pod,
            "outcome": attempt_words(seen)[0],
            "started": _moment(seen.started),
            "finished": _moment(seen.finished),
            "exit code": "" if seen.exit_code is None else seen.exit_code,
            "message": attempt_words(seen)[1],
        }
        for seen in attempts
    ]


def result_rows(report: TransferReport) -> list[dict[str, Any]]:
    """Returns what a transfer that succeeded did, a fact a row."""
    facts = {
        "path": report.path,
        "revision": report.revision,
        "files": report.files,
        "bytes": report.bytes,
        "skipped": report.skipped,
        "verified by": report.verified,
    }
    return [{"what": name, "value": value} for name, value in facts.items() if value not in (None, "")]


def attempt_words(seen: AttemptSeen) -> tuple[str, str]:
    """Returns how an attempt ended, in its reason and a text."""
    if seen.phase is PodPhase.FAILED:
        reason, message = seen.failure
        return str(reason), message
    if seen.report is None:
        return str(Reason.TRANSFER_COMPLETE if seen.phase is PodPhase.SUCCEEDED else seen.phase), ""
    return str(seen.report.reason), _amounts(seen.report)


def _amounts(report: TransferReport) -> str:
    if report.plan is not None:
        plan = report.plan
        return f"{plan.add} to add, {plan.update} to update, {plan.delete} to delete; nothing was moved"
    text = f"{report.files} files, {report.bytes} bytes moved"
    text += f", {report.skipped} skipped" if report.skipped else ""
    return text + (f", verified by {report.verified}" if report.verified else "")


def progress_text(counters: Mapping[str, Any]) -> str:
    """Returns counters as a line under the bar."""
    parts = []
    if total := counters.get("bytesTotal"):
        parts.append(f"{counters.get('bytesDone', 0)} of {total} bytes")
    if files := counters.get("filesTotal"):
        parts.append(f"{counters.get('filesDone', 0)} of {files} files")
    if rate := counters.get("bytesPerSecond"):
        parts.append(f"{rate} bytes/s")
    return ", ".join(parts)


def _moment(moment: Any) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""
