"""Asks a ledger's servers for version, configuration, memory and latency."""

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
_UNITS = ("B", "kB", "MB", "GB", "TB")


async def reply_or_reason(server: Client, *words: Argument, key: str) -> Any:
    """The reply to a command; a ``str`` with the reason if the server refuses it.

    Raises:
        LedgerUnavailableError: the server does not answer.

    """
    try:
        (reply,) = await server.ask(command(*words), key=key)
    except (LedgerRefusedError, LedgerReplyError) as error:
        return str(error)
    return reply


@dataclass(frozen=True)
class Node:
    """A server that has some of the ledger's partitions."""

    key: str
    """One of its keys, to send commands to it."""
    facts: dict[str, str] = field(default_factory=dict)
    """The fields of INFO; empty if INFO is not permitted."""

    def number(self, name: str) -> int | None:
        """A field of INFO as a number; None if it is missing."""
        text = self.facts.get(name, "")
        return int(text) if text.lstrip("-").isdigit() else None

    @property
    def version(self) -> str:
        """Product and version, such as "valkey 9.1.0"; "" if they are not known."""
        facts = self.facts
        if "valkey_version" in facts:
            return f"{facts.get('server_name', 'valkey')} {facts['valkey_version']}"
        return f"redis {facts['redis_version']}" if "redis_version" in facts else ""

    @property
    def memory(self) -> int | None:
        """Memory in use, in bytes; None if it is not known."""
        return self.number("used_memory")

    @property
    def limit(self) -> int | None:
        """``maxmemory`` in bytes; None if there is no limit, or it is not known."""
        return self.number("maxmemory") or None


async def nodes(server: Client, namespace: str) -> list[Node]:
    """The servers that have some of the ledger's partitions."""
    root = namespace_tag(namespace)
    names = [f"vd1:{{{root}}}", *(f"vd1:{{{root}:{number}}}" for number in PARTITION_TAGS)]
    await server.ask(command("HELLO"), key=names[0])  # learns the nodes of a cluster
    found: dict[Hashable, str] = {}
    for name in names:
        found.setdefault(server.node_of(name), name)
    return [Node(key, await _info(server, key)) for key in found.values()]


async def _info(server: Client, key: str) -> dict[str, str]:
    reply = await reply_or_reason(server, "INFO", key=key)
    lines = reply.decode("utf-8", "replace").splitlines() if isinstance(reply, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


async def hello(server: Client, namespace: str) -> dict[str, str]:
    """The reply of HELLO, which needs no permission: server, version, mode."""
    reply = await reply_or_reason(server, "HELLO", key=f"vd1:{{{namespace_tag(namespace)}}}")
    listed = reply if isinstance(reply, list) else []
    texts = [word.decode("utf-8", "replace") if isinstance(word, bytes) else "" for word in listed]
    return dict(zip(texts[::2], texts[1::2], strict=False))


async def latency(server: Client, namespace: str) -> list[float]:
    """The seconds that some round trips take, in ascending order."""
    key = f"vd1:{{{namespace_tag(namespace)}}}:layout"
    times = []
    for _ in range(_ROUND_TRIPS):
        began = perf_counter()
        await server.ask(command("GET", key), key=key)
        times.append(perf_counter() - began)
    return sorted(times)


def size(number: float) -> str:
    """Formats a number of bytes with its unit, such as "1.5 MB"."""
    for unit in _UNITS:
        if number < 1000 or unit == _UNITS[-1]:  # noqa: PLR2004 (1000 of a unit are one of the next)
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
