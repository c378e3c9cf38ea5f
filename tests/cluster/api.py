"""Tier T2: an API server and its etcd on loopback, for tests of CRD, admission, RBAC and operator.

No kubelet, and no controller unless asked for: nothing is scheduled, collected, or removed with its namespace.
Needs no root. As many run at once as there are free ports.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.cluster.binaries import find_programs
from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import ControlPlane, Ports
from tests.cluster.errors import ClusterError
from tests.cluster.packages import SEARCH
from tests.cluster.process import Roster, wait_for
from tests.servers.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

READY_SECONDS = 60.0
TRIES = 3
AUDIT_LOG = "audit.log"
DIES_WITH_TEST = ("setpriv", "--pdeathsig", "KILL", "--")

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:datacube-system"]},
        {"level": "None"},
    ],
}
"""Writes down what the operator asks, and of nobody else: `Metadata` is who, what and with which outcome."""

_API_FLAGS = (
    "--endpoint-reconciler-type=none",  # the service's endpoint may not be a loopback address
    "--disable-admission-plugins=ServiceAccount",  # no controller makes the accounts that it asks for
)


@contextmanager
def api_server(folder: Path, cache: Path, *, controllers: Sequence[str] = ()) -> Iterator[Cluster]:
    """Runs an API server in a folder while the block runs; ends with the calling process, however that ends.

    Args:
        folder: Gets data, certificates, logs and the kubeconfig.
        cache: Where the programs are, as `places_from` tells it.
        controllers: Names of controllers of kube-controller-manager to run, such as `garbage-collector-controller`.
    """
    roster = Roster(folder / "processes", folder / "logs", {"PATH": SEARCH}, DIES_WITH_TEST)
    try:
        start_api(roster, folder, find_programs(cache, "api"), controllers)
        yield Cluster(kubeconfig=folder / "kubeconfig", logs=folder / "logs")
    finally:
        roster.kill_all()


def start_api(roster: Roster, folder: Path, programs: Mapping[str, Path], controllers: Sequence[str] = ()) -> None:
    """Has the servers running and ready; tries other ports where one was taken just before it was bound."""
    for tries_left in reversed(range(TRIES)):
        plane = ControlPlane(folder, programs, ports=_ports(folder))
        try:
            _start(roster, plane, controllers)
        except ClusterError:
            roster.kill_all()
            (folder / "ports.json").unlink()
            if not tries_left:
                raise
        else:
            return


def _start(roster: Roster, plane: ControlPlane, controllers: Sequence[str]) -> None:
    etcd = roster.ensure("etcd", plane.etcd_command())
    policy = plane.folder / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    audit = (f"--audit-policy-file={policy}", f"--audit-log-path={plane.folder / AUDIT_LOG}")
    server = roster.ensure("kube-apiserver", plane.api_command(*_API_FLAGS, *audit))

    def ready() -> bool:
        roster.must_run(etcd)
        roster.must_run(server)
        return plane.is_ready()

    wait_for(ready, READY_SECONDS, f"the API server is not ready in {READY_SECONDS:.0f} s: see {roster.logs}")
    if controllers:
        roster.ensure("kube-controller-manager", plane.controllers_command(controllers))
    plane.write_kubeconfig(plane.folder / "kubeconfig")


def _ports(folder: Path) -> Ports:
    """The ports of this folder's servers: the ones of last time, else free ones."""
    file = folder / "ports.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(Ports(*free_ports(3)))))
    return Ports(**json.loads(file.read_text()))
