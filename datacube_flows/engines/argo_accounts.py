"""The service accounts that pods of workflows run under, with the rights that they use and no others.

The attempt itself sees no token: Argo's container beside it does, and reports the outputs with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from datacube_flows.core import labels

RBAC: Final = "rbac.authorization.k8s.io"
RUNNER_ROLE: Final = "datacube-runner"
PROVISIONER_ROLE: Final = "datacube-provisioner"

Rule = dict[str, list[str]]
REPORT_OUTPUTS: Final[Rule] = {
    "apiGroups": ["argoproj.io"],
    "resources": ["workflowtaskresults"],
    "verbs": ["create", "patch"],
}
MAKE_CLAIMS: Final[Rule] = {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get", "create"]}


@dataclass(frozen=True, slots=True)
class ArgoSettings:
    """What an installation decides about Argo.

    Attributes:
        runner_account: service account of attempts, for Argo's own container beside them (`workflowtaskresults: create,
            patch`); a document's `serviceAccountName` takes its place, and needs the same rights.
        provisioner_account: that of the step which makes the claim (also `persistentvolumeclaims: get, create`).
        ttl_seconds: how long a run's workflow and pods are kept after its end.
    """

    runner_account: str = "datacube-runner"
    provisioner_account: str = "datacube-provisioner"
    ttl_seconds: int = 86400


DEFAULTS: Final = ArgoSettings()


def render_cluster_roles() -> list[dict[str, Any]]:
    """Returns the two roles that the accounts of all namespaces are bound to; an installation makes them once.

    So that whoever makes accounts need not hold these rights, but only the right to bind these two roles.
    """
    roles = {RUNNER_ROLE: [REPORT_OUTPUTS], PROVISIONER_ROLE: [REPORT_OUTPUTS, MAKE_CLAIMS]}
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
        for name, rules in roles.items()
    ]


def render_accounts(namespace: str, settings: ArgoSettings = DEFAULTS) -> list[dict[str, Any]]:
    """Returns both accounts of a namespace, each with what gives it its role there."""
    return [
        *_account(settings.runner_account, namespace, RUNNER_ROLE),
        *_account(settings.provisioner_account, namespace, PROVISIONER_ROLE),
    ]


def _account(name: str, namespace: str, role: str) -> list[dict[str, Any]]:
    metadata = {"name": name, "namespace": namespace, "labels": {labels.MANAGED_BY: labels.MANAGER}}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    ]
