"""The attempt's process: reads argv and environment, runs one transfer, prints progress, writes the report.

This is the command of the container in every engine, and the child process of a local run. Standard output carries one
JSON object a line (`progress`, `notice`, `log`); the report goes to a file. Exit codes are those of `core/retry.py`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from datacube_flows.api.ends import EndType
from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import ChangePlan, TransferReport
from datacube_flows.core.kinds import KINDS, TransferKind, kind_named
from datacube_flows.core.retry import EXIT_TERMINATED, exit_code
from datacube_flows.core.values import check_characters
from datacube_flows.errors import TransferError
from datacube_flows.transfers.base import Attempt, Settings, Transfer
from datacube_flows.transfers.environment import clean_environment
from datacube_flows.transfers.failures import os_errors
from datacube_flows.transfers.messages import MessageWriter, Ticker
from datacube_flows.transfers.redact import Redactor, url_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

REGISTRY: Final = {
    EndType.GIT: ("datacube_flows.transfers.git", "GitTransfer"),
    EndType.HUGGINGFACE: ("datacube_flows.transfers.huggingface", "HuggingFaceTransfer"),
    EndType.S3: ("datacube_flows.transfers.s3", "S3Transfer"),
}
"""One line a store; imported when a transfer of that store starts."""


IDENTITY_NAMES: Final = (
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_SESSION_NAME",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_STS_REGIONAL_ENDPOINTS",
)
"""What a cluster gives a pod to use its service account's own identity (IRSA); names and paths, no secret values."""

ARGO_PROGRESS_FILE: Final = "ARGO_PROGRESS_FILE"
"""Variable that Argo sets in a pod; no document can (`core/env_policy.py`)."""


class Terminated(BaseException):
    """The process was told to end; raised in the main thread so that everything on the way cleans up."""


class StalledAttempt(BaseException):
    """No byte moved for as long as the document allows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one attempt and returns its exit code."""
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    if arguments.end_with is not None:
        end_with_parent(arguments.end_with)
    scratch = Path(tempfile.mkdtemp(prefix="datacube-"))
    argo_file = os.environ.get(ARGO_PROGRESS_FILE)
    writer = MessageWriter(sys.stdout, argo_file=Path(argo_file) if argo_file else None)
    try:
        attempt = make_attempt(arguments, os.environ, scratch)
        replace_environment(attempt)
        report, code = run_attempt(attempt, writer, interval=arguments.progress_interval)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    deliver(report, arguments)
    return code


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Reads what `core/manifests.py` writes into the container's `args`; no secret is ever among them."""
    parser = argparse.ArgumentParser(prog="datacube-attempt", description=__doc__, allow_abbrev=False)
    parser.add_argument("kind", choices=[k.name for k in KINDS])
    parser.add_argument("--folder", type=Path, required=True, help="download: where data goes; upload: the volume")
    parser.add_argument("--sub-path", default="", help="the document's subPath")
    parser.add_argument("--report", type=Path, required=True, help="file for the report (termination message)")
    parser.add_argument("--outputs", type=Path, help="folder for the files path, revision, files, bytes")
    parser.add_argument("--secret-env", action="append", default=[], help="variable whose value is never shown")
    parser.add_argument("--pass-env", action="append", default=[], help="variable of executor.env")
    parser.add_argument("--sync", action="store_true")
    parser.add_argument("--verify", default="checksum", choices=["checksum", "size", "none"])
    parser.add_argument("--max-delete", type=int)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--stall-timeout", type=int)
    parser.add_argument("--bandwidth-limit", type=int)
    parser.add_argument("--allow-http", action="store_true")
    parser.add_argument("--ca-bundle", type=Path)
    parser.add_argument("--progress-interval", type=float, default=10.0)
    parser.add_argument("--end-with", type=int, metavar="PID", help="end when this process, the parent, ends")
    own, extra = list(argv), []
    if "--" in own:
        own, extra = own[: own.index("--")], own[own.index("--") + 1 :]
    arguments = parser.parse_args(own)
    arguments.extra_args = extra
    return arguments


def make_attempt(arguments: argparse.Namespace, environ: Mapping[str, str], scratch: Path) -> Attempt:
    """Returns the attempt that arguments and environment describe."""
    kind = kind_named(arguments.kind)
    own = [o for o in kind.options if o.env_name not in arguments.pass_env]  # a user's REF is no option `ref`
    options = {o.name: environ[o.env_name] for o in own if environ.get(o.env_name)}
    return Attempt(
        kind=kind,
        options=options,
        env={name: environ[name] for name in (*IDENTITY_NAMES, *arguments.pass_env) if name in environ},
        folder=arguments.folder,
        sub_path=arguments.sub_path,
        extra_args=tuple(arguments.extra_args),
        settings=Settings(
            sync=arguments.sync,
            verify=arguments.verify,
            max_delete=arguments.max_delete,
            dry_run=arguments.dry_run,
            stall_timeout=arguments.stall_timeout,
            bandwidth_limit=arguments.bandwidth_limit,
            allowed_schemes=("https", "http") if arguments.allow_http else ("https",),
            ca_bundle=arguments.ca_bundle,
        ),
        scratch=scratch,
        redact=Redactor(secret_values(kind, environ, arguments.secret_env)),
    )


def secret_values(kind: TransferKind, environ: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Returns the values that must never be shown: options marked secret, variables named, credentials within URLs."""
    marked = [o.env_name for o in kind.options if o.secret]
    values = [environ[name] for name in (*marked, *names) if environ.get(name)]
    return values + [s for o in kind.options for s in url_secrets(environ.get(o.env_name, ""))]


def replace_environment(attempt: Attempt) -> None:
    """Makes the process's environment the clean one, so that no library and no child sees a credential in it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "/usr/bin:/bin")])
    clean = clean_environment(attempt.env, home=attempt.scratch, path=path)
    os.environ.clear()
    os.environ.update(clean)
    tempfile.tempdir = str(attempt.scratch)


def run_attempt(attempt: Attempt, writer: MessageWriter, *, interval: float) -> tuple[TransferReport, int]:
    """Runs the transfer under its signals, its ticker and its watchdog; every end becomes a report and a code."""
    writer.redact = attempt.redact
    previous = _on_signals(attempt)
    ticker = Ticker(attempt, writer, interval=interval, on_stall=lambda: os.kill(os.getpid(), signal.SIGUSR1))
    ticker.start()
    try:
        with os_errors(attempt.folder):
            report = perform(attempt)
        return report, exit_code(report.reason)
    except TransferError as error:
        report = _failure(attempt, error.reason, error.message)
        return report, exit_code(report.reason)
    except StalledAttempt:
        limit = attempt.settings.stall_timeout
        report = _failure(attempt, Reason.STALLED, f"no byte moved for {limit} s: check the network and the store")
        return report, exit_code(report.reason)
    except Terminated:
        return _failure(
            attempt, Reason.TRANSFER_ERROR, "the attempt was told to end before it was done"
        ), EXIT_TERMINATED
    except Exception as error:  # noqa: BLE001 - the process's last line: a bug must still end in a report
        writer.log("".join(traceback.format_exception(error)))
        return _failure(attempt, Reason.TRANSFER_ERROR, f"bug in DataCube: {type(error).__name__}: {error}"), exit_code(
            Reason.TRANSFER_ERROR
        )
    finally:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)  # the outcome is known: a late signal must not lose the report
        attempt.stop.set()
        ticker.finish()
        for number, handler in previous.items():
            signal.signal(number, handler)


def perform(attempt: Attempt) -> TransferReport:
    """Runs the transfer that `attempt.kind` names, or only its plan in a dry run."""
    check_options(attempt)
    module, name = REGISTRY[attempt.kind.store]
    transfer = cast("Transfer", getattr(importlib.import_module(module), name)())
    if attempt.settings.dry_run:
        return TransferReport(
            Reason.TRANSFER_COMPLETE, _dry_run_message(plan := transfer.plan(attempt)), verified="none", plan=plan
        )
    report = transfer.upload(attempt) if attempt.kind.is_upload else transfer.download(attempt)
    return _with_notices(report, attempt)


def check_options(attempt: Attempt) -> None:
    """Looks at values that only the attempt knows: those from a Secret or ConfigMap, and those that held `$(NAME)`.

    Raises:
        TransferError: InvalidSpec, when a required one is empty, or one holds a control character (mostly the newline
            at the end of a Secret's file).
    """
    for option in attempt.kind.options:
        value = attempt.options.get(option.name, "")
        if option.required and not value:
            raise TransferError(Reason.INVALID_SPEC, f"option '{option.name}' is empty: check what it refers to")
        if problem := check_characters(option.name, value):
            raise TransferError(Reason.INVALID_SPEC, f"option '{option.name}': {problem}")


def _dry_run_message(plan: ChangePlan) -> str:
    changes = f"{plan.add} to add, {plan.update} to update, {plan.delete} to delete, {plan.bytes} bytes"
    return f"dry run: {changes}; nothing was moved"


def _failure(attempt: Attempt, reason: Reason, message: str) -> TransferReport:
    now = attempt.progress.snapshot()
    return _with_notices(TransferReport(reason, message, files=now.files_done, bytes=now.bytes_done), attempt)


def _with_notices(report: TransferReport, attempt: Attempt) -> TransferReport:
    return replace(
        report,
        message=attempt.redact(report.message),
        path=attempt.redact(report.path),
        revision=attempt.redact(report.revision),
        notices=tuple(attempt.redact(n) for n in (*report.notices, *attempt.progress.notices)),
    )


def end_with_parent(parent: int) -> None:
    """Asks the kernel for SIGTERM when the parent ends, so that a killed `datacube run` leaves no transfer behind."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG, prctl(2)
    if os.getppid() != parent:  # it ended before this was asked for
        raise SystemExit(EXIT_TERMINATED)


def _on_signals(attempt: Attempt) -> dict[int, signal._HANDLER]:
    def end(number: int, _frame: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # cleaning up is not to be interrupted by a second one
        attempt.stop.set()
        raise _SIGNALS[number]

    return {number: signal.signal(number, end) for number in _SIGNALS}


_SIGNALS: Final[Mapping[int, type[BaseException]]] = {
    signal.SIGTERM: Terminated,
    signal.SIGINT: Terminated,
    signal.SIGUSR1: StalledAttempt,
}


def deliver(report: TransferReport, arguments: argparse.Namespace) -> None:
    """Writes the report to the termination message and, after success, the outputs to files of their own."""
    arguments.report.write_text(report.render())
    if arguments.outputs is None:
        return
    arguments.outputs.mkdir(parents=True, exist_ok=True)
    for name in ("path", "revision", "files", "bytes"):
        text = str(getattr(report, name)).replace("{{", "{ {")  # Argo evaluates outputs again in the next task
        (arguments.outputs / name).write_text(text)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of a client library that wait for a dead peer must not hold the attempt
