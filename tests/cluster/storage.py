"""The default storage class: local-path-provisioner, a process beside the others, which makes folders of the node.

Its volumes are of type `local` and belong to root, as those of a cloud's disks do: a pod that may not write to one
without `fsGroup` there may not write to one here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.cluster.images import BUSYBOX

if TYPE_CHECKING:
    from pathlib import Path

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
