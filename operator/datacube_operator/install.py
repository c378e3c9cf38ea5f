"""What `kubectl apply --server-side` installs: CRD, rights, and two replicas of the operator. Plain objects; pure."""

from __future__ import annotations

from typing import Any, Final

from datacube_flows import __version__
from datacube_flows.core import labels
from datacube_flows.core.crd import make_crd
from datacube_flows.core.manifests import RESTRICTED_CONTAINER, SCRATCH_FOLDER, USER_ID
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

LABELS: Final = {
    "app.kubernetes.io/name": "datacube",
    "app.kubernetes.io/part-of": "datacube",
    "app.kubernetes.io/version": __version__,
}
"""None says who manages an object: of pods, that word tells the operator which are its attempts."""

RESTRICTED_POD: Final = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SCRATCH: Final = {
    "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "256Mi"}}],
    "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_FOLDER}],
}
"""The only folder that a container may write to: of its pod, and of itself."""

PREFECT: Final = "datacube-prefect"
"""Names the Secret with the words that Prefect and the operator know each other by, the server, and its objects."""

AUTH_KEY: Final = "auth-string"
PREFECT_SETTINGS: Final = f"{NAME}-prefect"
"""Names what tells the operator of a Prefect server; where neither this nor the Secret is there, it has none."""

SELECTOR: Final = {"app.kubernetes.io/name": "datacube", "app.kubernetes.io/component": "operator"}


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
    return [labelled(_namespace(namespace)), make_crd(), *map(labelled, objects)]


def make_transfer_policy() -> Object:
    """Returns a policy for the transfers of the namespace that it is applied to: no way to the nodes' credentials.

    Names are looked up all the same, since resolvers of nodes have link-local addresses too.
    """
    blocks = [{"ipBlock": {"cidr": cidr, "except": those}} for cidr, those in LINK_LOCAL.items()]
    return labelled(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "datacube-transfer"},
            "spec": {
                "podSelector": {"matchLabels": {labels.STEP: labels.TRANSFER}},
                "policyTypes": ["Egress"],
                "egress": [{"to": blocks}, {"ports": dns_ports()}],
            },
        }
    )


def labelled(made: Object) -> Object:
    """Returns the object with the labels of all that is installed."""
    metadata = made["metadata"]
    return made | {"metadata": metadata | {"labels": LABELS | metadata.get("labels", {})}}


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
        make_binding("ClusterRoleBinding", {"name": NAME}, "ClusterRole", NAME, namespace),
        lease_role,
        make_binding("RoleBinding", here, "Role", NAME, namespace),
    ]


def make_binding(kind: str, metadata: Object, role_kind: str, role: str, namespace: str) -> Object:
    """Returns a binding of a role to the operator's account."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
    }


def from_secret(variable: str, key: str, *, optional: bool = False) -> Object:
    """Returns a variable of a container whose value is in the Secret of Prefect."""
    reference = {"name": PREFECT, "key": key} | ({"optional": True} if optional else {})
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


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
            "selector": {"matchLabels": SELECTOR},
            "template": {"metadata": {"labels": LABELS | SELECTOR}, "spec": _pod()},
        },
    }


def _pod() -> Object:
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    return {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": RESTRICTED_POD,
        "topologySpreadConstraints": [spread | {"labelSelector": {"matchLabels": SELECTOR}}],
        "containers": [_container()],
        "volumes": SCRATCH["volumes"],
    }


def _container() -> Object:
    return {
        "name": "operator",
        "image": IMAGE,
        "args": [f"--transfer-image={TRANSFER_IMAGE}", f"--listen=:{PORT}"],
        "envFrom": [{"configMapRef": {"name": PREFECT_SETTINGS, "optional": True}}],
        "env": [from_secret("PREFECT_API_AUTH_STRING", AUTH_KEY, optional=True)],
        "ports": [{"name": PORT_NAME, "containerPort": PORT}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": PORT_NAME}, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": PORT_NAME}, "timeoutSeconds": 5, "periodSeconds": 5},
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": SCRATCH["volumeMounts"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _disruption_budget(namespace: str) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": SELECTOR}},
    }


def _service(namespace: str) -> Object:
    """Where Prometheus finds the metrics."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{NAME}-metrics", "namespace": namespace},
        "spec": {"selector": SELECTOR, "ports": [{"name": PORT_NAME, "port": PORT, "targetPort": PORT_NAME}]},
    }


def _network_policy(namespace: str) -> Object:
    """To the operator: metrics and probes. From it: names, and the API server."""
    api = [{"protocol": "TCP", "port": port} for port in API_PORTS]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "podSelector": {"matchLabels": SELECTOR},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": PORT_NAME}]}],
            "egress": [{"ports": [*dns_ports(), *api]}],
        },
    }


def dns_ports() -> list[Object]:
    """Returns where names are looked up."""
    return [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")]
