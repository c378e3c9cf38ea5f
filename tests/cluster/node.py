"""The node: namespaces that hold the whole cluster, and what is asked of it.

Everything of a whole cluster runs in mount, network and process namespaces of its own, whose first process does
nothing but live. When that is ended, the kernel ends all others, and takes their mounts, interfaces and packet
rules with them; so a crash leaves as little behind as a proper end. What the namespaces cannot hold is in `traces`.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.control_plane import SERVICES
from tests.cluster.errors import ClusterError
from tests.cluster.packages import SEARCH
from tests.cluster.process import Roster, wait_for

if TYPE_CHECKING:
    from tests.cluster.places import Places
    from tests.cluster.process import Process

NETWORK = "10.213.0.0/16"
"""All addresses below."""

HOST_ADDRESS = "10.213.0.1"
NODE_ADDRESS = "10.213.0.2"
LINK = "datacube0"
"""The end of the cable to the node that stands in this machine's own network."""

PODS = "10.213.128.0/20"
NODE_NAME = "datacube-node"
INIT = Path(__file__).with_name("init.py")

COVERED = {
    Path("/run"): "",
    Path("/var/log"): "pod-logs",
    Path("/var/lib/cni"): "",
    Path("/var/lib/kubelet"): "kubelet",
}
"""Folders outside of the state that a node writes to -> what is mounted over them inside: a folder of the state, which
outlives the namespaces, or memory, which does not, as on a machine that is started anew."""

CTR = ("ctr", "--address=/run/containerd/containerd.sock", "--namespace=k8s.io")


@dataclass(frozen=True)
class Node:
    """The namespaces of one state folder, entered with nsenter."""

    places: Places

    @property
    def bridge_address(self) -> str:
        """This machine's address on the cable to the node: servers that pods shall reach listen there."""
        return HOST_ADDRESS

    @property
    def keeper(self) -> Roster:
        """Remembers the first process of the namespaces."""
        return Roster(self.places.state / "namespaces", self.places.logs, {"PATH": SEARCH})

    @property
    def roster(self) -> Roster:
        """Starts processes inside the namespaces."""
        return Roster(self._processes, self.places.logs, {"PATH": SEARCH}, self._enter())

    def is_running(self) -> bool:
        """Whether the namespaces are there."""
        return self.keeper.find("init") is not None

    def ensure_namespaces(self) -> None:
        """Has the namespaces, with the mounts and the network that a node needs."""
        if self.is_running() and self._furnished.exists():
            return
        self.end()
        command = ["unshare", "--mount", "--propagation=private", "--net", "--pid", "--mount-proc"]
        command += ["--fork", "--kill-child", "--", sys.executable, "-I", str(INIT)]
        self.keeper.ensure("init", command)
        wait_for(lambda: self._init_pid() != 0, 10, "the namespaces do not start")
        self._mount()
        self._connect()
        self._furnished.touch()

    def end(self) -> None:
        """Ends the namespaces and with them every process, mount, interface and packet rule inside."""
        self._furnished.unlink(missing_ok=True)
        self.keeper.kill_all()
        for process in self._entered():
            process.wait()
        wait_for(lambda: not _is_link(LINK), 10, f"the interface {LINK} outlives its namespace")

    def run(self, *command: str, text: str | None = None) -> str:
        """Runs a command inside and returns what it prints."""
        return run(*self._enter(), *command, text=text)

    def load_image(self, archive: Path) -> None:
        """Imports a docker or OCI archive into containerd, where the kubelet finds it."""
        with archive.open("rb") as stream:
            command = [*self._enter(), *CTR, "images", "import", "-"]
            done = subprocess.run(command, stdin=stream, capture_output=True, check=False)
        if done.returncode:
            raise ClusterError(f"containerd does not take {archive}: {done.stderr.decode().strip()}")

    def _entered(self) -> list[Process]:
        return Roster(self._processes, self.places.logs, {}).recorded()

    @property
    def _processes(self) -> Path:
        return self.places.state / "processes"

    @property
    def _furnished(self) -> Path:
        return self.places.state / "namespaces" / "furnished"

    def _init_pid(self) -> int:
        """The process id, as this machine sees it, of the first process inside."""
        keeper = self.keeper.find("init")
        return child_of(keeper.pid) if keeper else 0

    def _enter(self) -> tuple[str, ...]:
        return ("nsenter", f"--target={self._init_pid()}", "--mount", "--net", "--pid", "--")

    def _mount(self) -> None:
        """Covers what a node writes outside of the state folder; containers see later mounts, as on any node."""
        self.run("mount", "--make-rshared", "/")
        for folder, kept in COVERED.items():
            if kept:
                source = self.places.state / kept
                source.mkdir(parents=True, exist_ok=True)
                self.run("mount", "--bind", str(source), str(folder))
            else:
                self.run("mount", "-t", "tmpfs", "-o", "mode=755", "datacube", str(folder))

    def _connect(self) -> None:
        """Lays a cable between this machine and the node. There is no way from the node to anywhere else."""
        if run("ip", "route", "show", "root", NETWORK).strip():
            raise ClusterError(f"this machine has a route into {NETWORK}, which the cluster uses")
        peer = ["peer", "name", "eth0", "netns", str(self._init_pid())]
        run("ip", "link", "add", LINK, "type", "veth", *peer)
        run("ip", "address", "add", f"{HOST_ADDRESS}/30", "dev", LINK)
        run("ip", "link", "set", LINK, "up")
        self.run("ip", "address", "add", f"{NODE_ADDRESS}/30", "dev", "eth0")
        for interface in ("lo", "eth0"):
            self.run("ip", "link", "set", interface, "up")
        self.run("tee", "/proc/sys/net/ipv4/ip_forward", text="1")
        for network in (PODS, SERVICES):
            run("ip", "route", "add", network, "via", NODE_ADDRESS)


def child_of(pid: int) -> int:
    """Returns the id of a child of the process, 0 where it has none."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            return int(stat.parent.name)
    return 0


def run(*command: str, text: str | None = None) -> str:
    """Runs a command of the operating system and returns what it prints."""
    done = subprocess.run(command, input=text, env={"PATH": SEARCH}, check=False, text=True, capture_output=True)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _is_link(name: str) -> bool:
    return Path("/sys/class/net", name).exists()
