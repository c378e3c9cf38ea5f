"""What makes the node run pods: containerd, kubelet, kube-proxy and the pods' network, as files and commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.cluster.images import PAUSE
from tests.cluster.node import NODE_ADDRESS, NODE_NAME, PODS, run
from tests.cluster.packages import CNI_PLUGINS
from tests.cluster.places import NAME, write_changed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.control_plane import ControlPlane

SOCKET = "/run/containerd/containerd.sock"

CONTAINERD = """\
version = 2
root = "{root}"
state = "/run/containerd"

[grpc]
address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without CAP_SYS_RESOURCE nobody may lower a score, and runc dies when it is told to.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{network}"
"""


def containerd_command(folder: Path) -> list[str]:
    """containerd with data of its own."""
    config = folder / "containerd.toml"
    values = {"root": folder / "containerd", "socket": SOCKET, "pause": PAUSE, "snapshotter": _snapshotter(folder)}
    write_changed(config, CONTAINERD.format(**values, plugins=CNI_PLUGINS, network=_write_network(folder)))
    return ["containerd", f"--config={config}"]


def kubelet_command(plane: ControlPlane) -> list[str]:
    """The kubelet; its own certificate serves for asking and for being asked."""
    pair = plane.authority.issue(
        "kubelet", user=f"system:node:{NODE_NAME}", group="system:nodes", names=[f"IP:{NODE_ADDRESS}"]
    )
    kubeconfig = plane.write_kubeconfig(plane.folder / "kubelet.kubeconfig", pair)
    config = _kubelet_config(plane) | {"tlsCertFile": str(pair.certificate), "tlsPrivateKeyFile": str(pair.key)}
    file = _write(plane.folder / "kubelet.json", config)
    command = [str(plane.programs["kubelet"]), f"--config={file}", f"--kubeconfig={kubeconfig}"]
    return [*command, f"--hostname-override={NODE_NAME}", f"--node-ip={NODE_ADDRESS}"]


def proxy_command(plane: ControlPlane) -> list[str]:
    """kube-proxy, which leaves the machine's table of connections as large as it is."""
    pair = plane.authority.issue("kube-proxy", user="system:kube-proxy")
    kubeconfig = plane.write_kubeconfig(plane.folder / "kube-proxy.kubeconfig", pair)
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": NODE_NAME,
        "conntrack": {"maxPerCore": 0},
    }
    return [str(plane.programs["kube-proxy"]), f"--config={_write(plane.folder / 'kube-proxy.json', config)}"]


def _kubelet_config(plane: ControlPlane) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.authority.pair.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{NAME}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "resolvConf": str(_write_resolver(plane.folder)),
        **_patience(plane.folder),
    }


def _patience(folder: Path) -> dict[str, Any]:
    """A small disk that is nearly full is no reason to evict; and what happens is seen soon."""
    return {
        "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "nodefs.inodesFree"), "0%")
        | dict.fromkeys(("imagefs.available", "imagefs.inodesFree"), "0%"),
        "imageGCHighThresholdPercent": 100,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
        "volumePluginDir": str(folder / "volume-plugins"),
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
    }


def _write_resolver(folder: Path) -> Path:
    """There is no DNS: services are found by `<NAME>_SERVICE_HOST`, servers of this machine by the bridge address.

    A name is asked of the pod's own loopback, where nobody listens, so that it is refused at once and not waited for.
    """
    return write_changed(folder / "resolv.conf", "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")


def _write_network(folder: Path) -> Path:
    """Each pod is routed through the node by itself, so that kube-proxy's rules see all of its packets."""
    network = folder / "network"
    network.mkdir(exist_ok=True)
    ipam = {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    plugin = {"type": "ptp", "ipam": ipam}
    _write(network / "10-datacube.conflist", {"cniVersion": "1.0.0", "name": "datacube", "plugins": [plugin]})
    return network


def _snapshotter(folder: Path) -> str:
    """Overlays cannot be stacked on an overlay, which is what the disk of a container is."""
    return "native" if run("stat", "-f", "-c", "%T", str(folder)).strip() == "overlayfs" else "overlayfs"


def _write(file: Path, content: dict[str, Any]) -> Path:
    return write_changed(file, json.dumps(content, indent=1))
