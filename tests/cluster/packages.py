"""What the operating system brings: programs of the tests' servers, and all that a cluster needs.

On Debian and its children, root gets what is missing installed; anybody else is told what to install.
`python -m tests.cluster.packages` has those of the tests that need no cluster.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.errors import ClusterError, say

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CNI_PLUGINS = Path("/usr/lib/cni")
POSTGRES = "/usr/lib/postgresql/*/bin/postgres"
CHROMIUM = "chromium-headless-shell"

TESTS = {
    "git-lfs": ("git-lfs", "git's transfers"),
    "postgresql": (POSTGRES, "the tests of the Prefect engine: its server's database"),
    "chromium-headless-shell": (CHROMIUM, "the tests of what Prefect's pages show"),
}
NEEDED = "git-lfs"
"""Without the others, tests are skipped; without this one, nothing works."""

API = {
    "openssl": ("openssl", "makes the certificates"),
    "util-linux": ("setpriv", "ends servers with the test that started them"),
}
NODE = API | {
    "containerd": ("containerd", "runs containers for the kubelet"),
    "runc": ("runc", "starts a container"),
    "containernetworking-plugins": (str(CNI_PLUGINS / "ptp"), "gives a pod its network"),
    "iptables": ("iptables", "kube-proxy's service addresses"),
    "conntrack": ("conntrack", "kube-proxy forgets dead connections with it"),
    "ethtool": ("ethtool", "asked for by the kubelet"),
    "socat": ("socat", "kubectl port-forward"),
    "iproute2": ("ip", "makes the cluster's network"),
    "busybox-static": ("busybox", "the only content of the pause image and of the test image"),
    "mmdebstrap": ("mmdebstrap", "makes the base of the transfer image"),
    "buildah": ("buildah", "builds the transfer image"),
}
PACKAGES = {"tests": TESTS, "api": API, "whole": NODE}
"""Tier -> Debian package -> (a program of it, or a pattern of its path, what it is needed for)."""


def missing_packages(tier: str, search: str = SEARCH) -> dict[str, str]:
    """Returns package -> what it is needed for, of those whose program is not there."""
    return {p: why for p, (program, why) in PACKAGES[tier].items() if not _is_there(program, search)}


def _is_there(program: str, search: str) -> bool:
    if "*" in program:
        return any(Path("/").glob(program.removeprefix("/")))
    return shutil.which(program, path=search) is not None


def ensure_packages(tier: str) -> None:
    """Has all packages of the tier installed when it returns.

    Raises:
        ClusterError: This is not Linux, or root is needed, or packages are missing and this cannot install them.
    """
    if sys.platform != "linux":
        raise ClusterError("the cluster needs Linux: namespaces, cgroups and a kubelet")
    if tier == "whole" and os.geteuid() != 0:
        raise ClusterError("a whole cluster needs root: it makes namespaces and cgroups, and mounts volumes")
    missing = missing_packages(tier)
    if not missing:
        return
    if not _can_install():
        raise ClusterError(f"missing: {_listing(missing)}\nInstall them (names are Debian's), and try again")
    _install(missing)


def main() -> int:
    """Has what the tests' servers need, as far as this machine offers it; 1 where nothing could begin."""
    search = f"{os.environ.get('PATH', '')}:{SEARCH}"
    missing = missing_packages("tests", search)
    for package, why in missing.items() if _can_install() else ():
        try:
            _install({package: why})
        except ClusterError as error:
            say(str(error))
    if missing := missing_packages("tests", search):
        say(f"missing: {_listing(missing)}\nInstall them (names are Debian's); tests without theirs are skipped")
    return 1 if NEEDED in missing else 0


def _can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get", path=SEARCH) is not None


def _listing(packages: dict[str, str]) -> str:
    return "".join(f"\n  {package}: {why}" for package, why in packages.items())


def _install(missing: dict[str, str]) -> None:
    say(f"installing with apt-get: {_listing(missing)}")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    done = _apt(install)
    if done.returncode:
        _apt(["apt-get", "update", "-qq"])
        done = _apt(install)
    if done.returncode:
        raise ClusterError(f"apt-get failed:\n{done.stdout}")


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs it without questions. Where systemd runs, Debian starts services, of which none is used."""
    env = {"PATH": SEARCH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, env=env, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    raise SystemExit(main())
