"""What the operator may do, and what users may: the roles of an installation, as plain objects. Pure.

Every verb that is listed is one that the operator uses, and no more: no wildcard, no Secret, nothing in pods but their
logs. It may not make roles, only bind the two that its installation brings.
"""

from __future__ import annotations

from typing import Any, Final

from datacube_flows.api.datacube import GROUP
from datacube_flows.core.crd import PLURAL
from datacube_flows.engines.argo_accounts import PROVISIONER_ROLE, RBAC, RUNNER_ROLE

Object = dict[str, Any]

ARGO: Final = "argoproj.io"
FOLLOW: Final = ("list", "watch")
READ: Final = ("get", *FOLLOW)
WRITE: Final = ("create", "update", "patch", "delete", "deletecollection")


def make_role(name: str, rules: list[Object], *, labels: dict[str, str] | None = None) -> Object:
    """Returns a ClusterRole."""
    metadata = {"name": name} | ({"labels": labels} if labels else {})
    return {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}


def operator_rules() -> list[Object]:
    """Returns the operator's rights in all namespaces (SECURITY 2.6)."""
    return [
        _rule(GROUP, PLURAL, *READ, "delete"),  # deletes what has `ttlSecondsAfterFinished`
        _rule(GROUP, f"{PLURAL}/status", "patch"),
        _rule("", "persistentvolumeclaims", *FOLLOW),
        _rule("", "pods", *FOLLOW),
        _rule("", "pods/log", "get"),
        _rule(ARGO, "workflows", *READ, "create", "patch", "delete"),
        _rule(ARGO, "workflowtemplates", *READ, "create", "patch", "delete"),
        _rule(ARGO, "workflowtaskresults", "list", "patch"),
        _rule("events.k8s.io", "events", "get", "create", "patch"),
        _rule("", "serviceaccounts", "create"),
        _rule(RBAC, "rolebindings", "create"),
        _rule(RBAC, "clusterroles", "bind", names=[RUNNER_ROLE, PROVISIONER_ROLE]),
    ]


def prefect_rules() -> list[Object]:
    """Returns the further rights of an operator that runs transfers in Prefect: there it makes pods and claims itself.

    A flow run that somebody retries becomes a re-run annotation on its DataCube.
    """
    return [
        _rule("", "pods", "create", "delete"),
        _rule("", "persistentvolumeclaims", "create"),
        _rule(GROUP, PLURAL, "patch"),
    ]


def lease_rules(name: str) -> list[Object]:
    """Returns the operator's rights in its own namespace; no name can be given where an object is made."""
    group = "coordination.k8s.io"
    return [_rule(group, "leases", "create"), _rule(group, "leases", "get", "update", names=[name])]


def user_roles() -> list[Object]:
    """Returns the roles that a cluster's own `edit`, `admin` and `view` take up.

    Whoever may make DataCubes may read the Secrets of their namespace, as whoever may make pods there: so this is part
    of `edit`, and no right to write is part of `view` (SECURITY 2.1).
    """
    status = _rule(GROUP, f"{PLURAL}/status", "get")
    return [
        make_role(
            "datacube-editor", [_rule(GROUP, PLURAL, *READ, *WRITE), status], labels=_taken_up_by("edit", "admin")
        ),
        make_role("datacube-viewer", [_rule(GROUP, PLURAL, *READ), status], labels=_taken_up_by("view")),
    ]


def _taken_up_by(*roles: str) -> dict[str, str]:
    return {f"{RBAC}/aggregate-to-{role}": "true" for role in roles}


def _rule(group: str, resource: str, *verbs: str, names: list[str] | None = None) -> Object:
    rule: Object = {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
    return rule | ({"resourceNames": names} if names else {})
