from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from datacube_flows.cluster import connection
from datacube_flows.cluster.client import Client
from datacube_flows.cluster.connection import Place, connect, find_place
from datacube_flows.cluster.errors import NoConnection, Unavailable
from datacube_flows.cluster.resource import PODS
from tests.canary import CANARY
from tests.controller.api_proxy import write_kubeconfig

pytestmark = [pytest.mark.t1, pytest.mark.anyio]

SERVER = "https://api.example.test:6443"


def with_contexts(file: Path) -> Path:
    """A kubeconfig of two contexts, of which the second names a namespace."""
    config: dict[str, Any] = json.loads(write_kubeconfig(file, SERVER, f"{CANARY}-token").read_text())
    config["clusters"].append({"name": "other", "cluster": {"server": "https://other.example.test"}})
    config["contexts"].append({"name": "other", "context": {"cluster": "other", "user": "proxy", "namespace": "team"}})
    file.write_text(json.dumps(config))
    return file


def test_place_is_the_one_that_kubectl_would_take(tmp_path: Path) -> None:
    assert find_place({}, tmp_path) == Place(None)
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    assert find_place({}, tmp_path) == Place(tmp_path / ".kube" / "config")
    assert find_place({"KUBECONFIG": "/a:/b"}, tmp_path) == Place(Path("/a:/b"))


async def test_context_says_server_and_namespace(tmp_path: Path) -> None:
    file = with_contexts(tmp_path / "kubeconfig")
    async with connect(Place(file)) as current, connect(Place(file, "other")) as other:
        assert (current.api.configuration.host, current.namespace) == (SERVER, "default")
        assert (other.api.configuration.host, other.namespace) == ("https://other.example.test", "team")


async def test_several_kubeconfigs_are_one(tmp_path: Path) -> None:
    first, second = write_kubeconfig(tmp_path / "first", SERVER), with_contexts(tmp_path / "second")
    async with connect(Place(Path(f"{first}:{second}"), "other")) as made:
        assert made.namespace == "team"


async def test_pod_works_in_its_own_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.aio.config import incluster_config

    for name, text in [("token", f"{CANARY}-token"), ("ca.crt", ""), ("namespace", "team\n")]:
        (tmp_path / name).write_text(text)
    (tmp_path / "ca.crt").write_text(Path(_authorities()).read_text())
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(connection, "POD_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    async with connect(Place()) as made:
        assert made.namespace == "team"
    (tmp_path / "namespace").unlink()
    async with connect(Place()) as made:
        assert made.namespace == "default"


def _authorities() -> str:
    import certifi

    return certifi.where()


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (f"users: [{CANARY}", "", r"look at '.*kubeconfig'$"),
        (f"token: {CANARY}", "", r"look at '.*kubeconfig'$"),
        (None, "nowhere", r"look at '.*kubeconfig' and its context 'nowhere'"),
    ],
)
async def test_kubeconfig_that_cannot_be_used_is_told_without_its_content(
    tmp_path: Path, text: str | None, place: str, words: str
) -> None:
    file = with_contexts(tmp_path / "kubeconfig")
    if text is not None:
        file.write_text(text)
    with pytest.raises(NoConnection, match=words) as caught:
        async with connect(Place(file, place)):
            pass
    assert CANARY not in "".join(traceback.format_exception(caught.value))


async def test_process_that_is_in_no_pod_is_told_what_is_missing() -> None:
    with pytest.raises(NoConnection, match="this is no pod with an account: name a kubeconfig"):
        async with connect(Place()):
            pass


async def test_request_that_gets_lost_is_told_without_the_proxys_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://ada:{CANARY}@127.0.0.1:1")
    async with connect(Place(write_kubeconfig(tmp_path / "kubeconfig", SERVER))) as made:
        with pytest.raises(Unavailable) as caught:
            await Client(made.api, manager="test").get(PODS, "team", "x")
    assert CANARY not in "".join(traceback.format_exception(caught.value))
