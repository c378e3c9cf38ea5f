"""Hands the work to `rclone`, as `extraArgs` ask for. What may be moved and deleted, and whether it was, is still ours.

Credentials reach the tool by its environment only. The source is listed first: rclone takes a missing prefix for an
empty one, and would empty the folder in a sync.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import TransferReport
from datacube_flows.core.extra_args import ToolArguments, arguments_for
from datacube_flows.errors import TransferError
from datacube_flows.transfers.base import WORK_FOLDER
from datacube_flows.transfers.environment import BASE_PATH, clean_environment
from datacube_flows.transfers.paths import resolve_source
from datacube_flows.transfers.process import run_tool
from datacube_flows.transfers.s3_errors import explain_text
from datacube_flows.transfers.s3_objects import RemoteTree, find_source
from datacube_flows.transfers.s3_selection import NONE, Selection, check_space, select, verify_placed, walk_files
from datacube_flows.transfers.s3_upload import Sends, choose

if TYPE_CHECKING:
    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.s3_client import S3Client
    from datacube_flows.transfers.s3_target import S3Target

REMOTE: Final = "STORE"
PARTIAL_SUFFIX: Final = ".datacubepart"
_FILTERS = ("--include", "--exclude", "--filter", "--hash-filter", "--max-", "--min-")
_PROTECTED = ("/lost+found/**", f"/{WORK_FOLDER}/**")
_FIXED = (
    "--use-json-log",
    "--stats=1s",
    "--stats-one-line",
    "--stats-log-level=NOTICE",
    f"--partial-suffix={PARTIAL_SUFFIX}",
)
_DEFAULTS = ("--retries=1", "--low-level-retries=5", "--contimeout=15s", "--timeout=60s", "--transfers=16")
_STATS = re.compile(r'"stats":\{"bytes":(\d+).*?"totalBytes":(\d+)')
_DONE = re.compile(r"xfr#(\d+)/(\d+)")


async def download_with_rclone(client: S3Client) -> TransferReport:
    """Lets `rclone copy` or `sync` fill the folder, then compares it with the store's listing and reports.

    Raises:
        TransferError: as the built-in download; IntegrityMismatch where a file is not the object afterwards.
    """
    attempt = client.attempt
    tree = await find_source(client, sync=attempt.settings.sync)
    before = await select(attempt.folder, tree, attempt.settings)
    check_space(attempt.folder, before.moves)
    verb = "sync" if attempt.settings.sync and not tree.is_single else "copy"
    arguments = _arguments(attempt, verb)
    _remove_partials(attempt.folder)
    try:
        where = (f"{REMOTE}:{client.target.uri.bucket}/{client.target.uri.key}", str(attempt.folder))
        await _run(
            client, [verb, *_DEFAULTS, *arguments.argv, *_sync_flags(attempt, verb, arguments), *where], arguments
        )
    finally:
        _remove_partials(attempt.folder)
    return await _download_report(client, tree, before, arguments)


async def _download_report(
    client: S3Client, tree: RemoteTree, before: Selection, arguments: ToolArguments
) -> TransferReport:
    attempt = client.attempt
    check = await verify_placed(attempt.folder, [m.remote for m in before.moves], attempt.settings)
    if check.lacking:
        _say_left_out(attempt, arguments, check.lacking)
    moved = [m.remote for m in before.moves if m.remote.name not in check.lacking]
    deleted = sum(not os.path.lexists(attempt.folder / name) for name in before.doomed)
    return TransferReport(
        Reason.TRANSFER_COMPLETE if moved or deleted else Reason.UP_TO_DATE,
        f"{len(moved)} files from {client.target.uri} with rclone, {deleted} deleted",
        listed=len(tree.objects),
        files=len(moved),
        skipped=len(tree.objects) - len(moved),
        deleted=deleted,
        bytes=sum(o.size for o in moved),
        verified=NONE if attempt.settings.verify == NONE else check.verified,
        path="/".join(p for p in (attempt.sub_path, tree.objects[0].name if tree.is_single else "") if p),
    )


async def upload_with_rclone(client: S3Client) -> TransferReport:
    """Lets `rclone copy` send the source, then compares the store with it and reports.

    Raises:
        TransferError: as the built-in upload; IntegrityMismatch where the store lacks a file afterwards.
    """
    attempt = client.attempt
    before = await choose(client)
    arguments = _arguments(attempt, "copy")
    source = resolve_source(attempt.folder, attempt.sub_path)
    excluded = [f"--exclude={rule}" for rule in (*_PROTECTED, "/.cache/huggingface/**")] if source.is_dir() else []
    where = (str(source), f"{REMOTE}:{client.target.uri.bucket}/{client.target.uri.prefix.rstrip('/')}")
    await _run(client, ["copy", *_DEFAULTS, *arguments.argv, *excluded, *where], arguments)
    return _upload_report(client, before, await choose(client), arguments)


def _upload_report(client: S3Client, before: Sends, after: Sends, arguments: ToolArguments) -> TransferReport:
    attempt = client.attempt
    lacking = {s.file.name for s in after.sends}
    if lacking:
        _say_left_out(attempt, arguments, lacking)
    sent = [s.file for s in before.sends if s.file.name not in lacking]
    listed = before.unchanged + before.odd + len(before.sends)
    return TransferReport(
        Reason.TRANSFER_COMPLETE if sent else Reason.UP_TO_DATE,
        f"{len(sent)} files to {client.target.uri} with rclone",
        listed=listed,
        files=len(sent),
        skipped=listed - len(sent),
        bytes=sum(f.size for f in sent),
        verified=NONE if attempt.settings.verify == NONE else after.verified,
        path=attempt.sub_path,
    )


def _arguments(attempt: Attempt, verb: str) -> ToolArguments:
    arguments = arguments_for(f"rclone {verb}", attempt.extra_args)
    for notice in arguments.notices:
        attempt.progress.notice(notice)
    return arguments


def _has_filters(arguments: ToolArguments) -> bool:
    return any(item.startswith(_FILTERS) for item in arguments.argv)


def _say_left_out(attempt: Attempt, arguments: ToolArguments, lacking: set[str]) -> None:
    """Files that did not move: as asked for by a filter, or the transfer has failed."""
    some = ", ".join(sorted(lacking)[:3])
    if not _has_filters(arguments):
        raise TransferError(Reason.INTEGRITY_MISMATCH, f"rclone left {len(lacking)} files that are not there: {some}")
    attempt.progress.notice(f"the filters in extraArgs left out {len(lacking)} files: {some}")


def _sync_flags(attempt: Attempt, verb: str, arguments: ToolArguments) -> list[str]:
    """What keeps a sync from deleting too much.

    Raises:
        TransferError: InvalidSpec for `--include` beside a `lost+found`: rclone reads it before any exclusion.
    """
    if verb != "sync":
        return []
    if (attempt.folder / "lost+found").exists() and any(a.startswith("--include") for a in arguments.argv):
        raise TransferError(
            Reason.INVALID_SPEC,
            "extraArgs: a sync with --include into the root of a volume might delete its lost+found: give a subPath",
        )
    limit = attempt.settings.max_delete
    return [f"--exclude={rule}" for rule in _PROTECTED] + ([] if limit is None else [f"--max-delete={limit}"])


def _remove_partials(folder: Path) -> None:
    """Removes the unfinished files of a killed rclone."""
    for name in [n for n in walk_files(folder) if n.endswith(PARTIAL_SUFFIX)]:
        (folder / name).unlink(missing_ok=True)


async def _run(client: S3Client, argv: list[str], arguments: ToolArguments) -> None:
    attempt = client.attempt
    limit = attempt.settings.bandwidth_limit
    command = ["rclone", *argv[:1], *([f"--bwlimit={limit}B"] if limit else []), *argv[1:-2], *_FIXED, "--", *argv[-2:]]
    finished = await asyncio.to_thread(
        run_tool,
        command,
        env=_environment(attempt, client.target) | dict(arguments.env),
        redact=attempt.redact,
        stop=attempt.stop,
        cwd=attempt.scratch,
        on_line=_ProgressReader(attempt).read,
    )
    if finished.code:
        raise explain_text(finished.text).error(f"rclone {argv[0]} failed ({finished.code})")


def _environment(attempt: Attempt, target: S3Target) -> dict[str, str]:
    settings = {
        "type": "s3",
        "provider": "AWS" if target.is_aws else "Other",
        "endpoint": "" if target.is_aws else target.endpoint,
        "region": target.region,
        "force_path_style": str(not target.virtual).lower(),
        "access_key_id": target.access_key,
        "secret_access_key": target.secret_key,
        "session_token": target.session_token,
        "env_auth": str(bool(target.role)).lower(),
        "no_check_bucket": "true",  # else an upload creates a bucket that is missing
    }
    ours = {f"RCLONE_CONFIG_{REMOTE}_{name.upper()}": value for name, value in settings.items() if value}
    ours |= {"RCLONE_CONFIG": str(attempt.scratch / "rclone.conf"), "AWS_EC2_METADATA_DISABLED": "true"}
    if attempt.settings.ca_bundle:
        ours["RCLONE_CA_CERT"] = str(attempt.settings.ca_bundle)
    path = f"{Path(sys.executable).parent}:{BASE_PATH}"
    return clean_environment(attempt.env, home=attempt.scratch, path=path) | dict(target.role) | ours


class _ProgressReader:
    """Turns rclone's statistics, whose totals grow while it still lists, into the attempt's counters."""

    def __init__(self, attempt: Attempt) -> None:
        self._progress = attempt.progress
        self._bytes = self._size = self._done = self._files = 0

    def read(self, line: str) -> None:
        """Takes one line of the tool's log."""
        self._progress.alive()
        if stats := _STATS.search(line):
            now, size = int(stats[1]), int(stats[2])
            self._progress.advance(now - self._bytes)
            self._progress.expect(files=0, size=size - self._size)
            self._bytes, self._size = now, size
        if stats and (counts := _DONE.search(line)):
            done, files = int(counts[1]), int(counts[2])
            self._progress.expect(files=files - self._files, size=0)
            for _ in range(done - self._done):
                self._progress.finish_file()
            self._done, self._files = max(done, self._done), files
