"""Which servers a URL leads to: one, the primary that Sentinels name, or a cluster's nodes.

valkey-py's own clients for Sentinel and cluster ask one server after the other, and a frozen one
takes a whole time-out. Its cluster client fails for all slots when one primary is away, and may not
recover when all were (valkey-py issues 327 and 334). What is needed here is little: every question
has one slot, and may be asked again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from scrapy_valkey_dedup.valkey.client_options import SENTINEL_KWARGS, option_faults
from scrapy_valkey_dedup.valkey.cluster import Cluster
from scrapy_valkey_dedup.valkey.connections import NodeConnections, Outcome, refuse_options
from scrapy_valkey_dedup.valkey.credentials import with_provider
from scrapy_valkey_dedup.valkey.discovery import Address
from scrapy_valkey_dedup.valkey.resp import Question
from scrapy_valkey_dedup.valkey.sentinel import Sentinels
from scrapy_valkey_dedup.valkey.urls import CLUSTER, SENTINEL, ServerURL, redacted

_OF_USERS = ("username", "password", "credential_provider", "valkey_connect_func")


class Route(Protocol):
    """The way to the servers that answer."""

    async def exchange(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Asks each question once, all at the same time; returns the outcome of each."""

    def node_of(self, key: str) -> Hashable:
        """The server that a key belongs to: scripts are loaded for each server."""

    async def close(self) -> None:
        """Closes all connections."""


def route_to(url: ServerURL, options: Mapping[str, Any], attempt: float) -> Route:
    """The route that a URL asks for. Connects to nothing yet.

    ``attempt``: seconds for one connection, or one reply, unless the options say otherwise.

    Raises:
        LedgerRefusedError: URL or options cannot be used.

    """
    place = redacted(url.text)
    refuse_options(place, "; ".join(option_faults(options)))
    common = {"socket_timeout": attempt, "socket_connect_timeout": attempt, **options}
    of_sentinels = common.pop(SENTINEL_KWARGS, None) or {}

    def connections(address: Address) -> NodeConnections:
        return NodeConnections(url.at(*address), place, common)

    if url.kind == CLUSTER:
        return Cluster(url.hosts, connections)
    if url.kind == SENTINEL:
        connections(url.hosts[0])  # finds what is wrong with the options now
        # User and password are those of the service; its Sentinels have others, or none.
        theirs = {
            **common,
            **dict.fromkeys(_OF_USERS),
            "db": 0,
            **with_provider(of_sentinels, None, attempt),
        }
        asked = [NodeConnections(url.without_user(*host), place, theirs) for host in url.hosts]
        return Sentinels(url.service, asked, connections)
    return NodeConnections(url.text, place, common)
