"""What the servers of a ledger say of themselves: version, memory, persistence, replicas."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, namespace_tag
from scrapy_valkey_dedup.model import LedgerRefusedError, LedgerReplyError
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import Argument, command

_ROUND_TRIPS = 20


async def reply_or_reason(server: Client, *words: Argument, key: str) -> Any:
    """The reply to a command, or as a text why the server does not give one.

    Raises:
        LedgerUnavailableError: it does not answer.

    """
    try:
        (reply,) = await server.ask(command(*words), key=key)
    except (LedgerRefusedError, LedgerReplyError) as error:
        return str(error)
    return reply


@dataclass(frozen=True)
class Node:
    """A server that has a part of the ledger."""

    key: str
    """One that it serves."""
    facts: dict[str, str] = field(default_factory=dict)
    """What INFO says; empty if that is not permitted."""

    def number(self, name: str) -> int | None:
        """A number of INFO."""
        text = self.facts.get(name, "")
        return int(text) if text.lstrip("-").isdigit() else None

    @property
    def version(self) -> str:
        """Product and version."""
        facts = self.facts
        if "valkey_version" in facts:
            return f"{facts.get('server_name', 'valkey')} {facts['valkey_version']}"
        return f"redis {facts['redis_version']}" if "redis_version" in facts else ""

    @property
    def memory(self) -> int | None:
        """Bytes in use."""
        return self.number("used_memory")

    @property
    def limit(self) -> int | None:
        """``maxmemory``; None: there is none, or it is not known."""
        return self.number("maxmemory") or None


async def nodes(server: Client, namespace: str) -> list[Node]:
    """The servers that have a part of the ledger, one key of each."""
    root = namespace_tag(namespace)
    names = [f"vd1:{{{root}}}", *(f"vd1:{{{root}:{number}}}" for number in PARTITION_TAGS)]
    await server.ask(command("HELLO"), key=names[0])  # of a cluster the nodes are known then
    found: dict[Hashable, str] = {}
    for name in names:
        found.setdefault(server.node_of(name), name)
    return [Node(key, await _info(server, key)) for key in found.values()]


async def _info(server: Client, key: str) -> dict[str, str]:
    reply = await reply_or_reason(server, "INFO", key=key)
    lines = reply.decode("utf-8", "replace").splitlines() if isinstance(reply, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


async def hello(server: Client, namespace: str) -> dict[str, str]:
    """What HELLO says, which needs no permission: server, version, mode."""
    reply = await reply_or_reason(server, "HELLO", key=f"vd1:{{{namespace_tag(namespace)}}}")
    listed = reply if isinstance(reply, list) else []
    texts = [word.decode("utf-8", "replace") if isinstance(word, bytes) else "" for word in listed]
    return dict(zip(texts[::2], texts[1::2], strict=False))


async def latency(server: Client, namespace: str) -> list[float]:
    """Seconds of some round trips, the shortest first."""
    key = f"vd1:{{{namespace_tag(namespace)}}}:layout"
    times = []
    for _ in range(_ROUND_TRIPS):
        began = perf_counter()
        await server.ask(command("GET", key), key=key)
        times.append(perf_counter() - began)
    return sorted(times)
