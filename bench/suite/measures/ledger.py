"""Bytes of Valkey memory a post, and the server's time for a post, by the number of posts.

One ledger is filled step by step; at each size its memory is read, and batches of 40 posts (a
page) are asked about, claimed and confirmed, while the server counts the time of its scripts.
Smaller ledgers have two and three generations. Beside them what others store for a post: a string
key with an end, a member of a set, bits of scrapy-redis-bloomfilter's filter as its defaults make
it. 10^8 posts are a row of their own, which takes long and is measured only when asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import valkey

from bench.dump import RETENTIONS
from bench.ecpu import cost
from bench.servers import ValkeyServer
from bench.shared import connected, info, key
from bench.suite.results import Results, Row
from bench.suite.sizes import Sizes
from bench.suite.ways import BLOOM, OURS
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Client

ROW, LARGE = "ledger", "ledger-large"
BYTES, TIME = "bytes a post", "us of the server a post"
ONE, TWO, THREE = "1 generation", "2 generations", "3 generations"
CLAIM, CONFIRM, KNOWN = "claim", "confirm", "known post"
STRING_KEY, SET_OF_HEX = "a string key for each post", "a set, as scrapy-redis"
_BATCH, _PAGE, _ROUNDS, _PAGES_A_ROUND = 10_000, 40, 15, 20
_BITS = 1 << 30


def measure(row: Row, sizes: Sizes, _: Any) -> Iterator[str]:
    """All ledgers, then the others' layouts."""
    for number, case in enumerate((ONE, TWO, THREE), 1):
        to = max(sizes.memory) if number == 1 else sizes.generations_to
        wanted = sorted(size for size in {*sizes.memory, *sizes.server} if size <= to)
        yield from _filled(row, case, number, wanted, sizes.server)
    for name in (STRING_KEY, SET_OF_HEX):
        with ValkeyServer() as server:
            for size in (each for each in sizes.memory if each <= sizes.generations_to):
                row.add(BYTES, ONE, name, size, _others(server, name, size) / size)
        yield name
    with ValkeyServer() as server, server.client() as client:
        before = _used(client)
        client.setbit("filter", _BITS - 1, 1)
        for size in sizes.memory:
            row.add(BYTES, ONE, BLOOM.name, size, (_used(client) - before) / size)


def measure_large(row: Row, sizes: Sizes, _: Any) -> Iterator[str]:
    """One ledger up to the largest size, and its time at each size on the way, in one run."""
    yield from _filled(row, ONE, 1, sizes.large, sizes.large)


def _filled(
    row: Row, case: str, generations: int, sizes: Sequence[int], timed: Sequence[int]
) -> Iterator[str]:
    with ValkeyServer() as server:
        filling = Filling(row, server.url, case, RETENTIONS[:generations])
        for size in sizes:
            asyncio.run(filling.to(size, timed=generations == 1 and size in timed))
            yield f"{case}: {size:,} posts"


def row_of_times(results: Results) -> str:
    """The row that compares the server's time at all sizes: the large one, if there is one."""
    large = results.rows.get(LARGE)
    return LARGE if large and not large.error else ROW


class Filling:
    """A ledger that grows."""

    def __init__(self, row: Row, url: str, case: str, retentions: tuple[float, ...]) -> None:
        self._row, self._url, self._case = row, url, case
        self._retentions = retentions
        self._empty: int | None = None
        self._done = 0
        self._extra = 0

    async def to(self, size: int, *, timed: bool) -> None:
        """Fills it, and measures."""
        async with connected(self._url) as server:
            ledgers = [
                Ledger(server, "bench", "bench", retention=each) for each in self._retentions
            ]
            if self._empty is None:
                self._empty = await _memory(server)
                await ledgers[0].open()
            await self._fill(ledgers, size)
            used = await _memory(server) - self._empty
            self._row.add(BYTES, self._case, OURS.name, size, used / (size + self._extra))
            if timed:
                await self._time(server, ledgers[0], size)

    async def _fill(self, ledgers: list[Ledger], size: int) -> None:
        """Two at a time: one is made ready while the server has the other."""
        step = min(_BATCH, size // (10 * len(ledgers)))
        starts = iter(enumerate(range(self._done, size, step)))

        async def fill() -> None:
            for number, start in starts:
                some = [key(each) for each in range(start, min(start + step, size))]
                await ledgers[number % len(ledgers)].confirm_many(some)

        await asyncio.gather(fill(), fill())
        self._done = size

    async def _time(self, server: Client, ledger: Ledger, size: int) -> None:
        posts = _PAGE * _PAGES_A_ROUND
        for number in range(_ROUNDS):
            first = 10**12 + self._extra
            self._extra += posts
            new = [key(each) for each in range(first, first + posts)]
            known = [key((number * posts + each) * 7919 % size) for each in range(posts)]
            deeds = ((CLAIM, ledger.claim_many, new), (CONFIRM, ledger.confirm_many, new))
            for case, deed, keys in (*deeds, (KNOWN, ledger.claim_many, known)):
                bill = await cost(server, _by_pages(deed, keys))
                self._row.add(TIME, case, OURS.name, size, bill.microseconds / posts)


async def _by_pages(deed: Any, keys: list[bytes]) -> None:
    for start in range(0, len(keys), _PAGE):
        await deed(keys[start : start + _PAGE])


async def _memory(server: Client) -> int:
    return int((await info(server, "memory"))["used_memory"])


def _used(client: valkey.Valkey) -> int:
    return int(client.info("memory")["used_memory"])


def _others(server: ValkeyServer, name: str, size: int) -> int:
    """Bytes that so many posts take in another layout; the server is emptied first."""
    with server.client() as client:
        client.flushall()
        before = _used(client)
        for start in range(0, size, _BATCH):
            digests = [
                (key(each) + b"\0\0\0\0").hex() for each in range(start, min(start + _BATCH, size))
            ]
            with client.pipeline(transaction=False) as pipe:
                if name == SET_OF_HEX:
                    pipe.sadd("posts:dupefilter", *digests)
                else:
                    for digest in digests:
                        pipe.set(f"seen:posts:{digest}", 1, nx=True, ex=90 * 86400)
                pipe.execute()
        return _used(client) - before
