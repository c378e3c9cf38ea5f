"""Finds the cluster's programs in the cache, or builds them from the pinned Go modules.

A build that is interrupted goes on where it was, since Go caches each package; a finished one is seen by all at once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError, say
from tests.cluster.versions import MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.cluster.versions import Module

JOBS = 2
SAY_SECONDS = 60.0
DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")
GO_NEEDED = "Go builds the cluster's programs and is not there: install Go 1.25 or newer, and try again"


def find_programs(cache: Path, tier: str) -> dict[str, Path]:
    """Returns program -> file.

    Raises:
        ClusterError: One is not built yet.
    """
    programs = {name: cache / m.build_name / name for m in MODULES[tier] for name in m.programs}
    if missing := [name for name, file in programs.items() if not file.exists()]:
        raise ClusterError(f"not built yet: {', '.join(missing)}; `python -m tests.cluster build` builds them")
    return programs


def build_programs(cache: Path, tier: str, environ: Mapping[str, str]) -> dict[str, Path]:
    """Builds what is missing, one build at a time on this machine, and returns program -> file."""
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / ".lock"):
        for module in MODULES[tier]:
            if not (cache / module.build_name).exists():
                _build(module, cache / module.build_name, environ)
    return find_programs(cache, tier)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Holds the lock of a file, which the kernel lets go of however this process ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _build(module: Module, target: Path, environ: Mapping[str, str]) -> None:
    """Builds beside the target and renames, so that the target is whole or not there."""
    go = find_go(environ)
    say(f"building {module.name} {module.version}: {', '.join(module.programs)}")
    say(f"  about {module.minutes} min on {JOBS} cores, once; kept in {target}")
    began = time.monotonic()
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for program, package in module.programs.items():
        run_build(build_command(go, module, package, part / program), module.folder, environ)
    part.rename(target)
    say(f"  built in {time.monotonic() - began:.0f} s")


def build_command(go: str, module: Module, package: str, file: Path) -> list[str]:
    """Returns the command that builds a package of the module to a file."""
    flags = ["-p", str(JOBS), "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", module.linker_flags]
    return [*DIES_WITH_US, "nice", "-n", "10", go, "build", *flags, "-o", str(file), package]


def run_build(command: list[str], folder: Path, environ: Mapping[str, str]) -> None:
    """Runs the build, and says now and then that it still does."""
    env = {**environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    began = time.monotonic()
    with subprocess.Popen(command, cwd=folder, env=env) as process:
        while process.poll() is None:
            try:
                process.wait(SAY_SECONDS)
            except subprocess.TimeoutExpired:
                say(f"  {Path(command[-1]).name}: {time.monotonic() - began:.0f} s")
    if process.returncode:
        raise ClusterError(f"the build of {command[-1]} failed: see above; the next try goes on from here")


def find_go(environ: Mapping[str, str]) -> str:
    """Returns the Go to build with."""
    path = os.pathsep.join([environ.get("PATH", ""), "/usr/local/go/bin", "/usr/lib/go/bin"])
    go = shutil.which("go", path=path)
    if go is None:
        raise ClusterError(GO_NEEDED)
    return go
