"""Hands the work to the `hf` tool, as `extraArgs` ask for; what it may do, and whether it did, is still ours to say."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datacube_flows.api.reasons import Reason
from datacube_flows.core.extra_args import ToolArguments, arguments_for
from datacube_flows.errors import TransferError
from datacube_flows.transfers import hf_download, hf_upload
from datacube_flows.transfers.environment import BASE_PATH, clean_environment
from datacube_flows.transfers.hf_client import connect, make_repository
from datacube_flows.transfers.hf_crew import stopped
from datacube_flows.transfers.hf_errors import Repository, hub_errors
from datacube_flows.transfers.hf_files import matches, resolve
from datacube_flows.transfers.hf_source import find_source
from datacube_flows.transfers.hf_target import find_target
from datacube_flows.transfers.paths import WorkFolder
from datacube_flows.transfers.polling import polled
from datacube_flows.transfers.process import run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datacube_flows.api.report import TransferReport
    from datacube_flows.transfers.base import Attempt
    from datacube_flows.transfers.hf_download import Selection
    from datacube_flows.transfers.hf_source import Source
    from datacube_flows.transfers.process import Finished

_CAUSES: Final = (
    ("429", Reason.SERVER_ERROR, "the hub limits the rate"),
    ("No space left", Reason.DISK_FULL, "the volume is full: free space on it or use a larger claim"),
    ("CERTIFICATE_VERIFY", Reason.TLS_ERROR, "the hub's certificate is not trusted: check the CA bundle"),
    ("GatedRepo", Reason.GATED_REPO, "the repository is gated: ask for access on its page"),
    ("403 ", Reason.ACCESS_DENIED, "the hub refuses the token"),
    ("Connect", Reason.ENDPOINT_UNREACHABLE, "the hub cannot be reached: check HF_ENDPOINT and the proxy"),
    ("Server Error", Reason.SERVER_ERROR, "the hub fails"),
)
"""What the tool's last lines hold -> what that means; most failures were found by asking the hub before it started."""


def download(attempt: Attempt) -> TransferReport:
    """Lets `hf download` fill a stage, then checks every file of it and moves it into its place."""
    repository = make_repository(attempt)
    arguments = _arguments(attempt)
    with connect(attempt, repository) as api:
        with hub_errors(repository):
            commit, files = hf_download.choose(api, attempt, repository)
        selection = hf_download.compare(attempt, repository, commit, files)
        hf_download.check_space(attempt, selection)
        if selection.missing:
            attempt.progress.expect(files=len(selection.missing), size=selection.size)
            _fetch(attempt, selection, arguments)
    return hf_download.report(attempt, selection)


def _fetch(attempt: Attempt, selection: Selection, arguments: ToolArguments) -> None:
    repository = selection.repository
    names = hf_download.file_names(attempt.options.get("files", ""))
    with WorkFolder(attempt.folder) as work:
        stage = work.path / "stage"
        argv = ["hf", "download", *arguments.argv, f"--repo-type={repository.type}", f"--revision={selection.commit}"]
        argv += [f"--local-dir={stage}", "--", repository.id, *names]
        with _watch_growth(attempt, stage, selection.size):
            _run(attempt, repository, argv, arguments)
        for remote in selection.missing:
            staged = stage / remote.name
            if not staged.is_file() or staged.is_symlink() or staged.stat().st_size != remote.size:
                raise TransferError(Reason.TRANSFER_ERROR, f"hf download did not bring '{remote.name}'")
            if attempt.settings.verify == "checksum" and not matches(staged, remote, attempt.progress.alive):
                raise TransferError(Reason.INTEGRITY_MISMATCH, f"hf download brought '{remote.name}' with a wrong hash")
            work.place(staged, remote.name)
            attempt.progress.finish_file()


def upload(attempt: Attempt) -> TransferReport:
    """Lets `hf upload` commit what was listed here, then reads it back from the hub."""
    repository = make_repository(attempt)
    arguments = _arguments(attempt)
    source = find_source(attempt)
    with connect(attempt, repository) as api, hub_errors(repository):
        target = find_target(api, attempt, repository)
        difference = hf_upload.compare(api, attempt, repository, target.commit, source)
        commit = target.commit
        if difference.files:
            target.create(api)  # the tool would create a missing repository, and a public one
            attempt.progress.expect(files=len(difference.files), size=difference.size)
            _run(attempt, repository, _upload_argv(attempt, repository, source, arguments), arguments)
            commit = resolve(api, repository)
            by_hash = attempt.settings.verify == "checksum"
            if attempt.settings.verify != "none":
                hf_upload.verify(api, repository, commit, difference.files, by_hash=by_hash)
            for file in difference.files:
                attempt.progress.advance(file.local.size)
                attempt.progress.finish_file()
    return hf_upload.report(attempt, repository, source, difference, commit=commit, ignored=[])


def _upload_argv(attempt: Attempt, repository: Repository, source: Source, arguments: ToolArguments) -> list[str]:
    """The tool follows symbolic links, so it is shown a folder with links to exactly the files that were listed."""
    path, place = source.path, source.prefix or "."
    if not source.path.is_file():
        path = attempt.scratch / "listed"
        for local in source.files.values():
            link = path / local.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(local.path)
    message = attempt.option("commit-message") or source.message(len(source.files))
    argv = ["hf", "upload", f"--commit-message={message}", *arguments.argv]
    argv += [f"--repo-type={repository.type}", f"--revision={repository.revision}"]
    return [*argv, "--", repository.id, str(path), place]


def _arguments(attempt: Attempt) -> ToolArguments:
    arguments = arguments_for(f"hf {attempt.kind.direction}", attempt.extra_args)
    for notice in arguments.notices:
        attempt.progress.notice(notice)
    if attempt.settings.bandwidth_limit:
        attempt.progress.notice("bandwidthLimit does not hold for extraArgs: the tool `hf` has no such limit")
    return arguments


def _run(attempt: Attempt, repository: Repository, argv: Sequence[str], arguments: ToolArguments) -> None:
    try:
        finished = run_tool(
            argv,
            env=_environment(attempt, repository) | dict(arguments.env),
            redact=attempt.redact,
            stop=attempt.stop,
            cwd=attempt.scratch,
            on_line=lambda _line: attempt.progress.alive(),
        )
    except FileNotFoundError as error:
        raise TransferError(Reason.TRANSFER_ERROR, "there is no tool `hf`: install huggingface_hub") from error
    if attempt.stop.is_set():
        raise stopped()
    if finished.code:
        raise _failure(finished)


def _environment(attempt: Attempt, repository: Repository) -> dict[str, str]:
    """The token reaches the tool by its environment only; without one it must not find any."""
    path = os.pathsep.join([str(Path(sys.executable).parent), BASE_PATH])
    settings = {
        "HF_HOME": str(attempt.scratch / "hf"),
        "HF_ENDPOINT": repository.endpoint,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_COLOR": "1",
    }
    settings |= {"HF_TOKEN": repository.token} if repository.token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    if attempt.settings.ca_bundle:
        settings["SSL_CERT_FILE"] = str(attempt.settings.ca_bundle)
    return clean_environment(attempt.env, home=attempt.scratch, path=path) | settings


def _failure(finished: Finished) -> TransferError:
    last = next((line for line in reversed(finished.tail) if line), "it said nothing")
    for word, reason, meaning in _CAUSES:
        if word in finished.text:
            return TransferError(reason, f"hf ended with code {finished.code}: {meaning} ({last})")
    return TransferError(Reason.TRANSFER_ERROR, f"hf ended with code {finished.code}: {last}")


@contextmanager
def _watch_growth(attempt: Attempt, stage: Path, size: int) -> Iterator[None]:
    """Counts bytes by how the stage grows, since the tool does not tell them."""
    counted = 0

    def look() -> None:
        nonlocal counted
        now = min(size, _size(stage))
        if now != counted:
            attempt.progress.advance(now - counted)
            counted = now

    with polled(look, seconds=0.5):
        yield
    attempt.progress.advance(size - counted)


def _size(folder: Path) -> int:
    """Bytes of the files below a folder that another process fills and empties meanwhile."""
    total = 0
    for at, _folders, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(at, name)).st_size
    return total
