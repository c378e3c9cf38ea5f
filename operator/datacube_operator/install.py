"""What `kubectl apply --server-side` installs: CRD, rights, and two replicas of the operator. Plain objects; pure."""

from __future__ import annotations

from typing import Any, Final

from datacube_flows import __version__
from datacube_flows.core import labels
from datacube_flows.core.crd import make_crd
from datacube_flows.core.manifests import RESTRICTED_CONTAINER, USER_ID
from datacube_flows.engines.argo_accounts import RBAC, render_cluster_roles
from datacube_operator.rights import lease_rules, make_role, operator_rules, user_roles
from datacube_operator.settings import DEFAULT_NAMESPACE, LEASE_NAME, TRANSFER_IMAGE

Object = dict[str, Any]

NAME: Final = "datacube-operator"
IMAGE: Final = f"datacube/operator:{__version__}"
REPLICAS: Final = 2
PORT: Final = 8080
PORT_NAME: Final = "http"
GRACE_SECONDS: Final = 30
"""More than `Runtime.stop_seconds`, the events' second and the lease's last write take together."""

API_PORTS: Final = (443, 6443)
"""Where API servers are reached: the service's port, and what is behind it (a network policy may see either)."""

DNS_PORT: Final = 53
LINK_LOCAL: Final = {"0.0.0.0/0": ["169.254.0.0/16"], "::/0": ["fe80::/10", "fd00:ec2::254/128"]}
"""Everywhere, but for where clouds keep their nodes' credentials (SECURITY S19)."""

_LABELS: Final = {
    "app.kubernetes.io/name": "datacube",
    "app.kubernetes.io/part-of": "datacube",
    "app.kubernetes.io/version": __version__,
}
"""None says who manages an object: of pods, that word tells the operator which are its attempts."""

_SELECTOR: Final = {"app.kubernetes.io/name": "datacube", "app.kubernetes.io/component": "operator"}


def make_installation() -> list[Object]:
    """Returns all objects, each after what it needs."""
    namespace = DEFAULT_NAMESPACE
    objects = [
        *render_cluster_roles(),
        *user_roles(),
        *_rights(namespace),
        _deployment(namespace),
        _disruption_budget(namespace),
        _service(namespace),
        _network_policy(namespace),
    ]
    return [_labelled(_namespace(namespace)), make_crd(), *map(_labelled, objects)]


def make_transfer_policy() -> Object:
    """Returns a policy for the transfers of the namespace that it is applied to: no way to the nodes' credentials.

    Names are looked up all the same, since resolvers of nodes have link-local addresses too.
    """
    blocks = [{"ipBlock": {"cidr": cidr, "except": those}} for cidr, those in LINK_LOCAL.items()]
    return _labelled(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "datacube-transfer"},
            "spec": {
                "podSelector": {"matchLabels": {labels.STEP: labels.TRANSFER}},
                "policyTypes": ["Egress"],
                "egress": [{"to": blocks}, {"ports": _dns()}],
            },
        }
    )


def _labelled(made: Object) -> Object:
    metadata = made["metadata"]
    return made | {"metadata": metadata | {"labels": _LABELS | metadata.get("labels", {})}}


def _namespace(name: str) -> Object:
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted}}


def _rights(namespace: str) -> list[Object]:
    """The operator's account, with its rights everywhere, and those on the lease in its own namespace."""
    here = {"name": NAME, "namespace": namespace}
    lease_role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": here, "rules": lease_rules(LEASE_NAME)}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here, "automountServiceAccountToken": False},
        make_role(NAME, operator_rules()),
        _binding("ClusterRoleBinding", {"name": NAME}, "ClusterRole", namespace),
        lease_role,
        _binding("RoleBinding", here, "Role", namespace),
    ]


def _binding(kind: str, metadata: Object, role: str, namespace: str) -> Object:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": role, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
    }


def _deployment(namespace: str) -> Object:
    """Two replicas, of which one leads; the other takes over with its caches filled."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "replicas": REPLICAS,
            "revisionHistoryLimit": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": _SELECTOR},
            "template": {"metadata": {"labels": _LABELS | _SELECTOR}, "spec": _pod()},
        },
    }


def _pod() -> Object:
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    return {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread | {"labelSelector": {"matchLabels": _SELECTOR}}],
        "containers": [_container()],
    }


def _container() -> Object:
    return {
        "name": "operator",
        "image": IMAGE,
        "args": [f"--transfer-image={TRANSFER_IMAGE}", f"--listen=:{PORT}"],
        "ports": [{"name": PORT_NAME, "containerPort": PORT}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": PORT_NAME}, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": PORT_NAME}, "timeoutSeconds": 5, "periodSeconds": 5},
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "securityContext": RESTRICTED_CONTAINER,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _disruption_budget(namespace: str) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": _SELECTOR}},
    }


def _service(namespace: str) -> Object:
    """Where Prometheus finds the metrics."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{NAME}-metrics", "namespace": namespace},
        "spec": {"selector": _SELECTOR, "ports": [{"name": PORT_NAME, "port": PORT, "targetPort": PORT_NAME}]},
    }


def _network_policy(namespace: str) -> Object:
    """To the operator: metrics and probes. From it: names, and the API server."""
    api = [{"protocol": "TCP", "port": port} for port in API_PORTS]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "podSelector": {"matchLabels": _SELECTOR},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": PORT_NAME}]}],
            "egress": [{"ports": [*_dns(), *api]}],
        },
    }


def _dns() -> list[Object]:
    return [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")]
