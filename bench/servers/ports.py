"""Free ports of loopback, for servers that are stopped and started again."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress

# Below the ports that Linux and macOS give to outgoing connections: while a server is down, no
# connection takes its port.
_PORTS = range(20000, 32000)
_BLOCK = 50
_chance = random.SystemRandom()  # tests seed the other one, and processes must not agree
_free_ports: list[int] = []
_leases: list[socket.socket] = []
_leaseholder: int | None = None


def free_port() -> int:
    """A free port of 127.0.0.1; as long as this process lives, no other call anywhere returns it.

    Raises ``RuntimeError`` if other processes have leased all ports.
    """
    global _leaseholder  # noqa: PLW0603
    if _leaseholder != os.getpid():  # after a fork these are the other process's ports
        _leaseholder = os.getpid()
        _free_ports.clear()
    while True:
        if not _free_ports:
            _free_ports.extend(_lease())
        port = _free_ports.pop()
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _lease() -> list[int]:
    """A block of ports that no other process has, in random order, until this process ends.

    A port that is only looked at is free for everybody who looks until its server has started. The
    lease is a UDP socket with the number of the first port: it ends with its process, however that
    ends, and is known wherever the ports themselves are.
    """
    for first in _chance.sample(_PORTS[::_BLOCK], len(_PORTS) // _BLOCK):
        lease = socket.socket(type=socket.SOCK_DGRAM)
        try:
            lease.bind(("127.0.0.1", first))
        except OSError:
            lease.close()
            continue
        _leases.append(lease)
        return _chance.sample(range(first, first + _BLOCK), _BLOCK)
    raise RuntimeError(f"other processes have leased all ports from {_PORTS[0]} to {_PORTS[-1]}")
