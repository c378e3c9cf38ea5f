"""etcd, the API server and the controllers: their commands, and what they read.

`ControlPlane` knows one address and one folder; where the processes run (this machine's namespaces, or the node's
own) is the caller's business. Data are thrown away with the cluster, so etcd does not wait for disks.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.certificates import LOCAL_NAMES, Authority, Pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVICES = "10.213.64.0/20"
SERVICE_ADDRESS = "10.213.64.1"
"""The first of the services: the API server, as pods see it."""

ISSUER = "https://kubernetes.default.svc"
ADMIN_GROUP = "system:masters"


@dataclass(frozen=True)
class Ports:
    """What a control plane listens on."""

    api: int = 6443
    etcd: int = 2379
    etcd_peer: int = 2380


@dataclass(frozen=True)
class ControlPlane:
    """One etcd and one API server at an address, with the certificates of all who speak to them."""

    folder: Path
    programs: Mapping[str, Path]
    address: str = "127.0.0.1"
    ports: Ports = field(default_factory=Ports)

    @property
    def url(self) -> str:
        """Where clients reach the API server."""
        return f"https://{self.address}:{self.ports.api}"

    @property
    def authority(self) -> Authority:
        """Signs everybody's certificate."""
        return Authority(self.folder / "pki")

    @property
    def admin(self) -> Pair:
        """May do everything."""
        return self.authority.issue("admin", user="admin", group=ADMIN_GROUP)

    @property
    def server(self) -> Pair:
        """The API server's, under every name that it is called by."""
        service = [f"DNS:{n}" for n in ("kubernetes", "kubernetes.default", "kubernetes.default.svc")]
        names = [*LOCAL_NAMES, f"IP:{self.address}", f"IP:{SERVICE_ADDRESS}", *service]
        return self.authority.issue("apiserver", user="kube-apiserver", names=names)

    def write_kubeconfig(self, file: Path, pair: Pair | None = None) -> Path:
        """Writes the kubeconfig of a pair, the administrator's without one."""
        return self.authority.kubeconfig(file, self.url, pair or self.admin)

    def etcd_command(self) -> list[str]:
        """Both of its sides ask for a certificate; 127.0.0.1 keeps it within its network namespace."""
        pair = self.authority.issue("etcd", user="etcd", names=LOCAL_NAMES)
        client, peer = (f"https://127.0.0.1:{port}" for port in (self.ports.etcd, self.ports.etcd_peer))
        command = [str(self.programs["etcd"]), "--name=one", f"--data-dir={self.folder / 'etcd'}"]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster=one={peer}", "--unsafe-no-fsync", "--log-level=warn"]
        for side in ("", "peer-"):
            command += [f"--{side}client-cert-auth", f"--{side}trusted-ca-file={self.authority.pair.certificate}"]
            command += [f"--{side}cert-file={pair.certificate}", f"--{side}key-file={pair.key}"]
        return command

    def api_command(self, *more: str) -> list[str]:
        """The flags of every tier, and `more` of this one."""
        tokens = self.authority.token_keys()
        flags = {
            "bind-address": self.address,
            "advertise-address": self.address,
            "secure-port": self.ports.api,
            "service-cluster-ip-range": SERVICES,
            "authorization-mode": "Node,RBAC",
            "anonymous-auth": "false",
            "client-ca-file": self.authority.pair.certificate,
            "service-account-issuer": ISSUER,
            "service-account-key-file": tokens.certificate,
            "service-account-signing-key-file": tokens.key,
            "profiling": "false",
            "shutdown-delay-duration": "0s",
        }
        return [str(self.programs["kube-apiserver"]), *_flags(flags), *self._api_pairs(), *more]

    def _api_pairs(self) -> list[str]:
        """The certificates that the API server shows: to its clients, to etcd, to the kubelet."""
        etcd = self.authority.issue("apiserver-etcd", user="kube-apiserver")
        kubelet = self.authority.issue("apiserver-kubelet", user="kube-apiserver", group=ADMIN_GROUP)
        authority = self.authority.pair.certificate
        flags = {
            "tls-cert-file": self.server.certificate,
            "tls-private-key-file": self.server.key,
            "etcd-servers": f"https://127.0.0.1:{self.ports.etcd}",
            "etcd-cafile": authority,
            "etcd-certfile": etcd.certificate,
            "etcd-keyfile": etcd.key,
            "kubelet-certificate-authority": authority,
            "kubelet-client-certificate": kubelet.certificate,
            "kubelet-client-key": kubelet.key,
            "kubelet-preferred-address-types": "InternalIP",  # nobody resolves the node's name
        }
        return _flags(flags)

    def controllers_command(self, controllers: Sequence[str] = ("*",)) -> list[str]:
        """kube-controller-manager, with these controllers only."""
        authority = self.authority.pair
        flags = {
            "controllers": ",".join(controllers),
            "root-ca-file": authority.certificate,
            "cluster-signing-cert-file": authority.certificate,
            "cluster-signing-key-file": authority.key,
            "service-account-private-key-file": self.authority.token_keys().key,
            "use-service-account-credentials": "true",
        }
        return self._loop_command("kube-controller-manager", "system:kube-controller-manager", flags)

    def scheduler_command(self) -> list[str]:
        """kube-scheduler."""
        return self._loop_command("kube-scheduler", "system:kube-scheduler", {})

    def _loop_command(self, program: str, user: str, flags: Mapping[str, object]) -> list[str]:
        """A loop that watches the API: the only one, so without a lease; asked by nobody, so without a port."""
        config = self.write_kubeconfig(self.folder / f"{program}.kubeconfig", self.authority.issue(program, user=user))
        common = {"kubeconfig": config, "leader-elect": "false", "secure-port": 0, "profiling": "false"}
        return [str(self.programs[program]), *_flags(common | dict(flags))]

    def is_ready(self) -> bool:
        """Whether the API server says so, to the administrator, over a connection that is verified both ways."""
        context = ssl.create_default_context(cafile=str(self.authority.pair.certificate))
        context.load_cert_chain(self.admin.certificate, self.admin.key)
        connection = http.client.HTTPSConnection(self.address, self.ports.api, timeout=5, context=context)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _flags(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
