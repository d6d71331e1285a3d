"""Free ports of loopback, for servers that are stopped and started again."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# Below the ports that Linux and macOS give to outgoing connections: while a server is down, no
# connection takes its port.
_PORTS = range(20000, 32000)
_given_ports: set[int] = set()
_chance = random.SystemRandom()  # tests seed the other one, and processes must not agree


def free_port() -> int:
    """A free port of 127.0.0.1; no process is given the same one twice."""
    while True:
        port = _chance.choice(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in _given_ports:
                _given_ports.add(port)
                return port
