"""What a cluster leaves on the machine outside of its namespaces: made here, removed here, looked for here.

Cgroups, the mount points for its covers, and settings of the kernel that a kubelet changes for the whole machine.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.node import COVERED, LINK
from tests.cluster.packages import SEARCH
from tests.cluster.places import NAME
from tests.cluster.process import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.places import Places

KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""Those that the kubelet sets (its setupKernelTunables), for lack of a namespace that would hold them."""

NET = ("KUBE-", "CNI-")
CONTROLLERS = ("cpuset", "cpu", "memory", "pids")


@dataclass(frozen=True)
class Before:
    """How the machine was before the cluster."""

    settings: dict[str, str]
    folders: list[str]
    """Mount points that had to be made."""

    found: list[str]
    """What looked like a trace already, such as of another cluster."""


def prepare(places: Places) -> None:
    """Remembers how the machine is, the first time; then makes mount points and cgroups."""
    file = places.state / "before.json"
    if not file.exists():
        missing = [str(f) for f in COVERED if not f.exists()]
        before = {"settings": _read_settings(), "folders": missing, "found": find_traces(places)}
        part = file.with_suffix(".part")
        part.write_text(json.dumps(before))
        part.rename(file)
    for folder in COVERED:
        folder.mkdir(parents=True, exist_ok=True)
    for root in _cgroup_roots():
        _make_cgroup(root)


def remove(places: Places) -> None:
    """Puts the machine back as it was; the namespaces must have ended."""
    before = read_before(places)
    for root in _cgroup_roots():
        wait_for(partial(_remove_cgroup, root / NAME), 20, f"{root / NAME} cannot be removed")
    for name, value in before.settings.items():
        _setting(name).write_text(value)
    for folder in before.folders:
        with suppress(OSError):  # somebody else uses it by now: then it stays, and `find_traces` says so
            Path(folder).rmdir()


def read_before(places: Places) -> Before:
    """Returns how the machine was; nothing is known where no cluster was started."""
    file = places.state / "before.json"
    return Before(**json.loads(file.read_text())) if file.exists() else Before({}, [], [])


def find_traces(places: Places) -> list[str]:
    """Returns what of a cluster is on this machine, one line each; nothing is looked for inside its namespaces."""
    return sorted([*_processes(places), *_mounts(places), *_links(), *_rules(), *_cgroups(), *_folders(places)])


def remaining_traces(places: Places, before: Before) -> list[str]:
    """Returns what a cluster that has ended left: traces that were not there before it, and changed settings."""
    now = _read_settings()
    changed = [f"kernel setting {n}: {now[n]}, was {v}" for n, v in before.settings.items() if now[n] != v]
    return [t for t in find_traces(places) if t not in before.found] + changed


def _processes(places: Places) -> Iterator[str]:
    """Those that run from the cache or the state, or have either in their arguments; but not who asks."""
    needles = (str(places.cache).encode() + b"/", str(places.state).encode() + b"/")
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (folder / "cmdline").read_bytes()
            if any(n in line for n in needles) and int(folder.name) != os.getpid():
                yield f"process {folder.name}: {line.split(bytes(1))[0].decode(errors='replace')}"


def _mounts(places: Places) -> Iterator[str]:
    """Mounts that a node makes; its own mount namespace should have held them all."""
    ours = (f"{places.state}/", "/run/containerd", "/var/lib/kubelet", "/var/lib/cni", "/run/netns/cni-")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        where = line.split()[4]
        if where.startswith(ours):
            yield f"mount {where}"


def _links() -> Iterator[str]:
    for link in Path("/sys/class/net").iterdir():
        if link.name == LINK or link.name.startswith(("cni", "kube-")):
            yield f"interface {link.name}"


def _rules() -> Iterator[str]:
    """Chains of packet rules, in either of the kernel's two tables of them."""
    for program in ("iptables-nft-save", "iptables-legacy-save"):
        with suppress(FileNotFoundError):
            saved = subprocess.run([program], env={"PATH": SEARCH}, check=False, capture_output=True, text=True)
            chains = (line[1:].split()[0] for line in saved.stdout.splitlines() if line.startswith(":"))
            yield from (f"chain {c} ({program})" for c in chains if c.startswith(NET))


def _cgroups() -> Iterator[str]:
    for root in _cgroup_roots():
        yield from (f"cgroup {f}" for f in (root / NAME, root / "kubepods") if f.exists())


def _folders(places: Places) -> Iterator[str]:
    """Folders of a node that hold something, and network namespaces that have a name."""
    wanted = (places.state, Path("/var/lib/kubelet"), Path("/var/lib/cni"), Path("/etc/cni/net.d"), Path("/run/netns"))
    for folder in wanted:
        if folder.is_dir() and (entries := [e.name for e in folder.iterdir()]):
            yield f"folder {folder}: {', '.join(sorted(entries)[:5])}"


def _read_settings() -> dict[str, str]:
    return {name: _setting(name).read_text().strip() for name in KERNEL_SETTINGS if _setting(name).exists()}


def _setting(name: str) -> Path:
    return Path("/proc/sys", name)


def _cgroup_roots() -> list[Path]:
    """Mount points of all hierarchies; one, where the machine has the second version only."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(where) for _, where, kind, *_ in lines if kind in {"cgroup", "cgroup2"}]


def _make_cgroup(root: Path) -> None:
    """Makes the group that holds all pods, able to do what the kubelet asks of it."""
    group = root / NAME
    if (root / "cgroup.subtree_control").exists():
        available = (root / "cgroup.controllers").read_text().split()
        (root / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in CONTROLLERS if c in available))
    group.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of the first version, which then takes nobody
        if (group / name).exists() and (root / name).exists() and not (group / name).read_text().strip():
            (group / name).write_text((root / name).read_text())


def _remove_cgroup(group: Path) -> bool:
    """Removes what it can of a tree of groups, which empty soon after their processes; returns whether all is gone."""
    for folder, _folders, _files in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)
    return not group.exists()
