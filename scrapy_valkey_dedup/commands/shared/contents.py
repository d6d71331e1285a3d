"""What stands in a namespace, key by key: counted, or removed. In steps that block nobody."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import Any

from scrapy_valkey_dedup.commands.shared.place import SHELVES, Place
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, namespace_tag
from scrapy_valkey_dedup.ledger.ledger import GENERATIONS_PER_RETENTION
from scrapy_valkey_dedup.ledger.tokens import is_held, run_of
from scrapy_valkey_dedup.model import TRIAL_MARK
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

_STEP = 1000
"""Keys that one SCAN looks at: well under a millisecond of the server's time."""
_ROUNDS = 5
_SKEW = 60.0
"""Seconds by which the server's clock may be ahead of ours."""


@dataclass
class Holdings:
    """What a part of a namespace holds."""

    remembered: int = 0
    """Entries. One that stands in two generations counts twice, as do fillers."""
    claims: Counter[str] = field(default_factory=Counter)
    """Open claims, by run."""
    endless: int = 0
    """Entries that are kept forever, where only what was stored since a moment is counted."""
    began: float = inf
    """When the oldest generation of what is counted began, in seconds: nothing in it is older."""
    is_undated: bool = False
    """Some of it ends later than anything that is stored now: it may be of any age."""


class Shelf:
    """The keys of one part of a namespace: docs/ledger.md describes them."""

    def __init__(self, place: Place, what: str, *, since: float | None = None) -> None:
        """``what``: ``posts``, ``pages`` or ``timelines``.

        ``since``: only the generations in which something may stand that was stored since then, in
        seconds. A generation is written until a retention before its end.
        """
        self.place = place
        root = namespace_tag(place.settings.namespace)
        shelf = SHELVES[what]
        self.name = f"{root}+{shelf}" if shelf else root
        self._server: Client = place.server
        self._partitions = _partitions(self.name)
        self._since = since
        self._now = time()
        self._retention = place.retention(what)
        known = re.escape(self.name)
        self._list = re.compile(rf"vd1:\{{{known}:[0-9a-f]{{2}}\}}")
        self._bucket = re.compile(rf"{self._list.pattern}:(\d+):[0-9a-f]{{2}}[0-7]*")
        self._claim = re.compile(rf"{self._list.pattern}:c:.*", re.DOTALL)

    async def count(self, advance: Advance = lambda _: None) -> Holdings:
        """Counts what is there; ``advance`` is told of each entry."""
        found = Holdings()
        async for keys in self._keys():
            buckets, endless = self._chosen(keys, found)
            claims = [key for key in keys if self._claim.fullmatch(key)]
            remembered = sum(await self._ask_each("SCARD", buckets))
            found.remembered += remembered
            found.endless += sum(await self._ask_each("SCARD", endless))
            advance(remembered)
            values = await self._ask_each("GET", claims)
            found.claims.update(run_of(value) for value in values if value and is_held(value))
        return found

    async def clear(self, advance: Advance = lambda _: None) -> None:
        """Removes what is remembered; claims stay. Done when a whole look finds nothing.

        With ``since`` there is one look: it meets all that was there when it began, and what runs
        store meanwhile may stay.
        """
        for _ in range(_ROUNDS if self._since is None else 1):
            found_any, lists = False, []
            async for keys in self._keys():
                buckets, _ = self._chosen(keys, Holdings())
                advance(sum(await self._ask_each("SCARD", buckets)))
                lists += [key for key in keys if self._list.fullmatch(key)]
                found_any |= bool(buckets)
                await self._ask_each("DEL", buckets)
            if self._since is None:
                await self._ask_each("DEL", lists)
            if not found_any:
                return

    def _chosen(self, keys: Sequence[str], found: Holdings) -> tuple[list[str], list[str]]:
        """The buckets among some keys; and those that last forever, if they are to be left."""
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
                    if began > self._now + _SKEW:  # of a longer retention, or loaded
                        found.is_undated = True
                    else:
                        found.began = min(found.began, began)
        return chosen, endless

    async def _keys(self) -> AsyncIterator[list[str]]:
        """All keys of the shelf, on every server that has a part of it."""
        servers = {self._server.node_of(name): name for name in self._partitions}
        for node in servers.values():
            async for keys in scan(self._server, f"vd1:{{{self.name}:*", node):
                yield keys

    async def _ask_each(self, name: str, keys: Iterable[str]) -> list[Any]:
        """Puts one command for each key, to the server that has it."""
        return await self._server.ask_each({key: command(name, key) for key in keys})


async def trials(place: Place) -> list[str]:
    """The names of the trials of a namespace, by their keys."""
    root = namespace_tag(place.settings.namespace)
    known = re.compile(
        rf"vd1:\{{{re.escape(root + TRIAL_MARK)}([A-Za-z0-9._-]+)[+:}}].*", re.DOTALL
    )
    nodes = {place.server.node_of(name): name for name in _partitions(root)}
    found = set[str]()
    for node in nodes.values():
        async for keys in scan(place.server, f"vd1:{{{root}{TRIAL_MARK}*", node):
            found.update(match[1] for key in keys if (match := known.fullmatch(key)))
    return sorted(found)


def _partitions(name: str) -> list[str]:
    return [f"vd1:{{{name}:{number}}}" for number in PARTITION_TAGS]


async def scan(server: Client, pattern: str, node: str) -> AsyncIterator[list[str]]:
    """The keys like a pattern on the server that has the key ``node``, in short steps."""
    cursor = b"0"
    while True:
        step = command("SCAN", cursor, "MATCH", pattern, "COUNT", _STEP)
        ((cursor, found),) = await server.ask(step, key=node)
        if found:
            yield [key.decode("utf-8", "replace") for key in found]
        if cursor == b"0":
            return
