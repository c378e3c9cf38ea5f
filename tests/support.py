"""Runs one attempt the way an engine does, and compares trees. Shared by the tests of all stores."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datacube_flows.api.report import TransferReport, parse_report
from datacube_flows.core.kinds import env_name, kind_named
from datacube_flows.transfers.base import Attempt, Settings
from datacube_flows.transfers.messages import MessageWriter
from datacube_flows.transfers.redact import Redactor
from datacube_flows.transfers.run import run_attempt, secret_values
from tests.cluster.packages import missing_packages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parent.parent


def run_here(
    kind_name: str,
    folder: Path,
    options: Mapping[str, str],
    *,
    scratch: Path,
    sub_path: str = "",
    env: Mapping[str, str] | None = None,
    extra_args: Sequence[str] = (),
    **settings: Any,
) -> TransferReport:
    """Runs an attempt inside this process, quickest for a test; plain HTTP is allowed. Returns its report."""
    kind = kind_named(kind_name)
    scratch.mkdir(parents=True, exist_ok=True)
    environ = {env_name(name): value for name, value in options.items()}
    attempt = Attempt(
        kind=kind,
        options={name: value for name, value in options.items() if value},
        env=dict(env or {}),
        folder=folder,
        sub_path=sub_path,
        extra_args=tuple(extra_args),
        settings=Settings(**{"allowed_schemes": ("https", "http")} | settings),
        scratch=scratch,
        redact=Redactor(secret_values(kind, environ, ())),
    )
    report, _code = run_attempt(attempt, MessageWriter(io.StringIO()), interval=60)
    return report


@dataclass(frozen=True)
class Child:
    """An attempt in a process of its own."""

    process: subprocess.Popen[str]
    report_file: Path

    def finish(self, timeout: float = 60) -> tuple[int, TransferReport | None, list[dict[str, Any]]]:
        """Waits; returns the exit code, the report and all messages."""
        output, _ = self.process.communicate(timeout=timeout)
        report = parse_report(self.report_file.read_text()) if self.report_file.exists() else None
        return self.process.returncode, report, [json.loads(line) for line in output.splitlines() if line]


def start_child(
    kind_name: str,
    folder: Path,
    options: Mapping[str, str],
    *,
    report: Path,
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    extra_args: Sequence[str] = (),
) -> Child:
    """Starts an attempt as an engine does: own process group, settings in argv, credentials in the environment."""
    environ = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(report.parent),
        **{env_name(n): v for n, v in options.items()},
        **(env or {}),
    }
    argv = [sys.executable, "-m", "datacube_flows.transfers.run", kind_name]
    argv += ["--folder", str(folder), "--report", str(report), "--allow-http", "--progress-interval", "0.2"]
    argv += [part for name in env or {} for part in ("--pass-env", name)]
    argv += [*arguments, "--", *extra_args]
    process = subprocess.Popen(argv, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    return Child(process, report)


def tree(folder: Path, *, without: Sequence[str] = (".git",)) -> dict[str, str]:
    """Returns name -> sha256 of every regular file below the folder, so that two trees compare with `==`."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not set(without) & set(p.relative_to(folder).parts)
    }


@contextmanager
def mounted(folder: Path, *, size: str = "64m") -> Iterator[Path]:
    """Has a small file system of its own on a folder; the test is skipped, saying so, where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    if done.returncode:
        pytest.skip(f"this machine does not let us mount: run the tests as root ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def needs(package: str) -> None:
    """Skips the test, saying so, where a program is missing that the operating system brings."""
    if package in missing_packages("tests"):
        pytest.skip(f"{package} is missing: run `make install` as root, or install Debian's package")


def seal(folder: Path) -> None:
    """Makes what is mounted on a folder read-only."""
    done = mount("-o", "remount,ro", str(folder))
    assert done.returncode == 0, done.stderr


def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `mount` and returns how it ended."""
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
