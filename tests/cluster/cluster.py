"""A running cluster as tests see it, and how they find it: the user's own, or the one that `up` started."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.errors import ClusterError
from tests.cluster.places import places_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cluster.node import Node
    from tests.cluster.places import Places

SECONDS = 60.0
BRIDGE_VARIABLE = "DATACUBE_BRIDGE_ADDRESS"
IMAGE_VARIABLE = "DATACUBE_IMAGE"
NEEDED = {
    BRIDGE_VARIABLE: "an address of this machine that pods reach",
    IMAGE_VARIABLE: "a transfer image that its nodes have or can pull",
}
"""What a user's cluster cannot tell; variable -> what it must be set to."""

BARE = {"PATH": "/usr/bin:/bin"}
NOT_OURS = "this cluster was not started by `make cluster`: {what}"


@dataclass(frozen=True)
class Cluster:
    """A cluster with an API; a `node` where it is a whole one that was started here."""

    kubeconfig: Path
    logs: Path | None = None
    """Where its processes log, if that is known."""

    bridge_address: str = ""
    """Where a server must listen so that pods reach it; empty where no pod runs."""

    node: Node | None = None

    environ: Mapping[str, str] = field(default_factory=BARE.copy, repr=False, compare=False)
    """kubectl's; a user's own one for the user's cluster, whose kubeconfig may name a program that logs in."""

    def kubectl(self, *arguments: str, text: str | None = None, seconds: float = SECONDS) -> str:
        """Runs kubectl, with `text` on its input, and returns what it prints.

        Raises:
            ClusterError: It failed; the message is kubectl's.
        """
        done = self.try_kubectl(*arguments, text=text, seconds=seconds)
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def try_kubectl(
        self, *arguments: str, text: str | None = None, seconds: float = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl and returns how it ended, for what is meant to be refused."""
        command, env = self.kubectl_command(*arguments), self.kubectl_environ
        return subprocess.run(
            command, input=text, env=env, text=True, capture_output=True, check=False, timeout=seconds
        )

    def kubectl_command(self, *arguments: str) -> list[str]:
        """Returns the command that runs kubectl with this cluster."""
        return [kubectl_path(), f"--kubeconfig={self.kubeconfig}", *arguments]

    @property
    def kubectl_environ(self) -> dict[str, str]:
        """The environment of that command."""
        return {**self.environ, "KUBECACHEDIR": str(self.kubeconfig.parent / "kubectl-cache")}

    def get(self, *arguments: str) -> dict[str, Any]:
        """Returns what `kubectl get` finds, as an object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "-o", "json", *arguments))
        return found

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Applies the objects server-side."""
        listing = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=json.dumps(listing))

    def load_image(self, archive: Path) -> None:
        """Makes the images of a docker or OCI archive usable by pods that say `imagePullPolicy: Never`."""
        self.own_node("load the image into its nodes by its own means").load_image(archive)

    def in_node(self, *command: str, text: str | None = None) -> str:
        """Runs a command where the kubelet runs, with its mounts and its network, and returns what it prints."""
        return self.own_node("commands cannot be run on its nodes").run(*command, text=text)

    def own_node(self, otherwise: str) -> Node:
        """Returns the node, or raises `ClusterError` that says what to do `otherwise`."""
        if self.node is None:
            raise ClusterError(NOT_OURS.format(what=otherwise))
        return self.node


def find_cluster(environ: Mapping[str, str]) -> Cluster:
    """Returns the cluster that tests shall use: that of `KUBECONFIG` where it is set, else the one started here.

    Raises:
        ClusterError: There is none, or pods of the user's cannot be told where servers of this machine listen.
    """
    from tests.cluster.node import Node

    places = places_from(environ)
    given = users_kubeconfig(environ, places)
    if given is not None:
        return _users_cluster(given, environ)
    node = Node(places)
    if not places.kubeconfig.exists() or not node.is_running():
        raise ClusterError("no cluster runs: start one with `make cluster`, or set KUBECONFIG to one of yours")
    return Cluster(places.kubeconfig, places.logs, node.bridge_address, node)


def users_kubeconfig(environ: Mapping[str, str], places: Places) -> Path | None:
    """Returns what `KUBECONFIG` names where that is a cluster of the user's own; None where it is that of `up`."""
    given = environ.get("KUBECONFIG")
    return Path(given) if given and Path(given).resolve() != places.kubeconfig.resolve() else None


def _users_cluster(kubeconfig: Path, environ: Mapping[str, str]) -> Cluster:
    if not kubeconfig.is_file():
        raise ClusterError(f"KUBECONFIG must name one file, which {kubeconfig} is not")
    if missing := [f"{name} to {what}" for name, what in NEEDED.items() if not environ.get(name)]:
        raise ClusterError(f"KUBECONFIG is set, to {kubeconfig}: also set {', and '.join(missing)}")
    return Cluster(kubeconfig, bridge_address=environ[BRIDGE_VARIABLE], environ=dict(environ))


def kubectl_path() -> str:
    """The kubectl of the environment that this Python belongs to."""
    path = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    if path is None:
        raise ClusterError("kubectl is not in the virtual environment: `make install` brings it")
    return path
