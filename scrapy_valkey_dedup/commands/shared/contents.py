"""What stands in a namespace, key by key: counted, or removed. In steps that block nobody."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from scrapy_valkey_dedup.commands.shared.place import SHELVES, Place
from scrapy_valkey_dedup.commands.shared.screen import Advance
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, namespace_tag
from scrapy_valkey_dedup.ledger.tokens import is_held, run_of
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

_STEP = 1000
"""Keys that one SCAN looks at: well under a millisecond of the server's time."""
_ROUNDS = 5


@dataclass
class Holdings:
    """What a part of a namespace holds."""

    remembered: int = 0
    """Entries. One that stands in two generations counts twice, as do fillers."""
    claims: Counter[str] = field(default_factory=Counter)
    """Open claims, by run."""


class Shelf:
    """The keys of one part of a namespace: docs/ledger.md describes them."""

    def __init__(self, place: Place, what: str) -> None:
        """``what``: ``posts``, ``pages`` or ``timelines``."""
        root = namespace_tag(place.settings.namespace)
        shelf = SHELVES[what]
        self.name = f"{root}+{shelf}" if shelf else root
        self._server: Client = place.server
        self._partitions = [f"vd1:{{{self.name}:{name}}}" for name in PARTITION_TAGS]
        known = re.escape(self.name)
        self._list = re.compile(rf"vd1:\{{{known}:[0-9a-f]{{2}}\}}")
        self._bucket = re.compile(rf"{self._list.pattern}:\d+:[0-9a-f]{{2}}[0-7]*")
        self._claim = re.compile(rf"{self._list.pattern}:c:.*", re.DOTALL)

    async def count(self, advance: Advance = lambda _: None) -> Holdings:
        """Counts what is there; ``advance`` is told of each entry."""
        found = Holdings()
        async for keys in self._keys():
            buckets = [key for key in keys if self._bucket.fullmatch(key)]
            claims = [key for key in keys if self._claim.fullmatch(key)]
            remembered = sum(await self._ask_each("SCARD", buckets))
            found.remembered += remembered
            advance(remembered)
            values = await self._ask_each("GET", claims)
            found.claims.update(run_of(value) for value in values if value and is_held(value))
        return found

    async def clear(self, advance: Advance = lambda _: None) -> None:
        """Removes what is remembered; claims stay. Done when a whole look finds nothing."""
        for _ in range(_ROUNDS):
            found_any, lists = False, []
            async for keys in self._keys():
                buckets = [key for key in keys if self._bucket.fullmatch(key)]
                advance(sum(await self._ask_each("SCARD", buckets)))
                lists += [key for key in keys if self._list.fullmatch(key)]
                found_any |= bool(buckets)
                await self._ask_each("DEL", buckets)
            await self._ask_each("DEL", lists)
            if not found_any:
                return

    async def _keys(self) -> AsyncIterator[list[str]]:
        """All keys of the shelf, on every server that has a part of it."""
        servers = {self._server.node_of(name): name for name in self._partitions}
        for at in servers.values():
            cursor = b"0"
            while True:
                scan = command("SCAN", cursor, "MATCH", f"vd1:{{{self.name}:*", "COUNT", _STEP)
                ((cursor, found),) = await self._server.ask(scan, key=at)
                if found:
                    yield [key.decode("utf-8", "replace") for key in found]
                if cursor == b"0":
                    break

    async def _ask_each(self, name: str, keys: Iterable[str]) -> list[Any]:
        """Puts one command for each key, to the server that has it."""
        return await self._server.ask_each({key: command(name, key) for key in keys})
