"""Real servers on loopback to try a client on: one, a cluster, sentinels; a bad line."""

from bench.servers.binaries import binary
from bench.servers.cluster import ValkeyCluster
from bench.servers.cluster_node import ClusterNode
from bench.servers.faulty_proxy import FaultyProxy
from bench.servers.ports import free_port
from bench.servers.sentinel import Sentinel
from bench.servers.sentinel_set import SentinelSet
from bench.servers.server import END_SECONDS, ValkeyServer
from bench.servers.tls import Tls, knows_tls
from bench.servers.waiting import wait_for

__all__ = [
    "END_SECONDS",
    "ClusterNode",
    "FaultyProxy",
    "Sentinel",
    "SentinelSet",
    "Tls",
    "ValkeyCluster",
    "ValkeyServer",
    "binary",
    "free_port",
    "knows_tls",
    "wait_for",
]
