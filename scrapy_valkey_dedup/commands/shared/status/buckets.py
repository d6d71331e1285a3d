"""Counts the entries of a namespace's posts, pages or timelines, generation by generation.

The names of the lists of generations and of the buckets are known, so no SCAN is needed, and other
keys on the same server cost no time. Posts are spread evenly over the partitions, so a few of the
partitions are enough for an estimate, to about 0.1 %.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import NamedTuple

from scrapy_valkey_dedup.commands.shared.connection import SHELVES
from scrapy_valkey_dedup.commands.shared.status.server import reply_or_reason
from scrapy_valkey_dedup.ledger.keys import END_DIGITS, PARTITION_TAGS, namespace_tag
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

_AT_ONCE = 500
"""Commands in one round trip; they take the server less than a millisecond."""
_ENOUGH = 4200
"""The estimate looks at this many buckets of a generation: all of them if few are full."""
_CAPACITY = 511  # ledger/lua/layout.lua
_LEVELS = 8
_FIRST = tuple(f"{number:02x}" for number in range(256))
"""The paths of the first level's buckets."""
_SAME = 0.02
"""Generations that end within this share of the remaining time are shown as one."""
_SAMPLED = 100
"""Buckets whose memory is measured."""


@dataclass
class Generation:
    """Entries that expire at the same moment."""

    ends: float
    """Seconds since 1970; ``inf`` if they never expire."""
    entries: int = 0
    buckets: int = 0


@dataclass
class Contents:
    """How much a part of a namespace remembers."""

    generations: list[Generation] = field(default_factory=list)
    """In descending order of their ends."""
    is_exact: bool = True
    bytes_each: float | None = None
    """Memory per entry; None if there are no entries, or MEMORY USAGE is not permitted."""
    sample: str = ""
    """The key of the largest bucket that was sampled."""

    @property
    def entries(self) -> int:
        """All entries. One that is in two generations counts twice; fillers count, too."""
        return sum(each.entries for each in self.generations)

    @property
    def bytes(self) -> int | None:
        """Memory of all entries, as an estimate; None if it is not known."""
        return None if self.bytes_each is None else round(self.bytes_each * self.entries)


class _Listed(NamedTuple):
    """A generation of one partition."""

    ends: float
    prefix: str
    """The beginning of its buckets' keys."""
    partition: str


class BucketSurvey:
    """Counts the buckets of ``posts``, ``pages`` or ``timelines``, and measures their memory."""

    def __init__(self, server: Client, namespace: str, what: str, *, exact: bool = False) -> None:
        root, shelf = namespace_tag(namespace), SHELVES[what]
        name = f"{root}+{shelf}" if shelf else root
        self._partitions = [f"vd1:{{{name}:{number}}}" for number in PARTITION_TAGS]
        self._server = server
        self._exact = exact
        self._samples: list[tuple[str, int]] = []
        """Keys of filled buckets with their sizes: of each partition at most ``_SAMPLED``."""

    async def measure(self) -> Contents:
        """Counts entries, and measures the memory of a few buckets."""
        found = await self.count()
        if self._samples:
            found.sample = max(self._samples, key=lambda each: each[1])[0]
            found.bytes_each = await self._bytes_per_entry()
        return found

    async def count(self) -> Contents:
        """Counts entries and buckets."""
        found = Contents()
        for listed in _grouped(await self._listed()):
            generation, is_exact = await self._generation(listed)
            found.is_exact &= is_exact
            if generation.entries:
                found.generations.append(generation)
        found.generations.sort(key=lambda each: -each.ends)
        return found

    async def _listed(self) -> list[_Listed]:
        """The generations of every partition."""
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
            looked_at += await self._count_partition(each.prefix, each.partition, found)
            walked += 1
        share = len(listed) / walked
        found.entries = round(found.entries * share)
        found.buckets = round(found.buckets * share)
        return found, walked == len(listed)

    async def _count_partition(self, prefix: str, partition: str, found: Generation) -> int:
        """Counts a generation of one partition by level; returns how many keys were asked."""
        paths: Sequence[str] = _FIRST
        looked_at = 0
        for level in range(1, _LEVELS + 1):
            sizes = await self._sizes(prefix, paths, partition)
            looked_at += len(paths)
            filled = [(path, size) for path, size in zip(paths, sizes, strict=True) if size]
            found.entries += sum(size for _, size in filled)
            found.buckets += len(filled)
            self._sample(prefix, filled)
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

    def _sample(self, prefix: str, filled: list[tuple[str, int]]) -> None:
        some = random.sample(filled, min(len(filled), _SAMPLED))
        self._samples += [(prefix + path, size) for path, size in some]

    async def _bytes_per_entry(self) -> float | None:
        some = random.sample(self._samples, min(len(self._samples), _SAMPLED))
        entries = used_bytes = 0
        for name, size in some:
            used = await reply_or_reason(self._server, "MEMORY", "USAGE", name, key=name)
            if isinstance(used, str):
                return None
            if used is not None:  # else the bucket has expired meanwhile
                entries, used_bytes = entries + size, used_bytes + used
        return used_bytes / entries if entries else None


def _grouped(listed: list[_Listed]) -> list[list[_Listed]]:
    """Groups generations that end at about the same time: each partition starts its own."""
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
    """The ends in a partition's list of generations, as ledger/lua/layout.lua writes it."""
    text = entries.decode("ascii", "replace")
    return [text[at : at + END_DIGITS] for at in range(0, len(text), END_DIGITS + 1)]
