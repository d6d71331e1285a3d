"""TLS of servers: the files they are given, and which binaries can speak it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import lru_cache

from bench.servers.binaries import binary
from bench.servers.ports import free_port

_START_SECONDS = 120


@dataclass(frozen=True)
class Tls:
    """Files of a server that speaks TLS: its certificate, its key, and the authority it trusts."""

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    authority: str | os.PathLike[str]

    @property
    def options(self) -> tuple[str, ...]:
        """What a server is told: clients need no certificate, other servers speak TLS too."""
        return (
            "--tls-cert-file", os.fspath(self.certificate), "--tls-key-file", os.fspath(self.key),
            "--tls-ca-cert-file", os.fspath(self.authority), "--tls-auth-clients", "optional",
            "--tls-replication", "yes", "--tls-cluster", "yes",
        )  # fmt: skip


@lru_cache
def knows_tls(server: str | None = None) -> bool:
    """Whether a server (by default the one that is used here) was built with TLS."""
    command = [server or binary(), "--port", "0", "--tls-port", str(free_port())]
    # No server starts without a certificate, and only one with TLS complains about that.
    ended = subprocess.run(
        [*command, "--tls-cert-file", "/dev/null"],
        capture_output=True, text=True, check=False, timeout=_START_SECONDS,
    )  # fmt: skip
    return "Failed to configure TLS" in ended.stdout + ended.stderr
