"""Real equipment to try a client on, all on loopback: a cluster, sentinels and a bad line."""

from __future__ import annotations

from bench.cluster import ClusterNode, ValkeyCluster
from bench.faulty_proxy import FaultyProxy
from bench.sentinel import Sentinel, SentinelSet
from bench.servers import Tls, ValkeyServer, free_port, knows_tls, wait_for

__all__ = [
    "ClusterNode",
    "FaultyProxy",
    "Sentinel",
    "SentinelSet",
    "Tls",
    "ValkeyCluster",
    "ValkeyServer",
    "free_port",
    "knows_tls",
    "wait_for",
]
