"""What the operating system brings: the container runtime, the network's tools, and what images are made with.

On Debian and its children, root gets what is missing installed; anybody else is told what to install.
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
PACKAGES = {"api": API, "whole": NODE}
"""Tier -> Debian package -> (a program of it, what it is needed for)."""


def missing_packages(tier: str) -> dict[str, str]:
    """Returns package -> what it is needed for, of those whose program is not there."""
    return {p: why for p, (program, why) in PACKAGES[tier].items() if shutil.which(program, path=SEARCH) is None}


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
    if os.geteuid() != 0 or not shutil.which("apt-get", path=SEARCH):
        raise ClusterError(f"missing: {_listing(missing)}\nInstall them (names are Debian's), and try again")
    say(f"installing with apt-get: {_listing(missing)}")
    _install(list(missing))


def _listing(packages: dict[str, str]) -> str:
    return "".join(f"\n  {package}: {why}" for package, why in packages.items())


def _install(packages: list[str]) -> None:
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    done = _apt(install)
    if done.returncode:
        _apt(["apt-get", "update", "-qq"])
        done = _apt(install)
    if done.returncode:
        raise ClusterError(f"apt-get failed:\n{done.stdout}")


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs it without questions. Where systemd runs, Debian starts a containerd service; the cluster has its own."""
    env = {"PATH": SEARCH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, env=env, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
