"""Buckets are read while runs write, and written into another ledger: nothing is missed or lost."""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.keys import PARTITIONS, split_key
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.transfer import (
    _FIRST,
    BUCKETS_AT_ONCE,
    CAPACITY,
    FOREVER,
    Bucket,
    BucketBatch,
    ShelfBuckets,
)
from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import ScriptCall
from tests.support import patience
from tests.support.patience import PATIENCE, in_loop

DAY = 86400
LATEST = 9_999_999_999_999
OpenLedger: TypeAlias = Callable[..., Any]


def crowded(number: int) -> Key:
    """Of a post of partition 3 whose path begins with 16 given bits: many fill several levels."""
    chance = random.Random(number).randbytes(16)
    return bytes([0x35, 0x5A, 0xF0 | chance[2] & 0x0F]) + chance[3:]


def keys(numbers: Iterable[int]) -> list[Key]:
    """Of posts that all stand in the same few buckets."""
    return [crowded(number) for number in numbers]


def member(key: Key) -> int:
    """What stands in the bucket of a post."""
    return int.from_bytes(key[8:], "big", signed=True)


@pytest.fixture
def namespaces(namespace: str) -> Iterator[str]:
    """Others that no other test uses."""
    return (f"{namespace}-{number}" for number in count())


@pytest.fixture
def server_url(valkey: ValkeyServer) -> str:
    """The session's server."""
    return valkey.url


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A server, for as long as it is used."""
    server = Client(url, url, {}, timeout=PATIENCE)
    try:
        yield server
    finally:
        await server.close()


async def all_of(shelf: ShelfBuckets) -> list[BucketBatch]:
    """What a shelf holds."""
    return [batch for number in range(PARTITIONS) async for batch in shelf.read(number)]


def content(batches: Iterable[BucketBatch]) -> dict[tuple[int, int, str], set[int]]:
    """The members by partition, end and path."""
    return {
        (batch.partition, batch.ends, bucket.path): set(bucket.members)
        for batch in batches
        for bucket in batch.buckets
    }


# -- there and back --------------------------------------------------------------------------------


@in_loop
async def test_what_is_read_is_written(
    open_ledger: OpenLedger, server_url: str, namespace: str
) -> None:
    """Another ledger has the same members in the same buckets, with the same ends, and no more."""
    posts, others = keys(range(6000)), keys(range(6000, 9000))
    for number, retention in enumerate((60, 3600, None)):
        async with open_ledger(retention=retention) as ledger:
            await ledger.confirm_many(posts[number::3])
    async with connected(server_url) as server:
        found = await all_of(ShelfBuckets(server, namespace))
        there = ShelfBuckets(server, f"{namespace}-there")
        for batch in found:
            await there.write(batch)
        assert content(await all_of(there)) == content(found)
        assert {len(path) for _, _, path in content(found)} >= {2, 3, 4, 5}
        assert [await there.write(batch) for batch in found] == [
            [0] * len(s.buckets) for s in found
        ]
        assert content(await all_of(there)) == content(found)
        ledger = Ledger(server, f"{namespace}-there", "run-b", retention=3600)
        assert await ledger.seen_many(posts) == [True] * len(posts)
        assert await ledger.seen_many(others) == [False] * len(others)
        before = [state.until for state in await inspected(server, namespace, posts[:100])]
        after = [
            state.until for state in await inspected(server, f"{namespace}-there", posts[:100])
        ]
        assert after == before


async def inspected(server: Client, namespace: str, posts: Sequence[Key]) -> list[Any]:
    """What a ledger keeps of posts."""
    return await Ledger(server, namespace, "run-c", retention=3600).inspect_many(posts)


@in_loop
async def test_buckets_end_with_their_generation(valkey: ValkeyServer, namespace: str) -> None:
    """Every bucket of a generation has its end, in whatever order they came; forever has none."""
    soon, later = (int(time.time() + seconds) * 1000 for seconds in (60, 3600))
    async with connected(valkey.url) as server:
        shelf = ShelfBuckets(server, namespace)
        for ends in (later, soon, FOREVER):
            bucket = Bucket("355", array("q", range(5)))
            assert await shelf.write(BucketBatch(3, ends, [bucket])) == [5]
    wanted = {f"{later:013}": later, f"{soon:013}": soon, f"{0:013}": -1}
    for text, ends in wanted.items():
        # Its way to the bucket is free, so it stays at the first level.
        assert valkey.ask("PEXPIRETIME", f"vd1:{{{namespace}:03}}:{text}:35") == ends
    listed = valkey.ask("GET", f"vd1:{{{namespace}:03}}")
    assert listed == f"{0:013}1{later:013}1{soon:013}1"


@in_loop
async def test_what_is_over_is_not_written(valkey: ValkeyServer, namespace: str) -> None:
    """A generation that has ended since it was read leaves no key."""
    ends = int(time.time() - 60) * 1000
    buckets = [Bucket("35", array("q", range(5))), Bucket("36", array("q", [1]))]
    async with connected(valkey.url) as server:
        assert await ShelfBuckets(server, namespace).write(BucketBatch(3, ends, buckets)) == [
            -1,
            -1,
        ]
    assert valkey.ask("KEYS", f"vd1:{{{namespace}:*") == []


# -- together with what is there -------------------------------------------------------------------


@pytest.mark.parametrize("end", ["an hour", "the latest", "forever"])
@in_loop
async def test_a_bucket_that_others_have_filled(
    valkey: ValkeyServer, namespace: str, end: str
) -> None:
    """Members that find no room go to a later generation: all are found, no bucket is too full."""
    ends = {"an hour": int(time.time() + 3600) * 1000, "the latest": LATEST, "forever": FOREVER}[
        end
    ]
    retention = None if end == "forever" else 1800
    ours, theirs = keys(range(3000)), keys(range(3000, 6000))
    async with connected(valkey.url) as server:
        source, target = (Ledger(server, f"{namespace}{n}", "r", retention=None) for n in "ab")
        await source.confirm_many(ours)
        await target.confirm_many(theirs)
        here = ShelfBuckets(server, f"{namespace}c")
        for name in "ba":  # the one that is there already comes first
            for batch in await all_of(ShelfBuckets(server, f"{namespace}{name}")):
                await here.write(BucketBatch(batch.partition, ends, batch.buckets))
        again = [
            await here.write(BucketBatch(batch.partition, ends, batch.buckets))
            for name in "ab"
            for batch in await all_of(ShelfBuckets(server, f"{namespace}{name}"))
        ]
        assert not any(map(sum, again))
        found = content(await all_of(here))
        assert len({ends for _, ends, _ in found}) > 1
        assert max(map(len, found.values())) == CAPACITY
        both = Ledger(server, f"{namespace}c", "run-c", retention=retention)
        assert all(await both.seen_many(ours + theirs))
        until = [state.until for state in await both.inspect_many(ours + theirs)]
        assert min(until) >= (ends / 1000 if end == "an hour" else LATEST / 1000 - 10)
        assert not any(await both.seen_many(keys(range(6000, 9000))))
    for partition, ends, path in found:
        key = f"vd1:{{{namespace}c:0{partition}}}:{ends:013}:{path}"
        assert valkey.ask("OBJECT", "ENCODING", key) == "intset"


@in_loop
async def test_runs_that_store_meanwhile(
    open_ledger: OpenLedger, server_url: str, namespace: str
) -> None:
    """Runs confirm into the very generation that is being written: nothing of either is lost."""
    posts, others = keys(range(4000)), keys(range(4000, 6000))
    async with open_ledger() as ledger, connected(server_url) as server:
        await ledger.confirm_many(posts)
        there = Ledger(server, f"{namespace}-there", "run-b", retention=3600)
        shelf = ShelfBuckets(server, f"{namespace}-there")
        batches = await all_of(ShelfBuckets(server, namespace))
        pieces = [
            BucketBatch(s.partition, s.ends, [bucket]) for s in batches for bucket in s.buckets
        ]
        for number, piece in enumerate(pieces):
            share = range(number, len(others), len(pieces))
            await there.confirm_many([others[at] for at in share])
            await shelf.write(piece)
        assert all(await there.seen_many(posts + others))
        for piece in pieces:
            assert await shelf.write(piece) == [0]


GROUPS = [keys(range(start, start + 400)) for start in range(0, 2400, 400)]
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["confirm", "confirm", "meet", "forget", "load"]),
        st.integers(0, 1),
        st.integers(0, len(GROUPS) - 1),
        st.sampled_from([10 * DAY, 15 * DAY, 60 * DAY, None]),
    ),
    max_size=12,
)


@given(DEEDS)
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_two_ledgers_become_one(
    server_url: str, namespaces: Iterator[str], deeds: list[tuple[str, int, int, float | None]]
) -> None:
    """Whatever runs do in two ledgers: to load one into the other adds its posts, and no others."""

    async def work() -> None:
        names = [next(namespaces), next(namespaces)]
        held: list[set[int]] = [set(), set()]
        async with connected(server_url) as server:
            for deed, at, group, retention in deeds:
                ledger = Ledger(server, names[at], f"run-{at}", retention=retention)
                if deed == "load":
                    for batch in await all_of(ShelfBuckets(server, names[1 - at])):
                        await ShelfBuckets(server, names[at]).write(batch)
                    held[at] |= held[1 - at]
                elif deed == "forget":
                    await ledger.forget_many(GROUPS[group])
                    held[at].discard(group)
                elif deed == "confirm":
                    await ledger.confirm_many(GROUPS[group])
                    held[at].add(group)
                else:
                    await ledger.claim_many(GROUPS[group])
            for name, groups in zip(names, held, strict=True):
                ledger = Ledger(server, name, "run-c", retention=60)
                for number, group in enumerate(GROUPS):
                    assert await ledger.seen_many(group) == [number in groups] * len(group)

    patience.run(work)


@in_loop
async def test_what_was_evicted_is_there_again(valkey: ValkeyServer, namespace: str) -> None:
    """Loaded once more, posts are found that an eviction of a list, or of buckets, had hidden."""
    posts = keys(range(3000))
    async with connected(valkey.url) as server:
        ledger = Ledger(server, f"{namespace}-there", "run-a", retention=3600)
        await Ledger(server, namespace, "run-a", retention=3600).confirm_many(posts)
        batches = await all_of(ShelfBuckets(server, namespace))
        shelf = ShelfBuckets(server, f"{namespace}-there")
        for batch in batches:
            await shelf.write(batch)
        listed = f"vd1:{{{namespace}-there:03}}"
        buckets = valkey.ask("KEYS", f"{listed}:*")
        assert max(map(len, buckets)) - min(map(len, buckets)) > 2  # levels below the first
        for lost in ([listed], buckets[::2], buckets[1::3]):
            valkey.ask("DEL", *lost)
            assert not all(await ledger.seen_many(posts))
            for batch in batches:
                await shelf.write(batch)
            assert all(await ledger.seen_many(posts))


# -- while runs write ------------------------------------------------------------------------------


class Adversary:
    """A way to the server on which runs have done as they like before each question."""

    def __init__(self, server: Client, deed: Callable[[], Any]) -> None:
        self._server, self._deed = server, deed

    async def ask(self, *commands: bytes, key: str = "") -> list[Any]:
        """First the others."""
        await self._deed()
        return await self._server.ask(*commands, key=key)

    async def run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """First the others."""
        await self._deed()
        return await self._server.run(calls)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("begun", [2, 5])
@in_loop
async def test_nothing_is_missed_while_runs_write(
    server_url: str, namespace: str, seed: int, begun: int
) -> None:
    """Posts move to later generations and buckets overflow between any two questions: all are read.

    Runs of five retentions are at work. Some of their generations, or all, have begun before.
    """
    chance = random.Random(seed)
    posts, fresh = keys(range(3000)), iter(range(3000, 10**6))
    async with connected(server_url) as server:
        retentions = [10 * DAY, 20 * DAY, 40 * DAY, 80 * DAY, None]
        runs = [
            Ledger(server, namespace, f"run-{n}", retention=r) for n, r in enumerate(retentions)
        ]
        for number, run in enumerate(runs[:begun]):
            await run.confirm_many(keys([next(fresh)]))
            if number < len(runs[:2]):
                await run.confirm_many(posts[number::2])
        left = 12

        async def deed() -> None:
            nonlocal left
            if left and chance.random() < 0.6:
                left -= 1
                run = chance.choice(runs[2:])
                await run.claim_many(chance.sample(posts, 700))  # they are seen, and move
                await chance.choice(runs).confirm_many(keys(next(fresh) for _ in range(200)))

        found = set[int]()
        async for batch in ShelfBuckets(Adversary(server, deed), namespace).read(3):
            found.update(*(bucket.members for bucket in batch.buckets))
        assert {member(post) for post in posts} <= found
        assert {split_key(post)[0] for post in posts} == {3}
        assert left == 0


@in_loop
async def test_a_generation_that_begins_between_two(server_url: str, namespace: str) -> None:
    """A post moves to a new generation, and on to one that was read before: it is read."""
    post = keys([1])[0]
    async with connected(server_url) as server:
        soon, between, late = (
            Ledger(server, namespace, f"run-{days}", retention=days * DAY) for days in (10, 30, 90)
        )
        await soon.confirm_many([post])
        await late.confirm_many(keys([2]))
        asked = 0
        # It reads the list, then the buckets of one generation, then those of the other.
        batches = len(_FIRST) // BUCKETS_AT_ONCE
        script = {2: between.claim_many, 2 * batches + 2: late.claim_many}

        async def deed() -> None:
            nonlocal asked
            asked += 1
            if asked in script:
                await script[asked]([post])

        found = set[int]()
        async for batch in ShelfBuckets(Adversary(server, deed), namespace).read(3):
            found.update(*(bucket.members for bucket in batch.buckets))
        assert asked > 2 * batches + 2
        assert member(post) in found


@in_loop
async def test_a_set_that_is_no_sorted_array(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ``set-max-intset-entries`` is too low, sets come in parts, and nothing is missed."""
    posts = keys(range(3000))
    monkeypatch.setattr("scrapy_valkey_dedup.ledger.transfer._STEP", 50)
    with ValkeyServer("--set-max-intset-entries", "16") as own:
        async with connected(own.url) as server:
            ledger = Ledger(server, namespace, "run-a", retention=3600)
            await ledger.confirm_many(posts)
            shelf = ShelfBuckets(server, namespace)
            batches = await all_of(shelf)
            members = [
                each for batch in batches for bucket in batch.buckets for each in bucket.members
            ]
            assert sorted(members) == sorted(map(member, posts))
