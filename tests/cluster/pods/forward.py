"""Lets pods reach servers that listen on this machine's loopback: the same port, on an address that pods reach."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16


@contextmanager
def forwarded(address: str, ports: list[int]) -> Iterator[None]:
    """Forwards connections to the ports at the address to the same ports of loopback.

    Raises:
        ClusterError: The address is not one of this machine's, or a port is taken there.
    """
    with ExitStack() as stack:
        for port in ports:
            server = stack.enter_context(_listener(address, port))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield


def _listener(address: str, port: int) -> _Forwarder:
    try:
        return _Forwarder((address, port), _Connection)
    except OSError as error:
        raise ClusterError(f"this machine cannot listen at {address}, port {port}: {error.strerror}") from error


class _Forwarder(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        port = self.request.getsockname()[1]
        with suppress(OSError), socket.create_connection((LOOPBACK, port)) as server:
            back = threading.Thread(target=_pump, args=(server, self.request), daemon=True)
            back.start()
            _pump(self.request, server)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copies bytes until the source ends, and says so to the sink."""
    with suppress(OSError):
        while piece := source.recv(CHUNK):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
