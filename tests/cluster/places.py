"""The folders of a cluster: what is kept between clusters (binaries), and what dies with one (everything else)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "datacube-cluster"
"""Names the folders, the cgroups, and what else the cluster leaves for others to see."""


@dataclass(frozen=True)
class Places:
    """Where a cluster keeps its things."""

    cache: Path
    """Binaries, by version; outlives the cluster."""

    state: Path
    """All else; `down` removes it."""

    @property
    def kubeconfig(self) -> Path:
        """What clients of the cluster read: address, authority and an administrator's certificate."""
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.state / "logs"

    @property
    def lock(self) -> Path:
        """Held while a cluster is started or ended; not in the state, which it outlives."""
        return self.cache / f".{self.state.name}.lock"

    @property
    def turn(self) -> Path:
        """Held while tests run in a cluster, whichever."""
        return self.cache / ".tests.lock"

    def beside(self, tier: str) -> Places:
        """The same cache, and the state of another tier."""
        return Places(self.cache, self.state.with_name(f"{NAME}-{tier}"))


def write_changed(file: Path, text: str) -> Path:
    """Has the text in a file of its owner; does not touch one that has it: kube-proxy ends when its file is written."""
    if not file.exists() or file.read_text() != text:
        part = file.with_name(f"{file.name}.part")
        part.touch(mode=0o600)
        part.write_text(text)
        part.rename(file)
    return file


def places_from(environ: Mapping[str, str]) -> Places:
    """Returns the places that the XDG variables ask for; root's state stands in /var/lib, as that of any service."""
    home = Path(environ.get("HOME", "/root"))
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    if environ.get("XDG_STATE_HOME"):
        state = Path(environ["XDG_STATE_HOME"])
    elif os.geteuid() == 0:
        state = Path("/var/lib")
    else:
        state = home / ".local" / "state"
    return Places(cache / NAME, state / NAME)
