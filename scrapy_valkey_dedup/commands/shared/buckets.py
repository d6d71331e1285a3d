"""How much a part of a namespace remembers, generation by generation, by its own layout.

No key is searched for: the lists of generations and the buckets have names that are known, so it
takes no longer on a server that holds other things, too. Posts are spread evenly over partitions: a
few of them tell what all hold, to about a thousandth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import NamedTuple

from scrapy_valkey_dedup.commands.shared.connection import SHELVES
from scrapy_valkey_dedup.commands.shared.server import reply_or_reason
from scrapy_valkey_dedup.ledger.keys import END_DIGITS, PARTITION_TAGS, namespace_tag
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

_AT_ONCE = 500
"""Commands in one round trip: a fraction of a millisecond of the server's time."""
_ENOUGH = 4200
"""Buckets of a generation to look at, at least: all, as long as hardly any is full."""
_CAPACITY = 511  # ledger/lua/layout.lua
_LEVELS = 8
_FIRST = tuple(f"{number:02x}" for number in range(256))
"""The paths of the first level."""
_SAME = 0.02
"""Generations are shown as one if they end so close together: a share of the time until then."""
_WEIGHED = 100
"""Buckets that are asked for their memory."""


@dataclass
class Generation:
    """What ends at one moment."""

    ends: float
    """Seconds since 1970; ``inf``: never."""
    entries: int = 0
    buckets: int = 0


@dataclass
class Contents:
    """What one part of a namespace remembers."""

    generations: list[Generation] = field(default_factory=list)
    """The one that lasts longest first."""
    is_exact: bool = True
    bytes_each: float | None = None
    """Memory for each entry; None: nobody may ask, or there is none."""
    sample: str = ""
    """The largest bucket that was met."""

    @property
    def entries(self) -> int:
        """Entries; one that stands in two generations counts twice, as do fillers."""
        return sum(each.entries for each in self.generations)

    @property
    def bytes(self) -> int | None:
        """Memory for all of them, about."""
        return None if self.bytes_each is None else round(self.bytes_each * self.entries)


class _Listed(NamedTuple):
    """A generation of one partition."""

    ends: float
    prefix: str
    """How the names of its buckets begin."""
    partition: str


class BucketSurvey:
    """Looks at the buckets of ``posts``, ``pages`` or ``timelines``."""

    def __init__(self, server: Client, namespace: str, what: str, *, exact: bool = False) -> None:
        root, shelf = namespace_tag(namespace), SHELVES[what]
        name = f"{root}+{shelf}" if shelf else root
        self._partitions = [f"vd1:{{{name}:{number}}}" for number in PARTITION_TAGS]
        self._server = server
        self._exact = exact
        self._filled: list[tuple[str, int]] = []
        """Buckets that were met, with their sizes; of many, some."""

    async def measure(self) -> Contents:
        """Counts, and weighs a few buckets."""
        found = await self.count()
        if self._filled:
            found.sample = max(self._filled, key=lambda each: each[1])[0]
            found.bytes_each = await self._weighed()
        return found

    async def count(self) -> Contents:
        """Counts."""
        found = Contents()
        for listed in _grouped(await self._listed()):
            generation, is_exact = await self._generation(listed)
            found.is_exact &= is_exact
            if generation.entries:
                found.generations.append(generation)
        found.generations.sort(key=lambda each: -each.ends)
        return found

    async def _listed(self) -> list[_Listed]:
        """The generations of each partition."""
        asked = {name: command("GET", name) for name in self._partitions}
        replies = await self._server.ask_each(asked)
        return [
            _Listed(int(ends) / 1000 or inf, f"{name}:{ends}:", name)
            for name, entries in zip(asked, replies, strict=True)
            for ends in _ends_in(entries or b"")
        ]

    async def _generation(self, listed: list[_Listed]) -> tuple[Generation, bool]:
        found = Generation(max(each.ends for each in listed))
        random.shuffle(listed)
        looked_at = walked = 0
        for each in listed:
            if looked_at >= _ENOUGH and not self._exact:
                break
            looked_at += await self._walk(each.prefix, each.partition, found)
            walked += 1
        share = len(listed) / walked
        found.entries = round(found.entries * share)
        found.buckets = round(found.buckets * share)
        return found, walked == len(listed)

    async def _walk(self, prefix: str, partition: str, found: Generation) -> int:
        """Counts one partition, level by level; returns how many buckets were looked at."""
        paths: Sequence[str] = _FIRST
        looked_at = 0
        for level in range(1, _LEVELS + 1):
            sizes = await self._sizes(prefix, paths, partition)
            looked_at += len(paths)
            filled = [(path, size) for path, size in zip(paths, sizes, strict=True) if size]
            found.entries += sum(size for _, size in filled)
            found.buckets += len(filled)
            self._note(prefix, filled)
            full = [path for path, size in filled if size >= _CAPACITY]
            if not full or level == _LEVELS:
                break
            paths = [f"{path}{branch}" for path in full for branch in range(8)]
        return looked_at

    async def _sizes(self, prefix: str, paths: Sequence[str], partition: str) -> list[int]:
        found: list[int] = []
        for start in range(0, len(paths), _AT_ONCE):
            asked = [command("SCARD", prefix + path) for path in paths[start : start + _AT_ONCE]]
            found += await self._server.ask(*asked, key=partition)
        return found

    def _note(self, prefix: str, filled: list[tuple[str, int]]) -> None:
        some = random.sample(filled, min(len(filled), _WEIGHED))
        self._filled += [(prefix + path, size) for path, size in some]

    async def _weighed(self) -> float | None:
        some = random.sample(self._filled, min(len(self._filled), _WEIGHED))
        entries = weight = 0
        for name, size in some:
            used = await reply_or_reason(self._server, "MEMORY", "USAGE", name, key=name)
            if isinstance(used, str):
                return None
            if used is not None:  # it has ended meanwhile
                entries, weight = entries + size, weight + used
        return weight / entries if entries else None


def _grouped(listed: list[_Listed]) -> list[list[_Listed]]:
    """Those that end at about the same time: each partition begins its generations by itself."""
    groups: list[list[_Listed]] = []
    now = time()
    for each in sorted(listed):
        last = groups[-1][0].ends if groups else -inf
        if each.ends == last or each.ends - last < _SAME * max(each.ends - now, 1):
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def _ends_in(entries: bytes) -> list[str]:
    """The ends in a partition's list of generations: ledger/lua/layout.lua."""
    text = entries.decode("ascii", "replace")
    return [text[at : at + END_DIGITS] for at in range(0, len(text), END_DIGITS + 1)]
