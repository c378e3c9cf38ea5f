"""The rights with which the operator runs in its scenarios: those that its installation gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import yaml

from tests.support import ROOT

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

INSTALL: Final = ROOT / "operator" / "deploy" / "install.yaml"
PREFECT: Final = INSTALL.with_name("prefect.yaml")
NAMESPACE: Final = "datacube-system"
KINDS: Final = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def operator_token(server: Cluster, *, with_prefect: bool = False) -> str:
    """Has the operator's account and roles installed, and returns a token of the account."""
    if not INSTALL.exists():
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        return ""
    files = [INSTALL, PREFECT] if with_prefect else [INSTALL]
    found = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    documents = [d for d in found if d and d["kind"] in KINDS]
    server.apply(*sorted(documents, key=lambda d: KINDS.index(d["kind"])))
    (account,) = (
        n for d in documents if d["kind"] == "ServiceAccount" and (n := d["metadata"]["name"]) == "datacube-operator"
    )
    return server.kubectl("create", "token", account, f"--namespace={NAMESPACE}", "--duration=2h").strip()
