"""Which programs a cluster is made of, at which version: read from the `go.mod` files beside this one, their only home.

A program that is added gets a folder `go/<name>` with a `go.mod` (its `tool` lines name what to build), its `go.sum`,
and a row here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FOLDER = Path(__file__).parent / "go"


@dataclass(frozen=True)
class Module:
    """A Go module, and the programs that are built from it."""

    name: str
    minutes: str
    """How long a first build takes on two cores: alone, and beside other work."""

    version_package: str = ""
    """The package whose variables say the version; without them the programs call themselves v0.0.0."""

    names: tuple[tuple[str, str], ...] = ()
    """Last part of a package's path -> name of its program, where they differ."""

    @property
    def folder(self) -> Path:
        """Where its go.mod stands."""
        return FOLDER / self.name

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """The packages of its programs."""
        return tuple(re.findall(r"^(?:tool |\t)([^\s=(]+)$", self._text, re.MULTILINE))

    @cached_property
    def version(self) -> str:
        """The version of the module that holds the programs."""
        required: list[tuple[str, str]] = re.findall(r"^(?:require |\t)(\S+) (v\S+)", self._text, re.MULTILINE)
        return next(v for path, v in required if self.packages[0].startswith(path))

    @property
    def programs(self) -> dict[str, str]:
        """Name -> package."""
        renamed = dict(self.names)
        return {renamed.get(p.rsplit("/", 1)[1], p.rsplit("/", 1)[1]): p for p in self.packages}

    @property
    def build_name(self) -> str:
        """Names a folder of the cache: another pin, even of a dependency, is another build."""
        sums = (self.folder / "go.sum").read_bytes()
        return f"{self.name}-{self.version}-{hashlib.sha256(self._text.encode() + sums).hexdigest()[:8]}"

    @property
    def linker_flags(self) -> str:
        """No symbols; and the version, where the programs want to be told."""
        flags = "-s -w"
        if self.version_package:
            major, minor, _ = self.version.removeprefix("v").split(".", 2)
            for variable, value in (("gitVersion", self.version), ("gitMajor", major), ("gitMinor", minor)):
                flags += f" -X {self.version_package}.{variable}={value}"
        return flags

    @cached_property
    def _text(self) -> str:
        return (self.folder / "go.mod").read_text()


KUBERNETES = Module("kubernetes", "5 to 8", version_package="k8s.io/component-base/version")
ETCD = Module("etcd", "1/2 to 1", names=(("v3", "etcd"),))
LOCAL_PATH = Module("local-path", "1 to 1 1/2")
ARGO = Module("argo", "2 to 4")
"""Of no tier: built when a test asks for it, from a copy of the module that is mended first (`argo_build`)."""

MODULES = {
    "api": (ETCD, KUBERNETES),
    "whole": (ETCD, KUBERNETES, LOCAL_PATH),
}
"""What each tier needs. Kubernetes is built whole for either: its programs share nearly all of their packages."""
