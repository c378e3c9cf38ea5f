"""Reads a cluster's API through one `kubectl proxy`, which logs in as kubectl does: hundreds of reads in little time.

It listens on a socket file of this process's, so that nobody else of the machine reads through it.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.cluster.binaries import DIES_WITH_US
from tests.cluster.errors import ClusterError
from tests.cluster.process import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster

SECONDS = 30.0


@dataclass(frozen=True)
class Reader:
    """Reads objects and logs of one namespace."""

    file: Path
    """The proxy's socket."""

    namespace: str

    def get(self, kind: str, name: str = "") -> dict[str, Any]:
        """Returns an object of the core API group, or the list of all.

        Raises:
            ClusterError: There is no such object.
        """
        code, text = self._ask(kind, name)
        if code != http.HTTPStatus.OK:
            raise ClusterError(f"{kind} {name}: {code} {text}")
        found: dict[str, Any] = json.loads(text)
        return found

    def log(self, pod: str, container: str) -> str:
        """What a container printed; "" where it never ran."""
        code, text = self._ask("pods", pod, "log", container=container)
        return text if code == http.HTTPStatus.OK else ""

    def _ask(self, *parts: str, **query: str) -> tuple[int, str]:
        path = "/".join(["/api/v1/namespaces", self.namespace, *filter(None, parts)])
        with closing(_FileConnection("localhost", timeout=SECONDS)) as connection:
            connection.file = self.file
            connection.request("GET", f"{path}?{urlencode(query)}")
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")


class _FileConnection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    file: Path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.file))


@contextmanager
def made_reader(cluster: Cluster, namespace: str, file: Path) -> Iterator[Reader]:
    """Starts the proxy, which ends with the block."""
    command = [*DIES_WITH_US, *cluster.kubectl_command("proxy", f"--unix-socket={file}")]
    with subprocess.Popen(command, env=cluster.kubectl_environ, stdout=subprocess.DEVNULL) as proxy:
        try:
            wait_for(lambda: file.exists() or proxy.poll() is not None, SECONDS, "kubectl proxy does not listen")
            yield Reader(file, namespace)
        finally:
            proxy.terminate()
