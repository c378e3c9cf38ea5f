"""Builds Argo's controller and executor, and keeps its CRDs and its role: all from one pinned Go module.

The module, as it is served, lacks a file that Linux needs; in a copy of it, that of another Unix takes its place.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.binaries import build_command, find_go, locked, run_build
from tests.cluster.errors import ClusterError, say
from tests.cluster.versions import ARGO

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE = "github.com/argoproj/argo-workflows/v4"
LACKING = "workflow/executor/osspecific/signal_linux.go"
IN_ITS_PLACE = "workflow/executor/osspecific/signal_darwin.go"
CRDS = "manifests/base/crds/full"
INSTALL = "manifests/quick-start-minimal.yaml"
ROLE = "argo-cluster-role"


@dataclass(frozen=True)
class ArgoParts:
    """What Argo is made of, in a folder of the cache."""

    folder: Path

    @property
    def controller(self) -> Path:
        """The program that runs workflows."""
        return self.folder / "workflow-controller"

    @property
    def executor(self) -> Path:
        """The program that stands beside the container of each pod, and in front of it."""
        return self.folder / "argoexec"

    @property
    def crds(self) -> Path:
        """A folder with the full CRDs, one file each."""
        return self.folder / "crds"

    @property
    def role(self) -> Path:
        """The ClusterRole of the controller, as Argo's own installation has it."""
        return self.folder / "role.yaml"


def build_argo(cache: Path, environ: Mapping[str, str]) -> ArgoParts:
    """Returns the parts, built when that is needed, one build at a time on this machine."""
    target = cache / ARGO.build_name
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / ".lock"):
        if not target.exists():
            _build(target, environ)
    return ArgoParts(target)


def fetch_module(environ: Mapping[str, str]) -> Path:
    """Returns the folder of Go's own cache that holds the module; its sum is that of `go.sum`."""
    command = [find_go(environ), "mod", "download", "-json", f"{MODULE}@{ARGO.version}"]
    done = subprocess.run(command, cwd=ARGO.folder, env=dict(environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"Argo's module cannot be fetched: {done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"])


def _build(target: Path, environ: Mapping[str, str]) -> None:
    """Builds beside the target and renames, so that the target is whole or not there."""
    say(f"building Argo Workflows {ARGO.version}: about {ARGO.minutes} min, once; kept in {target}")
    began = time.monotonic()
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    source = part / "source"
    _copy_mended(fetch_module(environ), source)
    for program, package in ARGO.programs.items():
        run_build(build_command(find_go(environ), ARGO, package, part / program), source, environ)
    _keep_manifests(source, ArgoParts(part))
    shutil.rmtree(source)
    part.rename(target)
    say(f"  built in {time.monotonic() - began:.0f} s")


def _copy_mended(module: Path, source: Path) -> None:
    shutil.copytree(module, source, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("ui", "docs"))
    for folder in (source, *(p for p in source.rglob("*") if p.is_dir())):
        folder.chmod(0o755)  # Go's cache is read-only
    if (source / LACKING).exists():
        raise ClusterError(f"{MODULE} {ARGO.version} has {LACKING} now: take out what makes it")
    shutil.copyfile(source / IN_ITS_PLACE, source / LACKING)


def _keep_manifests(source: Path, parts: ArgoParts) -> None:
    """Keeps the CRDs, and of the installation's nine megabytes the role."""
    parts.crds.mkdir()
    for file in (source / CRDS).glob("argoproj.io_*.yaml"):
        shutil.copyfile(file, parts.crds / file.name)
    documents = (source / INSTALL).read_text().split("\n---\n")
    roles = [d for d in documents if f"kind: ClusterRole\nmetadata:\n  name: {ROLE}\n" in d]
    parts.role.write_text(roles[0])
