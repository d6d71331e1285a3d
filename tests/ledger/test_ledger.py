"""The laws of the ledger, one by one, on a real server."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import valkey as valkey_py
from hypothesis import given
from hypothesis import strategies as st
from valkey import exceptions
from valkey.crc import key_slot

from bench import memory
from bench.servers import ValkeyServer, free_port
from bench.shared import key
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, PARTITIONS, namespace_tag, split_key
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.runs import IDLE_MARK
from scrapy_valkey_dedup.ledger.scripts import POSTS_PER_CALL
from scrapy_valkey_dedup.ledger.tokens import claim_token
from scrapy_valkey_dedup.model import (
    TRIAL_MARK,
    Answer,
    Key,
    LedgerRefusedError,
    ReleasedClaim,
    Verdict,
)
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import Question
from tests.support.clocked import Clock, clocked
from tests.support.patience import PATIENCE, in_loop, until

OpenLedger = Callable[..., AbstractAsyncContextManager[Ledger]]

NEW, SEEN, TAKEN_OVER = (
    Answer(Verdict.NEW),
    Answer(Verdict.SEEN),
    Answer(Verdict.NEW, taken_over=True),
)
CAPACITY, LEVELS = 511, 8
DAY = 86400.0
NASTY_NAMESPACES = {
    "braces": "a}b{c",
    "spaces": "two words ",
    "globs": "a*?[b]",
    "newline": "a\n",
    "long": "n" * 10_000,
    "empty": "",
    "surrogate": "\udc80",
    "zero": "\0",
    "a key's": "vd1:{test",
    "a partition's": "bot:00",
    "a digest": "%" + "0" * 32,
}


def held(run: str) -> Answer:
    """What another run is told while this one holds the claim."""
    return Answer(Verdict.HELD, claim_token(run))


def keys(count: int, start: int = 0) -> list[Key]:
    """Keys as those of real posts."""
    return [key(number) for number in range(start, start + count)]


def crafted(member: int, path: int = 0, partition: int = 0) -> Key:
    """The key with this member, path (29 bits) and partition."""
    head = ((partition << 29 | path) << 7).to_bytes(5, "big") + bytes(3)
    return head + member.to_bytes(8, "big", signed=True)


class Inside:
    """The test's ledger as the server has it: ``raw`` is a plain client."""

    def __init__(self, raw: valkey_py.Valkey, namespace: str) -> None:
        self.raw = raw
        self.namespace = namespace

    def names(self, part: str = "") -> list[str]:
        """All keys whose name has a certain part."""
        found = self.raw.scan_iter(f"vd1:{{{namespace_tag(self.namespace)}*", count=10_000)
        return sorted(name for name in map(bytes.decode, found) if part in name)

    def buckets(self) -> list[str]:
        """The keys of buckets, upper levels first: after the partition an end and a path."""
        found = (name for name in self.names() if re.search(r"\}:\d{13}:[0-9a-f]{2}[0-7]*$", name))
        return sorted(found, key=len)

    def generations(self, partition: str) -> list[int]:
        """When the generations that are listed end."""
        found = self.raw.get(partition) or b""
        return [int(found[at : at + 13]) for at in range(0, len(found), 14)]

    def fingerprint(self) -> dict[str, tuple[bytes, int]]:
        """The value and the end of every key."""
        return {name: (self.raw.dump(name), self.raw.pexpiretime(name)) for name in self.names()}

    def clock(self) -> Clock:
        """A clock for ledgers that were put ``on_clock``."""
        return Clock(self.raw, self.namespace, range(PARTITIONS))


@pytest.fixture
def inside(valkey: ValkeyServer, namespace: str) -> Iterator[Inside]:
    """Looks at the keys of the test's ledger, and takes them away."""
    with valkey.client() as raw:
        yield Inside(raw, namespace)


@asynccontextmanager
async def on_clock(ledger: AbstractAsyncContextManager[Ledger]) -> AsyncIterator[Ledger]:
    """The ledger, on the test's clock."""
    async with ledger as opened:
        yield clocked(opened)


class LosesReplies(Client):
    """A server whose first reply to every question gets lost on its way, after it was done."""

    lost = 0

    async def _exchange(self, questions: Sequence[Question]) -> Sequence[Any]:
        outcomes = await super()._exchange(questions)
        self.lost += 1
        if self.lost % 2:
            return [exceptions.ConnectionError("lost")] * len(questions)
        return outcomes


# -- claim, confirm, release ---------------------------------------------------------------------


@in_loop
async def test_a_claim_is_its_owners_and_stays_so(open_ledger: OpenLedger) -> None:
    """The first to claim may store; asked again it still may, and the others learn who holds it."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        assert await one.claim_many(keys(1)) == [NEW]
        assert await one.claim_many(keys(1)) == [NEW]
        assert await other.claim_many(keys(1)) == [held("run-a")]


@in_loop
async def test_confirmed_is_seen_by_all(open_ledger: OpenLedger, inside: Inside) -> None:
    """A confirmed post is seen by every run, and its claim is gone."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        await one.claim_many(keys(3))
        await one.confirm_many(keys(2))
        assert await one.claim_many(keys(2)) == [SEEN, SEEN]
        assert await other.claim_many(keys(3)) == [SEEN, SEEN, held("run-a")]
        assert len(inside.names("}:c:")) == 1


@in_loop
async def test_confirm_is_unconditional(open_ledger: OpenLedger, inside: Inside) -> None:
    """A stored post is remembered: without a claim, with a lost one, with another run's."""
    never, lost, foreign = keys(3)
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        await one.claim_many([lost])
        inside.raw.delete(*inside.names("}:c:"))
        await other.claim_many([foreign])
        await one.confirm_many([never, lost, foreign])
        assert await other.seen_many([never, lost, foreign]) == [True] * 3
        (claim,) = inside.names("}:c:")
        assert inside.raw.get(claim) == claim_token("run-b")


@in_loop
async def test_release_frees_only_ones_own(open_ledger: OpenLedger) -> None:
    """A released post is free for everybody; the claim of another run is not touched."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        await one.claim_many(keys(1))
        await other.release_many(keys(1))
        assert await other.claim_many(keys(1)) == [held("run-a")]
        await one.release_many(keys(1))
        assert await one.seen_many(keys(1)) == [False]
        assert await other.claim_many(keys(1)) == [NEW]


@pytest.mark.parametrize("record", [False, True])
@in_loop
async def test_with_reset_nothing_is_remembered(open_ledger: OpenLedger, *, record: bool) -> None:
    """With reset what is remembered is new, what others hold is held; nothing is forgotten."""
    stored, open_, back = keys(3)
    async with (
        open_ledger("run-a") as one,
        open_ledger("run-b", reset=True, record=record) as two,
    ):
        await one.confirm_many([stored, back])
        assert await one.claim_many([open_]) == [NEW]
        assert await two.seen_many([stored, open_, back]) == [False] * 3
        assert await two.claim_many([stored, open_, back]) == [NEW, held("run-a"), NEW]
        assert await one.claim_many([stored]) == [SEEN]  # for the others it is remembered still
        await two.confirm_many([stored])
        await two.release_many([back])
        assert await one.claim_many([stored, back]) == [SEEN, SEEN]
        assert await one.forget_many([stored]) == 1
        assert await one.claim_many([stored]) == [NEW]
        assert await two.claim_many([stored]) == [held("run-a")]


@in_loop
async def test_a_claim_ends_by_itself(open_ledger: OpenLedger) -> None:
    """A claim that is neither settled nor asked about is free after its lifetime."""
    async with open_ledger("run-a", claim_lifetime=0.05) as one, open_ledger("run-b") as other:
        await one.claim_many(keys(1))
        deadline = time.monotonic() + PATIENCE
        while await other.claim_many(keys(1)) != [NEW]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)


@in_loop
async def test_only_the_dead_are_taken_over(open_ledger: OpenLedger) -> None:
    """A claim changes hands only if its holder is among the dead, by its whole name."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        await one.claim_many(keys(1))
        its = claim_token("run-a")
        for not_its in (
            [],
            [claim_token("run-c")],
            [claim_token("run-a", 1)],
            [b"un-a", its[:6]],
            [b""],
        ):
            assert await other.claim_many(keys(1), not_its) == [held("run-a")]
        assert await other.claim_many(keys(1), [claim_token("run-c"), its]) == [TAKEN_OVER]
        assert await other.claim_many(keys(1), [its]) == [NEW]
        assert await one.claim_many(keys(1), [its]) == [held("run-b")]


@in_loop
async def test_of_two_rescuers_one_wins(open_ledger: OpenLedger) -> None:
    """When many find the same run dead at once, each of its claims goes to one of them."""
    async with open_ledger("dead") as dead, open_ledger("b") as one, open_ledger("c") as other:
        await dead.claim_many(keys(500))
        rescuers = [one, other] * 5
        answers = await asyncio.gather(
            *(run.claim_many(keys(500), [claim_token("dead")]) for run in rescuers)
        )
        for post in zip(*answers, strict=True):
            assert post.count(TAKEN_OVER) == 1
            assert Counter(post) in (
                Counter({TAKEN_OVER: 1, NEW: 4, held(run): 5}) for run in ("b", "c")
            )


@in_loop
async def test_recording_remembers_at_once(open_ledger: OpenLedger, inside: Inside) -> None:
    """With ``record`` a claim is a confirmation, unless a live run is at the post."""
    ours, live, dead = keys(3)
    async with (
        open_ledger("run-a", record=True) as one,
        open_ledger("live") as other,
        open_ledger("dead") as gone,
    ):
        await other.claim_many([live])
        await gone.claim_many([dead])
        answers = await one.claim_many([ours, live, dead, ours], [claim_token("dead")])
        assert answers == [NEW, held("live"), TAKEN_OVER, SEEN]
        assert await other.claim_many([ours, live, dead]) == [SEEN, NEW, SEEN]
        assert len(inside.names("}:c:")) == 1


@pytest.mark.parametrize("record", [False, True])
@in_loop
async def test_a_lost_reply_costs_no_post(
    valkey: ValkeyServer, namespace: str, *, record: bool
) -> None:
    """Asked again since the reply was lost, the ledger answers as it did at first."""
    server = LosesReplies(valkey.url, valkey.url, {}, timeout=PATIENCE)
    try:
        one = Ledger(server, namespace, "run-a", retention=DAY, record=record)
        assert await one.claim_many(keys(100)) == [NEW] * 100
        assert server.lost >= 2
        await one.confirm_many(keys(100))
        assert await one.claim_many(keys(101)) == [SEEN] * 100 + [NEW]
        await one.release_many(keys(1, start=100))
        assert await one.claim_many(keys(101)) == [SEEN] * 100 + [SEEN if record else NEW]
    finally:
        await server.close()


# -- many at a time ------------------------------------------------------------------------------


@in_loop
async def test_replies_come_in_the_order_of_the_keys(open_ledger: OpenLedger) -> None:
    """Many keys, in all partitions and with repetitions, get each its own answer."""
    asked = [*keys(5000), *keys(1000)]
    stored = [key for number, key in enumerate(keys(5000)) if number % 3 == 0]
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        await other.claim_many(keys(5000))
        await other.confirm_many(stored)
        expected = [SEEN if key in set(stored) else held("run-b") for key in asked]
        assert await one.claim_many(asked) == expected
        assert await one.seen_many(asked) == [answer is SEEN for answer in expected]
        assert await one.claim_many([]) == await one.seen_many([]) == []


@in_loop
async def test_twins_in_one_batch_are_one_claim(open_ledger: OpenLedger) -> None:
    """A key that stands twice in a batch is claimed once, confirmed once, forgotten once."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        assert await one.claim_many(keys(1) * 3) == [NEW] * 3
        await one.confirm_many(keys(1) * 3)
        assert await other.claim_many(keys(1) * 3) == [SEEN] * 3
        assert await one.forget_many(keys(1) * 3) == 1


@pytest.mark.parametrize("reset", [False, True])
@in_loop
async def test_a_look_tells_what_a_claim_would_be_answered(
    open_ledger: OpenLedger, inside: Inside, *, reset: bool
) -> None:
    """To look at posts that are free, stored, held or given back changes nothing in the ledger."""
    free, stored, foreign, released, doubted, own = keys(6)
    async with open_ledger("run-a") as one, open_ledger("run-b", reset=reset) as two:
        await one.confirm_many([stored])
        await one.claim_many([foreign, released, doubted])
        await one.settle_many([], [ReleasedClaim(released), ReleasedClaim(doubted, in_doubt=True)])
        await two.claim_many([own])
        before = inside.fingerprint()
        asked = [free, stored, foreign, released, doubted, own, stored]
        looked = await two.look_many(asked)
        assert inside.fingerprint() == before
        assert looked == await two.claim_many(asked, number=1)
        known = NEW if reset else SEEN
        assert looked == [NEW, known, held("run-a"), NEW, NEW, NEW, known]


@in_loop
async def test_a_partition_may_get_more_than_one_call(open_ledger: OpenLedger) -> None:
    """More keys of one partition than a call may have go in several calls of one round trip."""
    many = [crafted(number, path=number, partition=7) for number in range(2 * POSTS_PER_CALL + 1)]
    async with open_ledger("run-a") as one, open_ledger("run-b", record=True) as other:
        assert await one.claim_many(many[::2]) == [NEW] * (POSTS_PER_CALL + 1)
        expected = [NEW, held("run-a")] * POSTS_PER_CALL
        assert await other.claim_many([*many[1:], many[0]]) == [*expected, held("run-a")]
        await one.settle_many(many[::2], ())
        assert await one.seen_many(many) == [True] * len(many)
        assert await one.forget_many(many) == len(many)


@in_loop
async def test_every_key_is_one_post(open_ledger: OpenLedger) -> None:
    """The smallest, the largest and the emptiest keys are posts as all others, each its own."""
    members = (0, -1, 1, 2**63 - 1, -(2**63), 10**12, -(10**12))
    edges = [
        crafted(member, path, partition)
        for member in members
        for path in (0, 2**28, 2**29 - 1)
        for partition in (0, PARTITIONS - 1)
    ]
    edges[edges.index(crafted(-1, 2**29 - 1, PARTITIONS - 1))] = b"\xff" * 16
    assert bytes(16) in edges
    async with open_ledger() as ledger:
        for key in edges:
            assert await ledger.claim_many([key]) == [NEW]
            assert await ledger.seen_many([key]) == [False]
            await ledger.confirm_many([key])
            assert await ledger.seen_many([key]) == [True]
        forgotten = set(edges[::2])
        assert await ledger.forget_many(edges[::2]) == len(forgotten)
        assert await ledger.seen_many(edges) == [key not in forgotten for key in edges]


# -- looking and forgetting ----------------------------------------------------------------------


@in_loop
async def test_looking_changes_nothing(open_ledger: OpenLedger, inside: Inside) -> None:
    """After ``seen_many`` every key of the ledger has its value and its end as before."""
    async with open_ledger() as ledger:
        await ledger.claim_many(keys(300))
        await ledger.confirm_many(keys(200))
        before = inside.fingerprint()
        assert await ledger.seen_many(keys(400)) == [True] * 200 + [False] * 200
        assert inside.fingerprint() == before
        assert len(before) > 200


FILLS = {"with room": 300, "full": CAPACITY, "two levels": 800, "four levels": 4 * CAPACITY - 1}


@pytest.mark.parametrize("posts", FILLS.values(), ids=FILLS.keys())
@pytest.mark.parametrize("generations", [1, 3])
@in_loop
async def test_forgetting_loses_no_other_post(
    open_ledger: OpenLedger, inside: Inside, posts: int, generations: int
) -> None:
    """What is forgotten is new again, in all levels and generations, and all else stays seen."""
    clock = inside.clock()
    many = [crafted(7 * 10**18 + number * 10**6) for number in range(posts)]
    forgotten = set(many[::7])
    async with open_ledger(retention=DAY) as ledger:
        clocked(ledger)
        for _ in range(generations):
            clock.pass_(DAY / 2 + 1)
            await ledger.confirm_many(many)
        assert await ledger.forget_many(many[::7]) == len(forgotten)
        assert await ledger.seen_many(many) == [key not in forgotten for key in many]
        assert await ledger.forget_many(many[::7]) == 0
        await ledger.confirm_many(many[::7])
        assert await ledger.seen_many(many) == [True] * posts
        assert {inside.raw.object("encoding", name) for name in inside.buckets()} == {b"intset"}
        assert await ledger.forget_many(many) == posts
        assert await ledger.seen_many(many) == [False] * posts
        assert all(inside.raw.pexpiretime(name) > 0 for name in inside.buckets())


@pytest.mark.parametrize("again", [False, True])
@in_loop
async def test_forgetting_outlasts_an_eviction(
    open_ledger: OpenLedger, inside: Inside, *, again: bool
) -> None:
    """A post below a bucket that was evicted stays seen until forgotten, stored again or not."""
    many = [crafted(7 * 10**18 + number * 10**6) for number in range(CAPACITY + 1)]
    last = many[-1]
    async with open_ledger() as ledger:
        await ledger.confirm_many(many)
        upper, lower = inside.buckets()
        assert (inside.raw.scard(upper), inside.raw.scard(lower)) == (CAPACITY, 1)
        inside.raw.delete(upper)
        assert await ledger.seen_many([last, many[0]]) == [True, False]
        if again:
            await ledger.confirm_many([last])
        assert await ledger.forget_many([last]) == 1
        await ledger.confirm_many(many[:-1])
        assert await ledger.seen_many([last, many[0]]) == [False, True]


@in_loop
async def test_forgetting_outlasts_the_loss_of_the_list(
    open_ledger: OpenLedger, inside: Inside
) -> None:
    """A post that is kept forever can be forgotten, even if the list of generations was evicted."""
    async with open_ledger(retention=None) as ledger:
        await ledger.confirm_many(keys(1))
        inside.raw.delete(*(name for name in inside.names() if name.endswith("}")))
        assert await ledger.seen_many(keys(1)) == [False]
        assert await ledger.forget_many(keys(1)) == 1
        await ledger.confirm_many([crafted(1, partition=split_key(keys(1)[0])[0])])
        assert await ledger.seen_many(keys(1)) == [False]


@in_loop
async def test_a_bucket_grows_into_all_levels(open_ledger: OpenLedger, inside: Inside) -> None:
    """Posts that share their whole path fill level after level; the last one takes what comes."""
    many = [crafted(number * 10**14, path=0o123456701) for number in range(LEVELS * CAPACITY + 9)]
    async with open_ledger() as ledger:
        for start in range(0, len(many), 1000):
            assert await ledger.seen_many(many[start : start + 1000]) == [False] * len(
                many[start : start + 1000]
            )
            await ledger.confirm_many(many[start : start + 1000])
        assert await ledger.seen_many(many) == [True] * len(many)
        levels = inside.buckets()
        assert [inside.raw.scard(name) for name in levels] == [CAPACITY] * (LEVELS - 1) + [
            CAPACITY + 9
        ]
        assert {inside.raw.object("encoding", name) for name in levels[:-1]} == {b"intset"}
        stranger = crafted(1, path=0o123456701)
        assert await ledger.seen_many([stranger]) == [False]


# -- keys and namespaces -------------------------------------------------------------------------


@pytest.mark.parametrize("retention", [DAY, None])
@in_loop
async def test_every_key_has_an_end_and_a_place(
    valkey: ValkeyServer, inside: Inside, retention: float | None
) -> None:
    """All keys begin alike, a partition is one slot, and only layout and id have no end."""
    server = Client(valkey.url, valkey.url, {}, timeout=PATIENCE)
    try:
        for record in (True, False):
            ledger = Ledger(server, inside.namespace, "run-a", retention=retention, record=record)
            await ledger.open()
            await ledger.runs.write_heartbeat(1, 30)
            await ledger.claim_many(keys(300, start=1000 * record))
        await ledger.confirm_many(keys(200))
    finally:
        await server.close()
    # What the start has tried lasts a moment.
    await until(lambda: not any(":run-a}" in name for name in inside.names()))
    endless = {name for name in inside.names() if inside.raw.pexpiretime(name) == -1}
    kept = {name for name in inside.names() if "}:c:" not in name and "}:r:" not in name}
    root = f"vd1:{{{inside.namespace}}}"
    ledgers_own, run = {f"{root}:layout", f"{root}:id"}, f"{root}:run:run-a"
    assert endless == (ledgers_own if retention else kept - {run})
    slots: dict[str, set[int]] = {}
    for name in inside.names():
        slots.setdefault(name.partition("}")[0], set()).add(key_slot(name.encode()))
    assert len(slots) == PARTITIONS + 1
    assert {len(numbers) for numbers in slots.values()} == {1}
    assert len(set.union(*slots.values())) > PARTITIONS / 2


@in_loop
async def test_a_cluster_node_serves_it() -> None:
    """A node in cluster mode, which refuses a script that touches two slots, accepts them all."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with ValkeyServer(*options) as node, valkey_py.Valkey.from_url(node.url) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        server = Client(node.url, node.url, {}, timeout=PATIENCE)
        try:
            for record in (False, True):
                ledger = Ledger(server, "bot", "run-a", retention=DAY, record=record)
                await ledger.open()
                assert (
                    await ledger.claim_many(keys(100, 100 * record), [claim_token("b")])
                    == [NEW] * 100
                )
                await ledger.settle_many(
                    keys(50), [ReleasedClaim(key) for key in keys(50, start=50)]
                )
                assert await ledger.forget_many(keys(1)) == 1
                await ledger.runs.write_heartbeat(1, 30)
                assert await ledger.runs.read_heartbeats(["run-a", "run-b"]) == [b"1", None]
                await ledger.runs.sign_off()
        finally:
            await server.close()


@pytest.mark.parametrize("nasty", NASTY_NAMESPACES.values(), ids=NASTY_NAMESPACES.keys())
@in_loop
async def test_namespaces_know_nothing_of_each_other(
    valkey: ValkeyServer, inside: Inside, nasty: str
) -> None:
    """Whatever a namespace is called, its keys are its own, and their names are plain and short."""
    server = Client(valkey.url, valkey.url, {}, timeout=PATIENCE)
    try:
        nasty = f"{nasty}{inside.namespace}" if nasty else nasty
        one = Ledger(server, nasty, "run-a", retention=DAY)
        other = Ledger(server, inside.namespace, "run-a", retention=DAY)
        await one.open()
        await one.confirm_many(keys(1))
        await one.claim_many(keys(2))
        await one.runs.write_heartbeat(1, 30)
        assert await other.seen_many(keys(2)) == [False, False]
        assert await other.runs.read_heartbeats(["run-a"]) == [None]
        assert await one.seen_many(keys(2)) == [True, False]
        assert inside.names() == []
        # What the check of permissions has written may stay for a second.
        await until(lambda: len(Inside(inside.raw, nasty).names()) == 6)
        found = Inside(inside.raw, nasty).names()
        assert all(name.isprintable() and " " not in name and len(name) < 150 for name in found)
    finally:
        await server.close()


@pytest.mark.parametrize(
    "other",
    ["", "pages", "+pages", "{own}+pages", "{own}:00", "{own}+pages:00", "{own}+", "vd1:{own}"],
)
@in_loop
async def test_a_shelf_shares_nothing(valkey: ValkeyServer, inside: Inside, other: str) -> None:
    """What is kept on a shelf is met by no other shelf, nor by any namespace, whatever its name."""
    own = inside.namespace
    other = other.replace("{own}", own)
    server = Client(valkey.url, valkey.url, {}, timeout=PATIENCE)

    def on(namespace: str, shelf: str = "", run: str = "run-b") -> Ledger:
        return Ledger(server, namespace, run, retention=DAY, shelf=shelf)

    try:
        shelf = on(own, "pages", "run-a")
        await shelf.confirm_many(keys(1))
        await shelf.claim_many(keys(1, 1))
        strangers = [on(own), on(own, "timelines"), on(other, "pages"), on(f"{own}x", "pages")]
        if other:
            strangers.append(on(other))
        for stranger in strangers:
            before = inside.fingerprint()
            assert await stranger.seen_many(keys(2)) == [False, False]
            assert await stranger.claim_many(keys(2)) == [NEW, NEW]
            await stranger.release_many(keys(2))
            assert await stranger.forget_many(keys(2)) == 0
            after = inside.fingerprint()
            assert {name: after[name] for name in before} == before
        assert await on(own, "pages").claim_many(keys(2)) == [SEEN, held("run-a")]
    finally:
        await server.close()


TEXTS = st.text(st.characters(categories=["L", "N", "P", "Z", "S", "C"]), max_size=70)


@given(st.sampled_from(list(NASTY_NAMESPACES.values())) | TEXTS, TEXTS)
def test_two_namespaces_never_share_a_tag(one: str, other: str) -> None:
    """Different namespaces have different tags, and none looks like a partition of another.

    Nor does a trial of one: only a namespace of just that name is it.
    """
    one, trial = one or "x", f"{one or 'x'}{TRIAL_MARK}x"
    assert namespace_tag(trial) == f"{namespace_tag(one)}{TRIAL_MARK}x"
    assert (namespace_tag(trial) == namespace_tag(other)) == (trial == other)
    assert (namespace_tag(one) == namespace_tag(other)) == (one == other)
    assert namespace_tag(namespace_tag(one)) != namespace_tag(one) or namespace_tag(one) == one
    for name in (one, other):
        assert namespace_tag(name).isprintable()
        assert not set(namespace_tag(name)) & set("{}: *?[]\\")


@given(TEXTS, st.sampled_from(["", "+pages", "+timelines", "+trial-x", "+trial-x+pages"]))
def test_partitions_spread_evenly(namespace: str, shelf: str) -> None:
    """Each sixteenth of a cluster's slots has one partition, whatever namespace and shelf."""
    names = [f"vd1:{{{namespace_tag(namespace)}{shelf}:{name}}}" for name in PARTITION_TAGS]
    assert {key_slot(name.encode()) // 1024 for name in names} == set(range(16))


@in_loop
async def test_another_layout_is_refused(open_ledger: OpenLedger, inside: Inside) -> None:
    """A ledger that another version wrote is left alone, and the message names both cures."""
    async with open_ledger() as ledger:
        await ledger.open()
        await ledger.open()
        inside.raw.set(f"vd1:{{{inside.namespace}}}:layout", "1")
        with pytest.raises(LedgerRefusedError, match=r"layout b'1'.*VALKEY_DEDUP_NAMESPACE"):
            await ledger.open()


# -- scripts -------------------------------------------------------------------------------------


@in_loop
async def test_flushed_scripts_are_loaded_again() -> None:
    """A server that forgets the scripts, between questions or in their midst, costs no answer."""
    with ValkeyServer() as own, valkey_py.Valkey.from_url(own.url) as admin:
        server = Client(own.url, own.url, {}, timeout=PATIENCE)
        ledger = Ledger(server, "bot", "run-a", retention=DAY)
        busy = True

        async def flush() -> None:
            while busy:
                admin.script_flush()
                await asyncio.sleep(0)

        flusher = asyncio.create_task(flush())
        try:
            asked = [keys(200, start=200 * number) for number in range(20)]
            assert await asyncio.gather(*map(ledger.claim_many, asked)) == [[NEW] * 200] * 20
            await asyncio.gather(*map(ledger.confirm_many, asked))
            assert await asyncio.gather(*map(ledger.seen_many, asked)) == [[True] * 200] * 20
            assert await asyncio.gather(*map(ledger.forget_many, asked)) == [200] * 20
        finally:
            busy = False
            await flusher
            await server.close()


# -- retention -----------------------------------------------------------------------------------


@in_loop
async def test_a_post_is_kept_for_the_retention_and_little_longer(
    open_ledger: OpenLedger, inside: Inside
) -> None:
    """By the real server's clock: seen until the retention is over, gone at half as much again."""
    retention = 0.6
    async with open_ledger(retention=retention) as ledger:
        stored: dict[Key, tuple[float, float]] = {}
        gone: dict[Key, float] = {}
        last_seen: dict[Key, float] = {}
        begin = time.monotonic()
        while len(gone) < 8 and time.monotonic() < begin + PATIENCE:
            before = time.monotonic()
            if len(stored) < 8 and before > begin + len(stored) * 0.1:
                (post,) = keys(1, start=len(stored))
                await ledger.confirm_many([post])
                stored[post] = before, time.monotonic()
            before = time.monotonic()
            answers = await ledger.seen_many(list(stored))
            after = time.monotonic()
            for post, seen in zip(list(stored), answers, strict=True):
                if seen:
                    last_seen[post] = before
                else:
                    gone.setdefault(post, after)
            await asyncio.sleep(0.002)
        for post, (before, after) in stored.items():
            assert gone[post] - before >= retention - 0.002  # the server counts in ms
            assert last_seen.get(post, after) - after <= 1.5 * retention + 0.01
        while inside.names():
            assert time.monotonic() < begin + PATIENCE
            await asyncio.sleep(0.01)


@in_loop
async def test_a_hundred_years_are_forever(open_ledger: OpenLedger, inside: Inside) -> None:
    """Of a retention that no clock of 13 digits would outlast nothing ends."""
    for number, years in enumerate((99, 100, 10**6)):
        async with open_ledger(retention=years * 365 * DAY) as ledger:
            await ledger.confirm_many(keys(1, start=number))
    ends = [inside.raw.pexpiretime(name) for name in inside.buckets()]
    assert sorted(ends)[:2] == [-1, -1]
    assert 99 * 365 * DAY * 1000 < max(ends) < 10**13


@pytest.mark.parametrize("refresh", [True, False])
@in_loop
async def test_a_duplicate_counts_from_now_if_it_is_to(
    open_ledger: OpenLedger, inside: Inside, *, refresh: bool
) -> None:
    """With ``refresh`` a post that is met again and again stays; without, it ends at its time."""
    clock = inside.clock()
    async with on_clock(open_ledger(retention=DAY, refresh=refresh)) as ledger:
        await ledger.confirm_many(keys(50))
        for _ in range(9):
            clock.pass_(DAY / 9)
            assert await ledger.claim_many(keys(50)) == [SEEN] * 50
        for _ in range(20):
            clock.pass_(DAY * 0.999)
            answers = await ledger.claim_many(keys(50))
        assert answers == [SEEN if refresh else NEW] * 50
        clock.pass_(DAY * 1.5 + 1)
        assert await ledger.seen_many(keys(50)) == [False] * 50


@in_loop
async def test_a_duplicate_takes_no_second_place(open_ledger: OpenLedger, inside: Inside) -> None:
    """Met again, a post moves to the new generation; only what a full bucket holds stays there."""
    clock = inside.clock()
    crowd = [crafted(7 * 10**18 + number * 10**6) for number in range(CAPACITY + 200)]
    posts = [*keys(1000), *crowd]
    async with on_clock(open_ledger(retention=DAY)) as ledger:
        await ledger.confirm_many(posts)
        for _ in range(8):
            clock.pass_(0.9 * DAY)
            assert await ledger.claim_many(posts) == [SEEN] * len(posts)
            assert await ledger.seen_many(posts) == [True] * len(posts)
            places = sum(inside.raw.scard(name) for name in inside.buckets())
            assert places <= len(posts) + 2 * CAPACITY  # two older generations have a full bucket


@in_loop
async def test_a_changed_retention_counts_from_then_on(
    open_ledger: OpenLedger, inside: Inside
) -> None:
    """Posts keep the end they were stored with, until a run with another retention meets them."""
    unmet, met, later = keys(1), keys(1, start=1), keys(1, start=2)
    for before, after, ends_unmet, ends_met in (
        (10 * DAY, 40 * DAY, 15 * DAY, 40 * DAY),
        (40 * DAY, 10 * DAY, 40 * DAY, 40 * DAY),
        (10 * DAY, None, 15 * DAY, 10**6 * DAY),
        (None, 10 * DAY, 10**6 * DAY, 10**6 * DAY),
    ):
        clock = inside.clock()
        async with (
            on_clock(open_ledger(retention=before)) as old,
            on_clock(open_ledger(retention=after)) as new,
        ):
            await old.confirm_many(unmet + met)
            assert await new.claim_many(met) == [SEEN]
            await new.confirm_many(later)
            kept = min(before or 10**6 * DAY, ends_unmet)
            clock.pass_(min(kept, after or kept) - 1)
            assert await new.seen_many(unmet + met + later) == [True] * 3
            clock.set(clock.now + int((ends_met - min(kept, after or kept)) * 1000))
            assert await new.seen_many(met) == [True]
            assert await new.seen_many(unmet) == [ends_unmet >= ends_met]
            clock.pass_(60 * DAY)
            assert await new.seen_many(met) == [before is None or after is None]
        inside.raw.delete(*inside.raw.keys(f"vd1:{{{inside.namespace}*"))


@in_loop
async def test_generations_stay_few(open_ledger: OpenLedger, inside: Inside) -> None:
    """Runs of two retentions at once for years: never more than four generations of each live."""
    clock = inside.clock()
    key = keys(1)
    generations = f"vd1:{{{inside.namespace}:{PARTITION_TAGS[split_key(key[0])[0]]}}}"
    most, longest = 0, 0
    async with (
        on_clock(open_ledger(retention=7 * DAY)) as one,
        on_clock(open_ledger(retention=30 * DAY)) as other,
    ):
        for number in range(700):
            clock.pass_(DAY * 0.9)
            await (one if number % 3 else other).confirm_many(key)
            ends = inside.generations(generations)
            most = max(most, sum(end > clock.now for end in ends))
            longest = max(longest, len(ends))
            assert inside.raw.pexpiretime(generations) == max(ends)
        assert most <= 8
        assert longest <= 10
        await other.claim_many(key)
        assert len(inside.raw.keys(f"vd1:{{{inside.namespace}*")) <= PARTITIONS + 1 + 8


@in_loop
async def test_generations_turn_on_the_servers_clock(
    open_ledger: OpenLedger, inside: Inside
) -> None:
    """A post that is met all the time outlives many generations, and leaves nothing behind."""
    retention = 0.2
    async with open_ledger(retention=retention) as ledger:
        await ledger.confirm_many(keys(1))
        ends: set[int] = set()
        began = met = time.monotonic()
        while len(ends) < 12 and time.monotonic() < began + PATIENCE:
            asked = time.monotonic()
            if await ledger.claim_many(keys(1)) != [SEEN]:
                assert time.monotonic() - met > retention, "forgotten too early"
                await ledger.confirm_many(keys(1))
            met = asked
            for generations in (name for name in inside.names() if name.endswith("}")):
                ends |= (entries := set(inside.generations(generations)))
                assert len(entries) <= 5
            assert len(inside.buckets()) <= 4
            await asyncio.sleep(0.005)
        assert len(ends) >= 12


@in_loop
async def test_a_clock_that_steps_back_forgets_nothing(
    open_ledger: OpenLedger, inside: Inside
) -> None:
    """After a failover to a server whose clock is late, all is seen for the retention at least."""
    clock = inside.clock()
    async with on_clock(open_ledger(retention=DAY)) as ledger:
        await ledger.confirm_many(keys(10))
        clock.pass_(-2 * DAY)
        assert await ledger.claim_many(keys(10)) == [SEEN] * 10
        await ledger.confirm_many(keys(10, start=10))
        clock.pass_(DAY - 1)
        assert await ledger.seen_many(keys(20)) == [True] * 20
        clock.pass_(2 * DAY)
        assert await ledger.seen_many(keys(20)) == [True] * 10 + [False] * 10


# -- heartbeat and memory ------------------------------------------------------------------------


@in_loop
async def test_a_heartbeat_lasts_for_a_lease(open_ledger: OpenLedger, inside: Inside) -> None:
    """A run is alive while it beats, and dead when it has left or its lease is over."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        await one.runs.write_heartbeat(1, 30)
        await other.runs.write_heartbeat(7, 30)
        assert await other.runs.read_heartbeats(["run-a", "run-b", "run-c", "run-a"]) == [
            b"1",
            b"7",
            None,
            b"1",
        ]
        began = time.monotonic()
        await one.runs.write_heartbeat(2, 30)
        left = inside.raw.pttl(f"vd1:{{{inside.namespace}}}:run:run-a")
        assert 30_000 - 1000 * (time.monotonic() - began) - 2 <= left <= 30_000
        await other.runs.write_heartbeat(8, 0.05)
        deadline = time.monotonic() + PATIENCE
        while await one.runs.read_heartbeats(["run-b"]) != [None]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        assert await one.runs.read_heartbeats(["run-a"]) == [b"2"]
        await one.runs.sign_off()
        assert await other.runs.read_heartbeats(["run-a"]) == [None]


@in_loop
async def test_a_heartbeat_tells_who_is_idle(open_ledger: OpenLedger) -> None:
    """A run that waits for others says so in its heartbeat, and takes it back with the next."""
    async with open_ledger("run-a") as one, open_ledger("run-b", shelf="pages") as other:
        await one.runs.write_heartbeat(1, 30, idle=True)
        await other.runs.write_heartbeat(1, 30)
        for ledger in (one, other):  # the heartbeats of a run are one, on whatever shelf
            assert await ledger.runs.read_heartbeats(["run-a", "run-b"]) == [
                f"1 {IDLE_MARK}".encode(),
                b"1",
            ]
        await one.runs.write_heartbeat(2, 30)
        assert await other.runs.read_heartbeats(["run-a"]) == [b"2"]
        await other.runs.write_heartbeat(2, 30, idle=True)
        await other.runs.sign_off()
        assert await one.runs.read_heartbeats(["run-b"]) == [None]


@pytest.mark.slow
@in_loop
async def test_a_million_posts_take_ten_bytes_each(capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark's limits hold: ten bytes a post and 30,000 posts a second."""
    with ValkeyServer() as own:
        server = Client(own.url, own.url, {}, timeout=60)
        try:
            assert await memory.fill(server, posts=1_000_000, batch=10_000), capsys.readouterr()
        finally:
            await server.close()
