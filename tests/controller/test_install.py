"""What is installed: it is what a server takes strictly, and gives the operator what it uses and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from datacube_operator.install import GRACE_SECONDS, make_installation, make_transfer_policy
from datacube_operator.rights import operator_rules
from datacube_operator.runtime import EVENT_SECONDS, Runtime
from datacube_operator.settings import Settings, read_settings

from datacube_flows import __version__
from datacube_flows.core import labels
from datacube_flows.core.crd import make_crd
from datacube_flows.engines.argo_accounts import PROVISIONER_ROLE, RBAC, RUNNER_ROLE, render_accounts
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster

DEPLOY = ROOT / "operator/deploy"
INSTALL = DEPLOY / "install.yaml"
NAMESPACE = "datacube-system"
OPERATOR = f"--as=system:serviceaccount:{NAMESPACE}:datacube-operator"
FORBIDDEN = {"*", "secrets", "configmaps", "pods/exec", "nodes", "impersonate", "escalate"}

Object = dict[str, Any]


def installed(kind: str) -> list[Object]:
    return [made for made in make_installation() if made["kind"] == kind]


def rules_of(*kinds: str) -> Iterator[tuple[str, Object]]:
    for kind in kinds:
        for role in installed(kind):
            yield from ((role["metadata"]["name"], rule) for rule in role["rules"])


@pytest.mark.t0
def test_files_are_what_is_made_and_hold_the_crd_as_it_is() -> None:
    documents = list(yaml.safe_load_all(INSTALL.read_text()))
    assert documents == make_installation()
    assert make_crd() in documents
    assert yaml.safe_load((DEPLOY / "transfer-policy.yaml").read_text()) == make_transfer_policy()


@pytest.mark.t0
def test_no_role_has_a_wildcard_a_secret_or_a_way_into_pods_and_nodes() -> None:
    rules = list(rules_of("ClusterRole", "Role"))
    assert {name for name, _ in rules} == {
        "datacube-operator", "datacube-runner", "datacube-provisioner", "datacube-editor", "datacube-viewer",
    }  # fmt: skip
    for name, rule in rules:
        words = {word for words in rule.values() for word in words}
        assert not words & FORBIDDEN, (name, rule)


@pytest.mark.t0
def test_operator_may_bind_two_roles_and_make_none() -> None:
    about_roles = [r for r in operator_rules() if "roles" in r["resources"] or "clusterroles" in r["resources"]]
    (rule,) = about_roles
    assert (rule["verbs"], set(rule["resourceNames"])) == (["bind"], {RUNNER_ROLE, PROVISIONER_ROLE})


@pytest.mark.t0
def test_viewers_may_write_nothing_and_editors_are_not_part_of_view() -> None:
    roles = {role["metadata"]["name"]: role for role in installed("ClusterRole")}
    verbs = {verb for rule in roles["datacube-viewer"]["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}
    taken_up = [name.rpartition("-")[2] for name in roles["datacube-editor"]["metadata"]["labels"] if RBAC in name]
    assert taken_up == ["edit", "admin"]


@pytest.mark.t0
def test_operator_takes_the_flags_that_it_is_installed_with() -> None:
    (deployment,) = installed("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert read_settings(container["args"], {}, identity="me") == Settings(identity="me")
    assert container["image"] == f"datacube/operator:{__version__}"
    assert container["ports"][0]["containerPort"] == Settings.port


@pytest.mark.t0
def test_operator_is_given_the_time_to_end_that_it_takes() -> None:
    assert Runtime.stop_seconds + EVENT_SECONDS + 5 <= GRACE_SECONDS


@pytest.mark.t0
def test_operators_own_pods_are_no_attempts() -> None:
    (deployment,) = installed("Deployment")
    assert labels.MANAGED_BY not in deployment["spec"]["template"]["metadata"]["labels"]
    (policy,) = installed("NetworkPolicy")
    (budget,) = installed("PodDisruptionBudget")
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector == policy["spec"]["podSelector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


@pytest.fixture(scope="module")
def installed_api(api: Cluster) -> Cluster:
    """The API server with all that is installed, taken without a warning."""
    for _ in range(2):
        done = api.try_kubectl("apply", "--server-side", "--validate=strict", "-f", str(INSTALL))
        assert (done.returncode, done.stderr) == (0, "")
    return api


@pytest.mark.t2
def test_server_takes_all_of_it_strictly_and_again(installed_api: Cluster) -> None:
    found = installed_api.get("deployment,pdb,service,networkpolicy,role,rolebinding", f"--namespace={NAMESPACE}")
    assert {item["kind"] for item in found["items"]} == {
        "Deployment", "PodDisruptionBudget", "Service", "NetworkPolicy", "Role", "RoleBinding",
    }  # fmt: skip


@pytest.mark.t2
def test_operators_pod_is_admitted_where_pods_are_restricted(installed_api: Cluster) -> None:
    (deployment,) = installed("Deployment")
    template = deployment["spec"]["template"]
    metadata = template["metadata"] | {"name": "operator", "namespace": NAMESPACE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    installed_api.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(pod))
    pod["spec"]["containers"][0]["securityContext"] = {}
    refused = installed_api.try_kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(pod))
    assert 'violates PodSecurity "restricted' in refused.stderr


@pytest.mark.t2
def test_policy_for_transfers_is_taken_in_any_namespace(installed_api: Cluster, namespace: str) -> None:
    file = str(DEPLOY / "transfer-policy.yaml")
    done = installed_api.try_kubectl("apply", f"--namespace={namespace}", "--validate=strict", "-f", file)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.t2
@pytest.mark.parametrize(
    ("verb", "resource", "answer"),
    [
        ("watch", "datacubes.tensorstack.dev", "yes"),
        ("update", "datacubes.tensorstack.dev", "no"),
        ("patch", "datacubes.tensorstack.dev", "no"),
        ("create", "pods", "no"),
        ("delete", "pods", "no"),
        ("create", "persistentvolumeclaims", "no"),
        ("delete", "persistentvolumeclaims", "no"),
        ("get", "secrets", "no"),
        ("list", "secrets", "no"),
        ("get", "configmaps", "no"),
        ("create", "clusterroles.rbac.authorization.k8s.io", "no"),
        ("create", "roles.rbac.authorization.k8s.io", "no"),
        ("create", "leases.coordination.k8s.io", "no"),
    ],
)
def test_operator_may_do_in_a_users_namespace_what_it_has_to(
    installed_api: Cluster, namespace: str, verb: str, resource: str, answer: str
) -> None:
    asked = installed_api.try_kubectl("auth", "can-i", verb, resource, f"--namespace={namespace}", OPERATOR)
    assert asked.stdout.strip() == answer


@pytest.mark.t2
def test_operator_makes_accounts_of_its_two_roles_and_cannot_bind_another(
    installed_api: Cluster, namespace: str
) -> None:
    accounts = render_accounts(namespace)
    listing = {"apiVersion": "v1", "kind": "List", "items": accounts}
    installed_api.kubectl("create", OPERATOR, "-f", "-", text=json.dumps(listing))
    (binding, _) = [made for made in accounts if made["kind"] == "RoleBinding"]
    stronger = binding | {
        "metadata": binding["metadata"] | {"name": "stronger"},
        "roleRef": binding["roleRef"] | {"name": "cluster-admin"},
    }
    refused = installed_api.try_kubectl("create", OPERATOR, "-f", "-", text=json.dumps(stronger))
    assert "attempting to grant RBAC permissions not currently held" in refused.stderr


@pytest.mark.t2
def test_operator_holds_its_own_lease_and_no_other(installed_api: Cluster) -> None:
    def may(verb: str, lease: str) -> str:
        name = f"leases.coordination.k8s.io/{lease}" if lease else "leases.coordination.k8s.io"
        asked = installed_api.try_kubectl("auth", "can-i", verb, name, f"--namespace={NAMESPACE}", OPERATOR)
        return asked.stdout.strip()

    assert [may("create", ""), may("get", "datacube-operator"), may("update", "datacube-operator")] == ["yes"] * 3
    assert [may("update", "another"), may("delete", "datacube-operator")] == ["no"] * 2
