"""The default storage class: local-path-provisioner, a process beside the others, which makes folders of the node.

Its volumes are of type `local` and belong to root, as those of a cloud's disks do: a pod that may not write to one
without `fsGroup` there may not write to one here.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.cluster.images import BUSYBOX
from tests.cluster.node import NODE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster
    from tests.cluster.control_plane import ControlPlane

NAMESPACE = "local-path-storage"
USER = "local-path-provisioner"
PROVISIONER = "rancher.io/local-path"
STORAGE_CLASS = "local-path"

_SETUP = '#!/bin/sh\nset -eu\nmkdir -m 0755 -p "$VOL_DIR"\n'
_TEARDOWN = '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n'


def storage_documents(folder: Path) -> list[dict[str, Any]]:
    """What the provisioner needs in the cluster; its volumes are made below `folder`."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": USER, "namespace": NAMESPACE}},
        _config(folder),
        _storage_class(),
        *_rights(),
    ]


def provisioner_command(plane: ControlPlane) -> list[str]:
    """The provisioner, with its own user's certificate."""
    pair = plane.authority.issue("local-path-provisioner", user=USER)
    kubeconfig = plane.write_kubeconfig(plane.folder / "local-path.kubeconfig", pair)
    command = [str(plane.programs["local-path-provisioner"]), "start", f"--kubeconfig={kubeconfig}"]
    command += [f"--namespace={NAMESPACE}", f"--helper-image={BUSYBOX}", f"--service-account-name={USER}"]
    return [*command, f"--provisioner-name={PROVISIONER}", "--configmap-name=local-path-config"]


@contextmanager
def small_volume(cluster: Cluster, claim: str, namespace: str, *, megabytes: int) -> Iterator[None]:
    """Makes a claim bound to a volume of so many megabytes, in memory, that really ends there; removes both afterwards.

    The pods that use it must have ended before the block does.
    """
    volume = f"{namespace}-{claim}"
    folder = cluster.own_node("claims of few megabytes cannot be made").places.state / "small" / volume
    cluster.in_node("mkdir", "-p", str(folder))
    cluster.in_node("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", volume, str(folder))
    cluster.apply(*_bound_pair(volume, folder, claim, namespace, f"{megabytes}Mi"))
    try:
        cluster.kubectl("wait", f"pvc/{claim}", f"--namespace={namespace}", "--for=jsonpath={.status.phase}=Bound")
        yield
    finally:
        cluster.kubectl("delete", f"pvc/{claim}", f"--namespace={namespace}")
        cluster.kubectl("delete", f"pv/{volume}")
        cluster.in_node("umount", str(folder))


def _bound_pair(volume: str, folder: Path, claim: str, namespace: str, size: str) -> list[dict[str, Any]]:
    """A volume for this claim only, and the claim."""
    shared: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    place = {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}}
    reference = {"name": claim, "namespace": namespace}
    spec = shared | {"capacity": {"storage": size}, "claimRef": reference, "persistentVolumeReclaimPolicy": "Retain"}
    spec |= {"local": {"path": str(folder)}, "nodeAffinity": place}
    wish = shared | {"volumeName": volume, "resources": {"requests": {"storage": size}}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": reference, "spec": wish},
    ]


def _config(folder: Path) -> dict[str, Any]:
    nodes = {"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(folder)]}]}
    container = {"name": "helper-pod", "image": BUSYBOX, "imagePullPolicy": "Never"}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    helper = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "helper-pod"}, "spec": spec}
    data = {
        "config.json": json.dumps(nodes),
        "setup": _SETUP,
        "teardown": _TEARDOWN,
        "helperPod.yaml": json.dumps(helper),
    }
    metadata = {"name": "local-path-config", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _storage_class() -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true", "defaultVolumeType": "local"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": annotations},
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }


def _rights() -> list[dict[str, Any]]:
    """Those of the provisioner's own manifests."""
    everything = ["get", "list", "watch", "create", "patch", "update", "delete"]
    rules = [
        _rule("", ["nodes", "persistentvolumeclaims", "configmaps", "pods/log"], ["get", "list", "watch"]),
        _rule("", ["persistentvolumes", "pods"], everything),
        _rule("", ["events"], ["create", "patch"]),
        _rule("storage.k8s.io", ["storageclasses"], ["get", "list", "watch"]),
    ]
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": USER}, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": USER},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": USER},
        "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
    }
    return [role, binding]


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}
