"""Where the API server keeps what the operator works with, beside what the library does."""

from __future__ import annotations

from typing import Final

from datacube_flows.cluster.resource import CLAIMS, DATACUBES, PODS, Resource

__all__ = [
    "CLAIMS",
    "DATACUBES",
    "EVENTS",
    "LEASES",
    "PODS",
    "ROLE_BINDINGS",
    "SERVICE_ACCOUNTS",
    "WORKFLOWS",
    "WORKFLOW_RESULTS",
    "WORKFLOW_TEMPLATES",
    "Resource",
]

LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")
WORKFLOWS: Final = Resource("argoproj.io", "v1alpha1", "workflows")
WORKFLOW_TEMPLATES: Final = Resource("argoproj.io", "v1alpha1", "workflowtemplates")
WORKFLOW_RESULTS: Final = Resource("argoproj.io", "v1alpha1", "workflowtaskresults")
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts")
ROLE_BINDINGS: Final = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
EVENTS: Final = Resource("events.k8s.io", "v1", "events")
