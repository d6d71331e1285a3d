"""Counts or removes the keys of a part of a namespace, by SCAN in short steps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import Any

from scrapy_valkey_dedup.commands.shared.connection import SHELVES, LedgerConnection
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, KeyNames, namespace_tag
from scrapy_valkey_dedup.ledger.retention import GENERATIONS_PER_RETENTION
from scrapy_valkey_dedup.ledger.tokens import is_held, run_of
from scrapy_valkey_dedup.model import TRIAL_MARK
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

_STEP = 1000
"""Keys per SCAN; one takes the server well under a millisecond."""
_ROUNDS = 5
_FULL_BUCKET = 511
_SKEW = 60.0
"""Seconds by which the server's clock may be ahead of ours."""


@dataclass
class ShelfCounts:
    """How many entries and open claims a part of a namespace has."""

    remembered: int = 0
    """Entries. One that is in two generations counts twice; fillers count, too."""
    claims: Counter[str] = field(default_factory=Counter)
    """Open claims, by run."""
    endless: int = 0
    """Entries without an end; counted only with ``since``, which cannot select them."""
    began: float = inf
    """When the oldest counted generation started, in seconds since 1970; ``inf`` if none is."""
    generations: set[tuple[str, str]] = field(default_factory=set)
    """The partitions that have the entries, each with the end of a generation."""
    has_full_buckets: bool = False
    """Whether there may be fillers: only a full bucket gets them."""
    is_undated: bool = False
    """Whether some entries end later than any that is stored now, so that their age is unknown."""

    @property
    def is_exact(self) -> bool:
        """Whether each entry is a different post."""
        partitions = {partition for partition, _ in self.generations}
        return len(partitions) == len(self.generations) and not self.has_full_buckets


class ShelfKeys:
    """The keys of a part of a namespace, which docs/ledger.md describes."""

    def __init__(
        self, connection: LedgerConnection, what: str, *, since: float | None = None
    ) -> None:
        """``what``: ``posts``, ``pages`` or ``timelines``.

        ``since``: only generations that may have entries stored since then, in seconds since 1970.
        A generation is written until one retention before its end.
        """
        self.connection = connection
        root = namespace_tag(connection.settings.namespace)
        shelf = SHELVES[what]
        self.name = f"{root}+{shelf}" if shelf else root
        self._server: Client = connection.server
        self._partitions = _partitions(self.name)
        self._since = since
        self._now = time()
        self._retention = connection.retention(what)
        known = re.escape(self.name)
        self._list = re.compile(rf"vd1:\{{{known}:[0-9a-f]{{2}}\}}")
        self._bucket = re.compile(rf"{self._list.pattern}:(\d+):[0-9a-f]{{2}}[0-7]*")
        self._claim = re.compile(rf"{self._list.pattern}:c:.*", re.DOTALL)

    async def count(self, advance: Advance = lambda _: None) -> ShelfCounts:
        """Counts entries and claims; calls ``advance`` with the number of entries of each step."""
        found = ShelfCounts()
        async for keys in self._keys():
            buckets, endless = self._chosen(keys, found)
            claims = [key for key in keys if self._claim.fullmatch(key)]
            sizes = await self._ask_each("SCARD", buckets)
            remembered = sum(sizes)
            found.has_full_buckets |= any(size >= _FULL_BUCKET for size in sizes)
            parts = (key.rsplit(":", 2) for key in buckets)
            found.generations.update((partition, end) for partition, end, _ in parts)
            found.remembered += remembered
            found.endless += sum(await self._ask_each("SCARD", endless))
            advance(remembered)
            values = await self._ask_each("GET", claims)
            found.claims.update(run_of(value) for value in values if value and is_held(value))
        return found

    async def clear(self, advance: Advance = lambda _: None) -> None:
        """Removes all entries and keeps the claims. Repeats until a pass finds no bucket.

        With ``since`` there is one pass: it removes what was there when it started, and may leave
        what runs store meanwhile.
        """
        for _ in range(_ROUNDS if self._since is None else 1):
            found_any, lists = False, []
            async for keys in self._keys():
                buckets, _ = self._chosen(keys, ShelfCounts())
                advance(sum(await self._ask_each("SCARD", buckets)))
                lists += [key for key in keys if self._list.fullmatch(key)]
                found_any |= bool(buckets)
                await self._ask_each("DEL", buckets)
            if self._since is None:
                await self._ask_each("DEL", lists)
            if not found_any:
                return

    def _chosen(self, keys: Sequence[str], found: ShelfCounts) -> tuple[list[str], list[str]]:
        """The buckets to count or remove; and with ``since``, the buckets without an end."""
        chosen, endless = [], []
        for key in keys:
            bucket = self._bucket.fullmatch(key)
            if bucket is None:
                continue
            if self._since is None:
                chosen.append(key)
            elif not int(bucket[1]):
                endless.append(key)
            elif self._retention is not None:
                written_until = int(bucket[1]) / 1000 - self._retention
                if written_until >= self._since:
                    chosen.append(key)
                    began = written_until - self._retention / GENERATIONS_PER_RETENTION
                    if began > self._now + _SKEW:  # stored with a longer retention, or loaded
                        found.is_undated = True
                    else:
                        found.began = min(found.began, began)
        return chosen, endless

    async def _keys(self) -> AsyncIterator[list[str]]:
        """All keys of the shelf, from every node that has some of them."""
        servers = {self._server.node_of(name): name for name in self._partitions}
        for node in servers.values():
            async for keys in scan(self._server, f"vd1:{{{self.name}:*", node):
                yield keys

    async def _ask_each(self, name: str, keys: Iterable[str]) -> list[Any]:
        """Sends one command for each key, to the node that has it; returns the replies."""
        return await self._server.ask_each({key: command(name, key) for key in keys})


async def trials(connection: LedgerConnection) -> list[str]:
    """The names of a namespace's trials that have keys, in alphabetical order."""
    root = namespace_tag(connection.settings.namespace)
    known = re.compile(
        rf"vd1:\{{{re.escape(root + TRIAL_MARK)}([A-Za-z0-9._-]+)[+:}}].*", re.DOTALL
    )
    nodes = {connection.server.node_of(name): name for name in _partitions(root)}
    found = set[str]()
    for node in nodes.values():
        async for keys in scan(connection.server, f"vd1:{{{root}{TRIAL_MARK}*", node):
            found.update(match[1] for key in keys if (match := known.fullmatch(key)))
    return sorted(found)


async def delete_notes(connection: LedgerConnection) -> None:
    """Deletes the history of a namespace, and what runs have said of themselves that have ended."""
    server, names = connection.server, KeyNames(connection.settings.namespace)
    alive = set(map(names.run_info, await living_runs(connection)))
    for pattern in (f"{names.history}:*", names.run_info("*")):
        async for keys in scan(server, pattern, names.root):
            if notes := [key for key in keys if key not in alive]:
                await server.ask(command("DEL", *notes), key=names.root)


async def living_runs(connection: LedgerConnection) -> list[str]:
    """The runs of a namespace that have a heartbeat, in alphabetical order."""
    prefix = KeyNames(connection.settings.namespace).heartbeat("")
    found = set[str]()
    async for keys in scan(connection.server, f"{prefix}*", prefix):  # one slot has them all
        found.update(key.removeprefix(prefix) for key in keys)
    return sorted(found)


def _partitions(name: str) -> list[str]:
    return [f"vd1:{{{name}:{number}}}" for number in PARTITION_TAGS]


async def scan(server: Client, pattern: str, node: str) -> AsyncIterator[list[str]]:
    """The keys that match a pattern on the node that has the key ``node``, in short steps."""
    cursor = b"0"
    while True:
        step = command("SCAN", cursor, "MATCH", pattern, "COUNT", _STEP)
        ((cursor, found),) = await server.ask(step, key=node)
        if found:
            yield [key.decode("utf-8", "replace") for key in found]
        if cursor == b"0":
            return
