"""A ledger's buckets as they stand: read while runs write, and written into another ledger.

What is read of a partition has every post that was remembered when the reading began and that was
not forgotten meanwhile. Runs change two things on the way, and neither hides a post:

- A bucket overflows. No post moves from a bucket to a deeper one; it stands below a bucket only if
  that one was full before, and a full bucket stays full. So each is read before those below it.
- A post that is met again moves to a generation that ends later, be it a new one. So generations
  are read in the order of their ends. If the list has new ones afterwards, the first of them and
  all that end later are read once more: until a list has no new one.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Protocol

from scrapy_valkey_dedup.ledger.keys import END_DIGITS, PARTITION_TAGS
from scrapy_valkey_dedup.ledger.scripts import script
from scrapy_valkey_dedup.valkey.resp import ScriptCall, command

CAPACITY, LEVELS = 511, 8
"""As in ``lua/layout.lua``."""
FOREVER = 0
"""The end of what never ends."""
BUCKETS_AT_ONCE = 16
"""Of 511 members each: about a millisecond of the server's time."""
_STEP = 1000
"""Members in one answer, if a set is no sorted array: one that is comes as a whole."""
_FIRST = tuple(f"{number:02x}" for number in range(256))
_BRANCHES = "01234567"


class Bucket(NamedTuple):
    """What stands in one bucket."""

    path: str
    """Two hexadecimal digits, and an octal one for each level below the first."""
    members: array[int]
    """64-bit integers, ascending."""

    @property
    def is_full(self) -> bool:
        """Whether there may be others below it."""
        return len(self.members) >= CAPACITY


class Step(NamedTuple):
    """Some buckets of one level of a generation."""

    partition: int
    ends: int
    """When their generation ends: milliseconds since 1970, or ``FOREVER``."""
    buckets: Sequence[Bucket]

    @property
    def size(self) -> int:
        """How many members they have."""
        return sum(len(bucket.members) for bucket in self.buckets)


class Door(Protocol):
    """The way to the server: a :class:`~scrapy_valkey_dedup.valkey.client.Client`, say."""

    async def ask(self, *commands: bytes, key: str = "") -> list[Any]:
        """The replies to some commands."""

    async def run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """The replies to some script calls."""


class Shelf:
    """The buckets of a part of a namespace: of its posts, its pages or its timelines."""

    def __init__(self, server: Door, tag: str, shelf: str = "") -> None:
        """``tag``: the namespace as it stands in keys."""
        name = f"{tag}+{shelf}" if shelf else tag
        self._server = server
        self._partitions = [f"vd1:{{{name}:{number}}}" for number in PARTITION_TAGS]
        self._restore = script("restore")

    async def read(self, partition: int) -> AsyncIterator[Step]:
        """All that a partition remembers; some of it twice if a generation begins meanwhile."""
        read: set[int] = set()
        while True:
            listed = await self._ends(partition)
            new = [ends for ends in listed if ends not in read]
            if not new:
                return
            for ends in listed[listed.index(new[0]) :]:
                async for buckets in self._generation(partition, ends):
                    yield Step(partition, ends, buckets)
            read.update(listed)

    async def write(self, step: Step) -> list[int]:
        """Remembers what is not remembered yet, until the same moment.

        Returns for each bucket how many posts that were; -1: their end is over.
        """
        key, ends = self._partitions[step.partition], b"%0*d" % (END_DIGITS, step.ends)
        calls, places = list[ScriptCall](), list[int]()
        for place, bucket in enumerate(step.buckets):
            for start in range(0, len(bucket.members), CAPACITY):
                some = [b"%d" % member for member in bucket.members[start : start + CAPACITY]]
                calls.append(
                    ScriptCall(self._restore, key, (), [ends, bucket.path.encode(), *some])
                )
                places.append(place)
        found = [0] * len(step.buckets)
        for place, added in zip(places, await self._server.run(calls), strict=True):
            found[place] = -1 if added < 0 else found[place] + added
        return found

    async def _ends(self, partition: int) -> list[int]:
        """The generations that are listed, in the order of their ends."""
        key = self._partitions[partition]
        (listed,) = await self._server.ask(command("GET", key), key=key)
        entries = listed or b""
        found = {
            int(entries[at : at + END_DIGITS]) for at in range(0, len(entries), END_DIGITS + 1)
        }
        return sorted(found, key=lambda ends: (ends == FOREVER, ends))

    async def _generation(self, partition: int, ends: int) -> AsyncIterator[list[Bucket]]:
        """Level by level."""
        paths: Sequence[str] = _FIRST
        for level in range(1, LEVELS + 1):
            full = list[str]()
            for start in range(0, len(paths), BUCKETS_AT_ONCE):
                some = paths[start : start + BUCKETS_AT_ONCE]
                buckets = await self._buckets(partition, ends, some)
                full += [bucket.path for bucket in buckets if bucket.is_full]
                if buckets:
                    yield buckets
            if not full or level == LEVELS:
                return
            paths = [path + branch for path in full for branch in _BRANCHES]

    async def _buckets(self, partition: int, ends: int, paths: Sequence[str]) -> list[Bucket]:
        """Those that are there."""
        key = self._partitions[partition]
        prefix = f"{key}:{ends:0{END_DIGITS}}:"
        asked = [command("SSCAN", prefix + path, 0, "COUNT", _STEP) for path in paths]
        found = []
        for path, (cursor, some) in zip(
            paths, await self._server.ask(*asked, key=key), strict=True
        ):
            members = await self._rest(key, prefix + path, cursor, some) if cursor != b"0" else some
            if members:
                found.append(Bucket(path, array("q", sorted(map(int, members)))))
        return found

    async def _rest(self, key: str, name: str, cursor: bytes, some: list[bytes]) -> set[bytes]:
        """Of a set that is no sorted array."""
        found = set(some)
        while cursor != b"0":
            asked = command("SSCAN", name, cursor, "COUNT", _STEP)
            ((cursor, some),) = await self._server.ask(asked, key=key)
            found.update(some)
        return found
