"""What is installed beside the operator where Prefect is to run transfers: a server, settings and rights.

Plain objects; pure. The server is Prefect's own, from the operator's image, so that both are of one version. Its
database, a PostgreSQL, is the user's.
"""

from __future__ import annotations

from typing import Any, Final

from datacube_flows.core import labels
from datacube_flows.core.manifests import RESTRICTED_CONTAINER, SCRATCH_FOLDER
from datacube_operator.install import (
    AUTH_KEY,
    IMAGE,
    LABELS,
    LINK_LOCAL,
    PREFECT,
    PREFECT_SETTINGS,
    RESTRICTED_POD,
    SCRATCH,
    SELECTOR,
    dns_ports,
    from_secret,
    labelled,
    make_binding,
)
from datacube_operator.rights import make_role, prefect_rules
from datacube_operator.settings import DEFAULT_NAMESPACE

Object = dict[str, Any]

PORT: Final = 4200
PORT_NAME: Final = "http"
DATABASE_KEY: Final = "database-url"
DATABASE_PORT: Final = 5432
URL: Final = f"http://{PREFECT}.{DEFAULT_NAMESPACE}:{PORT}/api"
COMMAND: Final = ("python", "-P", "-m", "prefect", "server", "start")

SERVER: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_UI_API_URL": "/api",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
"""Nobody is told of the server, and its pages ask the address that they come from, whichever that is."""

_START_SECONDS: Final = 300
"""For the database's migration, which takes its time on a slow disk."""

_SELECTOR: Final = {"app.kubernetes.io/name": "datacube", "app.kubernetes.io/component": "prefect"}


def make_prefect_installation() -> list[Object]:
    """Returns all objects, each after what it needs; the Secret is not among them."""
    here = {"name": PREFECT, "namespace": DEFAULT_NAMESPACE}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here, "automountServiceAccountToken": False}
    objects = [*_rights(), _settings(), account, _deployment(here), _service(here), _server_policy(here)]
    return [labelled(made) for made in [*objects, _operator_policy()]]


def _rights() -> list[Object]:
    name = PREFECT_SETTINGS
    binding = make_binding("ClusterRoleBinding", {"name": name}, "ClusterRole", name, DEFAULT_NAMESPACE)
    return [make_role(name, prefect_rules()), binding]


def _settings() -> Object:
    """What the operator finds in its environment the next time that it starts."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": PREFECT_SETTINGS, "namespace": DEFAULT_NAMESPACE},
        "data": {"DATACUBE_PREFECT_URL": URL},
    }


def _deployment(metadata: Object) -> Object:
    """One replica and never two: it hands on events in its memory."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _SELECTOR},
            "template": {"metadata": {"labels": LABELS | _SELECTOR}, "spec": _pod()},
        },
    }


def _pod() -> Object:
    return {
        "serviceAccountName": PREFECT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED_POD,
        "containers": [_container()],
        "volumes": SCRATCH["volumes"],
    }


def _container() -> Object:
    health = {"httpGet": {"path": "/api/health", "port": PORT_NAME}, "timeoutSeconds": 5}
    ready = {"httpGet": {"path": "/api/ready", "port": PORT_NAME}, "timeoutSeconds": 5}
    return {
        "name": "prefect",
        "image": IMAGE,
        "command": list(COMMAND),
        "args": ["--host=0.0.0.0", f"--port={PORT}"],
        "env": [
            *({"name": name, "value": value} for name, value in (SERVER | server_folders(SCRATCH_FOLDER)).items()),
            from_secret("PREFECT_SERVER_API_AUTH_STRING", AUTH_KEY),
            from_secret("PREFECT_API_DATABASE_CONNECTION_URL", DATABASE_KEY),
        ],
        "ports": [{"name": PORT_NAME, "containerPort": PORT}],
        "startupProbe": health | {"periodSeconds": 5, "failureThreshold": _START_SECONDS // 5},
        "livenessProbe": health | {"failureThreshold": 6},
        "readinessProbe": ready | {"periodSeconds": 5},
        "resources": {
            "requests": {"cpu": "100m", "memory": "384Mi"},
            "limits": {"cpu": "2", "memory": "1Gi"},
        },
        "securityContext": RESTRICTED_CONTAINER,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": SCRATCH["volumeMounts"],
    }


def server_folders(folder: str) -> dict[str, str]:
    """Returns what has a server write below a folder and nowhere else: its pages are made when it starts."""
    return {"PREFECT_HOME": f"{folder}/prefect", "PREFECT_SERVER_UI_STATIC_DIRECTORY": f"{folder}/pages"}


def _service(metadata: Object) -> Object:
    ports = [{"name": PORT_NAME, "port": PORT, "targetPort": PORT_NAME}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": _SELECTOR, "ports": ports},
    }


def _server_policy(metadata: Object) -> Object:
    """To the server: the operator, and namespaces that somebody has labelled. From it: names, and its database."""
    clients = [
        {"podSelector": {"matchLabels": SELECTOR}},
        {"namespaceSelector": {"matchLabels": {labels.PREFECT_CLIENT: "true"}}},
    ]
    blocks = [{"ipBlock": {"cidr": cidr, "except": those}} for cidr, those in LINK_LOCAL.items()]
    database = {"to": blocks, "ports": [{"protocol": "TCP", "port": DATABASE_PORT}]}
    spec = {
        "podSelector": {"matchLabels": _SELECTOR},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": clients, "ports": [{"protocol": "TCP", "port": PORT_NAME}]}],
        "egress": [database, {"ports": dns_ports()}],
    }
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _operator_policy() -> Object:
    """From the operator: the server too. Policies add up."""
    spec = {
        "podSelector": {"matchLabels": SELECTOR},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": _SELECTOR}}], "ports": [{"protocol": "TCP", "port": PORT}]}],
    }
    metadata = {"name": PREFECT_SETTINGS, "namespace": DEFAULT_NAMESPACE}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
