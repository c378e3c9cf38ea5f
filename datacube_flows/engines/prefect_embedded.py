"""Prefect's server for the time of one call: a child that ends with its parent, however that ends.

It listens on loopback, and keeps its database in Prefect's home, where later calls and other servers find it.

Prefect's own ephemeral server outlives a parent that is killed. It takes a port before it is known to be free; here the
child is given a socket. Whoever calls has to know its password: other users of this machine reach loopback too.
"""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

from datacube_flows.errors import EngineMissing
from datacube_flows.transfers.run import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODULE: Final = "datacube_flows.engines.prefect_embedded"
HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 120.0
"""The first start in a home makes the database, which takes longer than all else."""

END_SECONDS: Final = 10.0
"""How long it may take to write down what it still holds."""

LAST_WORDS: Final = 2000

_SETTINGS: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT__SERVER_EPHEMERAL": "1",  # no pages, and no services that look after others' runs
    "PREFECT__SERVER_FINAL": "1",
}


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server."""

    url: str
    auth: str = field(repr=False)

    @property
    def client_settings(self) -> dict[str, str]:
        """What a client of it needs in its environment."""
        return {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": self.auth}


@contextmanager
def start_embedded(environment: Mapping[str, str]) -> Iterator[EmbeddedServer]:
    """Runs a server while the block runs; `environment` holds Prefect's settings.

    Raises:
        EngineMissing: it ended, or was not ready in time; the text holds its last words.
    """
    auth = f"datacube:{secrets.token_urlsafe()}"
    with socket.create_server((HOST, 0)) as listening, tempfile.TemporaryFile() as log:
        port = listening.getsockname()[1]
        child = _start(listening, {**environment, **_SETTINGS, "PREFECT_SERVER_API_AUTH_STRING": auth}, log)
        listening.close()  # where the child ends, nobody answers
        try:
            _wait_until_ready(child, port, log)
            yield EmbeddedServer(f"http://{HOST}:{port}/api", auth)
        finally:
            _end(child)


def main(arguments: list[str]) -> None:
    """Serves on the socket of a descriptor until the parent ends: `<descriptor> <pid of the parent>`."""
    descriptor, parent = map(int, arguments)
    end_with_parent(parent)
    import uvicorn

    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        fd=descriptor,
        lifespan="on",
        log_level="error",
        timeout_graceful_shutdown=int(END_SECONDS / 2),
    )


def _start(listening: socket.socket, environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A session of its own keeps Ctrl-C from it: the end of the run is still to be written down."""
    environment.pop("PREFECT_API_URL", None)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE, str(listening.fileno()), str(os.getpid())],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(listening.fileno(),),
        start_new_session=True,
    )


def _wait_until_ready(child: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    until = time.monotonic() + READY_SECONDS
    while not _is_ready(port, until - time.monotonic()):
        if child.poll() is not None or time.monotonic() >= until:
            _end(child)
            log.seek(0)
            words = log.read().decode(errors="replace").strip()[-LAST_WORDS:]
            raise EngineMissing(f"Prefect's own server did not start: {words or 'it said nothing'}")
        time.sleep(0.1)


def _is_ready(port: int, seconds: float) -> bool:
    """Whether it answers; a connection waits for a child that is about to listen."""
    connection = http.client.HTTPConnection(HOST, port, timeout=max(seconds, 0.1))
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(END_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            child.kill()
    child.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
