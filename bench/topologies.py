"""Real equipment to try a client on, all on loopback: a cluster to hurt and to move."""

from __future__ import annotations

from bench.cluster import ClusterNode, ValkeyCluster
from bench.servers import Tls, ValkeyServer, free_port, knows_tls, wait_for

__all__ = [
    "ClusterNode",
    "Tls",
    "ValkeyCluster",
    "ValkeyServer",
    "free_port",
    "knows_tls",
    "wait_for",
]
