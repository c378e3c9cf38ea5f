"""Free ports of this machine for servers that the tests start."""

from __future__ import annotations

import random
import socket

LASTING = range(20_000, 32_768)
"""Below the ports that Linux gives to whoever asks for any."""

HOST = "127.0.0.1"
_DICE = random.SystemRandom()


def free_ports(number: int) -> list[int]:
    """Returns different ports that are free at this moment."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def lasting_port() -> int:
    """Returns a free port that nobody is given by chance, for a server that goes away and comes back at its address."""
    while True:
        port = _DICE.choice(LASTING)
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)):
                return port
