"""What is installed for Prefect: a server that the operator finds, and rights that come and go with it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from datacube_operator.install import AUTH_KEY, NAME, PREFECT, PREFECT_SETTINGS, make_installation
from datacube_operator.install_prefect import DATABASE_KEY, PORT, URL, make_prefect_installation
from datacube_operator.rights import operator_rules
from datacube_operator.settings import read_settings

from datacube_flows.core import labels
from tests.controller.test_install import DEPLOY, FORBIDDEN, INSTALL, NAMESPACE, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster

FILE = DEPLOY / "prefect.yaml"
AUTH = "datacube:not-the-canary"
DATABASE = "postgresql+asyncpg://prefect:not-the-canary@database:5432/prefect"
"""In a Secret, which the server keeps: in other scenarios' search of all that it keeps they must not be found."""

Object = dict[str, Any]


def one(kind: str, name: str = PREFECT) -> Object:
    (found,) = (o for o in make_prefect_installation() if (o["kind"], o["metadata"]["name"]) == (kind, name))
    return found


def operator() -> Object:
    (deployment,) = (o for o in make_installation() if o["kind"] == "Deployment")
    return deployment


def container_of(deployment: Object) -> Object:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def secrets_of(deployment: Object) -> dict[str, Object]:
    """Variable -> the reference to its Secret."""
    found = {entry["name"]: entry.get("valueFrom") for entry in container_of(deployment)["env"]}
    return {name: source["secretKeyRef"] for name, source in found.items() if source}


@pytest.mark.t0
def test_file_is_what_is_made_and_holds_no_secret() -> None:
    documents = list(yaml.safe_load_all(FILE.read_text()))
    assert documents == make_prefect_installation()
    assert "Secret" not in {document["kind"] for document in documents}


@pytest.mark.t0
def test_rights_are_what_the_engine_needs_more_and_none_that_is_forbidden() -> None:
    rules = one("ClusterRole", PREFECT_SETTINGS)["rules"]
    assert not [rule for rule in rules if {word for words in rule.values() for word in words} & FORBIDDEN]
    more = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    before = {(resource, verb) for rule in operator_rules() for resource in rule["resources"] for verb in rule["verbs"]}
    assert not more & before
    assert more == {
        ("pods", "create"), ("pods", "delete"), ("persistentvolumeclaims", "create"), ("datacubes", "patch"),
    }  # fmt: skip


@pytest.mark.t0
def test_operator_finds_the_server_as_soon_as_it_is_installed_and_starts_without_it() -> None:
    (source,) = container_of(operator())["envFrom"]
    assert source == {"configMapRef": {"name": PREFECT_SETTINGS, "optional": True}}
    variables = one("ConfigMap", PREFECT_SETTINGS)["data"]
    assert read_settings([], variables, identity="me").prefect_url == URL
    auth = {"name": PREFECT, "key": AUTH_KEY}
    assert secrets_of(operator()) == {"PREFECT_API_AUTH_STRING": auth | {"optional": True}}
    assert secrets_of(one("Deployment")) == {
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_API_DATABASE_CONNECTION_URL": {"name": PREFECT, "key": DATABASE_KEY},
    }


@pytest.mark.t0
def test_server_is_of_the_operators_version_and_writes_only_where_it_may() -> None:
    server = container_of(one("Deployment"))
    assert server["image"] == container_of(operator())["image"]
    (folder,) = [mount["mountPath"] for mount in server["volumeMounts"]]
    written = {e["name"]: e["value"] for e in server["env"] if str(e.get("value", "")).startswith(f"{folder}/")}
    assert set(written) == {"PREFECT_HOME", "PREFECT_SERVER_UI_STATIC_DIRECTORY"}


@pytest.mark.t0
def test_policies_join_the_operator_the_server_and_labelled_namespaces() -> None:
    pods = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    its_own, operators = one("NetworkPolicy")["spec"], one("NetworkPolicy", PREFECT_SETTINGS)["spec"]
    assert its_own["podSelector"]["matchLabels"].items() <= pods.items()
    assert one("Service")["spec"]["selector"].items() <= pods.items()
    (rule,) = its_own["ingress"]
    of_operator = operator()["spec"]["selector"]["matchLabels"]
    assert rule["from"] == [
        {"podSelector": {"matchLabels": of_operator}},
        {"namespaceSelector": {"matchLabels": {labels.PREFECT_CLIENT: "true"}}},
    ]
    assert operators["podSelector"]["matchLabels"] == of_operator
    (way,) = operators["egress"]
    assert way["to"] == [{"podSelector": its_own["podSelector"]}]
    assert [port["port"] for port in way["ports"]] == [PORT]


@pytest.mark.t0
def test_operators_own_selectors_do_not_take_in_the_server() -> None:
    pods = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels.MANAGED_BY not in pods
    assert not operator()["spec"]["selector"]["matchLabels"].items() <= pods.items()


@pytest.fixture(scope="module")
def prefect_api(api: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The API server with the operator, and with what the file's own head says, until the end of the module."""
    api.kubectl("apply", "--server-side", "-f", str(INSTALL))
    secret = write_secret(tmp_path_factory.mktemp("secret") / "secret")
    api.kubectl("create", "secret", "generic", PREFECT, "-n", NAMESPACE, f"--from-env-file={secret}")
    for _ in range(2):
        done = api.try_kubectl("apply", "--server-side", "--validate=strict", "-f", str(FILE))
        assert (done.returncode, done.stderr) == (0, "")
    yield api
    api.kubectl("delete", "secret", PREFECT, "-n", NAMESPACE)
    api.kubectl("delete", "--ignore-not-found", "-f", str(FILE))


def write_secret(file: Path) -> Path:
    file.touch(mode=0o600)
    file.write_text(f"{AUTH_KEY}={AUTH}\n{DATABASE_KEY}={DATABASE}\n")
    return file


@pytest.mark.t2
def test_secret_is_made_from_two_lines_exactly_as_they_stand(prefect_api: Cluster) -> None:
    kept = prefect_api.get("secret", PREFECT, f"--namespace={NAMESPACE}")["data"]
    assert {key: base64.b64decode(value).decode() for key, value in kept.items()} == {
        AUTH_KEY: AUTH,
        DATABASE_KEY: DATABASE,
    }


@pytest.mark.t2
def test_servers_pod_is_admitted_where_pods_are_restricted(prefect_api: Cluster) -> None:
    template = one("Deployment")["spec"]["template"]
    metadata = template["metadata"] | {"name": "server", "namespace": NAMESPACE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    prefect_api.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(pod))


@pytest.mark.t2
def test_operator_may_do_what_the_engine_does_and_loses_it_with_the_file(prefect_api: Cluster, namespace: str) -> None:
    more = [("create", "pods"), ("delete", "pods"), ("create", "persistentvolumeclaims"), ("patch", "datacubes")]
    never = [("delete", "persistentvolumeclaims"), ("get", "secrets"), ("update", "pods"), ("get", "configmaps")]

    def may(asked: list[tuple[str, str]]) -> set[str]:
        can_i = ("auth", "can-i", f"--namespace={namespace}", OPERATOR)
        return {prefect_api.try_kubectl(*can_i, verb, resource).stdout.strip() for verb, resource in asked}

    assert (may(more), may(never)) == ({"yes"}, {"no"})
    prefect_api.kubectl("delete", "-f", str(FILE))
    assert may(more) == {"no"}
    assert prefect_api.get("deployment", NAME, f"--namespace={NAMESPACE}")["spec"]["replicas"] == 2
