"""Reads a ledger's buckets while runs write, and writes them into another ledger.

Reading a partition returns every post that was remembered when the reading started, unless it was
forgotten meanwhile. Runs make two kinds of changes meanwhile, and neither hides a post:

- A bucket overflows. Posts never move from a bucket to a deeper one; a post is below a bucket only
  if that one was full before, and a full bucket stays full. So each bucket is read before those
  below it.
- A post that is met again moves to a generation that ends later, which may be a new one. So
  generations are read in the order of their ends. If the list of generations has new ones
  afterwards, the first of them and all that end later are read again, until there is no new one.
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
"""The end of a generation that never expires."""
BUCKETS_AT_ONCE = 16
"""Buckets per request. Full ones, of 511 members, take the server about a millisecond."""
_STEP = 1000
"""Members per reply, for sets that are not intsets; an intset is returned as a whole."""
_FIRST = tuple(f"{number:02x}" for number in range(256))
_BRANCHES = "01234567"


class Bucket(NamedTuple):
    """A bucket and its members."""

    path: str
    """Two hexadecimal digits, and one octal digit for each level below the first."""
    members: array[int]
    """Signed 64-bit integers, in ascending order."""

    @property
    def is_full(self) -> bool:
        """Whether there may be buckets below it."""
        return len(self.members) >= CAPACITY


class BucketBatch(NamedTuple):
    """Buckets of one level of a generation, from one partition."""

    partition: int
    ends: int
    """When the generation ends: milliseconds since 1970, or ``FOREVER``."""
    buckets: Sequence[Bucket]

    @property
    def size(self) -> int:
        """The number of members of all buckets."""
        return sum(len(bucket.members) for bucket in self.buckets)


class AnyClient(Protocol):
    """What reading and writing need of a :class:`~scrapy_valkey_dedup.valkey.client.Client`."""

    async def ask(self, *commands: bytes, key: str = "") -> list[Any]:
        """Sends commands; returns their replies."""

    async def run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Runs script calls; returns their replies."""


class ShelfBuckets:
    """The buckets of a namespace's posts, pages or timelines."""

    def __init__(self, server: AnyClient, tag: str, shelf: str = "") -> None:
        """``tag``: the namespace as it is written in keys. ``shelf``: "" for posts."""
        name = f"{tag}+{shelf}" if shelf else tag
        self._server = server
        self._partitions = [f"vd1:{{{name}:{number}}}" for number in PARTITION_TAGS]
        self._restore = script("restore")

    async def read(self, partition: int) -> AsyncIterator[BucketBatch]:
        """Reads a partition. Posts may come twice if a generation starts meanwhile."""
        read: set[int] = set()
        while True:
            listed = await self._ends(partition)
            new = [ends for ends in listed if ends not in read]
            if not new:
                return
            for ends in listed[listed.index(new[0]) :]:
                async for buckets in self._generation(partition, ends):
                    yield BucketBatch(partition, ends, buckets)
            read.update(listed)

    async def write(self, batch: BucketBatch) -> list[int]:
        """Adds the posts that are not remembered yet, with the same end.

        Returns the number of added posts for each bucket; -1 if the end has passed.
        """
        key, ends = self._partitions[batch.partition], b"%0*d" % (END_DIGITS, batch.ends)
        calls, places = list[ScriptCall](), list[int]()
        for place, bucket in enumerate(batch.buckets):
            for start in range(0, len(bucket.members), CAPACITY):
                some = [b"%d" % member for member in bucket.members[start : start + CAPACITY]]
                calls.append(
                    ScriptCall(self._restore, key, (), [ends, bucket.path.encode(), *some])
                )
                places.append(place)
        found = [0] * len(batch.buckets)
        for place, added in zip(places, await self._server.run(calls), strict=True):
            found[place] = -1 if added < 0 else found[place] + added
        return found

    async def _ends(self, partition: int) -> list[int]:
        """The ends of the partition's generations, in ascending order; ``FOREVER`` is last."""
        key = self._partitions[partition]
        (listed,) = await self._server.ask(command("GET", key), key=key)
        entries = listed or b""
        found = {
            int(entries[at : at + END_DIGITS]) for at in range(0, len(entries), END_DIGITS + 1)
        }
        return sorted(found, key=lambda ends: (ends == FOREVER, ends))

    async def _generation(self, partition: int, ends: int) -> AsyncIterator[list[Bucket]]:
        """Reads a generation level by level."""
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
        """Reads the buckets that exist among some paths."""
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
        """Reads the rest of a set that is not an intset, by SSCAN."""
        found = set(some)
        while cursor != b"0":
            asked = command("SSCAN", name, cursor, "COUNT", _STEP)
            ((cursor, some),) = await self._server.ask(asked, key=key)
            found.update(some)
        return found
