"""Speaks to an API server over one kept connection: hundreds of documents in the time of a few kubectl runs."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from datacube_flows.api.datacube import GROUP, VERSION
from datacube_flows.core.crd import PLURAL, make_crd
from tests.cluster.process import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.cluster import Cluster

Document = dict[str, Any]

CUBES = f"/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/{PLURAL}"
SECONDS = 20.0
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
DRY_RUN = {"dryRun": "All"}
ACCEPTED = 300


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong with a document, as the API server lists it."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True)
class Answer:
    """What the API server says to a request: an object, or a refusal."""

    code: int
    body: Document

    @property
    def accepted(self) -> bool:
        """Whether it did what was asked."""
        return self.code < ACCEPTED

    @property
    def message(self) -> str:
        """The refusal as kubectl prints it; empty where there is none."""
        return "" if self.accepted else str(self.body["message"])

    @property
    def causes(self) -> list[Cause]:
        """What is wrong, one by one; nothing for a document that cannot even be read."""
        listed = (self.body.get("details") or {}).get("causes") or []
        return [] if self.accepted else [Cause(c.get("field", ""), c["message"]) for c in listed]


@dataclass(frozen=True)
class CubeClient:
    """Writes and reads the DataCubes of one namespace; every write asks for strict validation of fields."""

    connection: http.client.HTTPSConnection
    namespace: str = "default"

    def create(self, cube: Mapping[str, Any], **query: str) -> Answer:
        """Creates a DataCube."""
        return self._write("POST", "", cube, "application/json", query)

    def check(self, cube: Mapping[str, Any]) -> Answer:
        """Asks whether a DataCube would be created; nothing is stored."""
        return self.create(cube, **DRY_RUN)

    def patch(self, name: str, change: Mapping[str, Any], **query: str) -> Answer:
        """Merges a change into a DataCube; `name/status` is its status."""
        return self._write("PATCH", name, change, MERGE, query)

    def apply(self, name: str, cube: Mapping[str, Any], manager: str, **query: str) -> Answer:
        """Applies server-side, as the field manager of that name."""
        return self._write("PATCH", name, cube, APPLY, {"fieldManager": manager, **query})

    def get(self, name: str) -> Document:
        """Returns a stored DataCube."""
        answer = self._ask("GET", self._path(name), None, {})
        assert answer.accepted, answer.message
        return answer.body

    def delete(self, name: str) -> Answer:
        """Deletes a DataCube."""
        return self._ask("DELETE", self._path(name), None, {})

    def _write(self, verb: str, name: str, body: Mapping[str, Any], kind: str, query: Mapping[str, str]) -> Answer:
        path = f"{self._path(name)}?{urlencode({'fieldValidation': 'Strict', **query})}"
        return self._ask(verb, path, json.dumps(body), {"Content-Type": kind})

    def _ask(self, verb: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        self.connection.request(verb, path, body, headers)
        response = self.connection.getresponse()
        return Answer(response.status, json.loads(response.read()))

    def _path(self, name: str) -> str:
        return "/".join(p for p in (CUBES.format(namespace=self.namespace), name) if p)


def serve_crd(cluster: Cluster) -> None:
    """Applies the CRD server-side, and returns when DataCubes can be written, read and explained."""
    crd = make_crd()
    cluster.apply(crd)
    served = ("wait", f"crd/{crd['metadata']['name']}", "--for=condition=Established", "--timeout=20s")

    def is_established() -> bool:
        return cluster.try_kubectl(*served).returncode == 0  # `wait` fails at once while a CRD has no conditions yet

    def is_explained() -> bool:
        return cluster.try_kubectl("explain", PLURAL).returncode == 0  # the last of all to appear

    wait_for(is_established, SECONDS, "the API server does not serve DataCubes")
    wait_for(is_explained, SECONDS, "the API server does not publish the schema of DataCubes")


@contextmanager
def cube_client(cluster: Cluster, folder: Path) -> Iterator[CubeClient]:
    """Connects to a cluster with the certificates of its kubeconfig, which are put into the folder."""
    config = json.loads(cluster.kubeconfig.read_text())
    server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
    pair = folder / "client.pem"
    pair.touch(mode=0o600)
    pair.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
    context.load_cert_chain(pair)
    address = urlsplit(server["server"])
    connection = http.client.HTTPSConnection(str(address.hostname), address.port, timeout=SECONDS, context=context)
    try:
        yield CubeClient(connection)
    finally:
        connection.close()
