"""A cluster of three primaries and three replicas is hurt, moved and restarted under the crawls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from time import sleep

import pytest

from bench.servers import ClusterNode, ValkeyCluster, free_port
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.transfer import BucketBatch, ShelfBuckets
from scrapy_valkey_dedup.model import LedgerUnavailableError, Verdict
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.crawls.world import World
from tests.support.ledgers import is_held, ledger_at
from tests.support.outages import (
    BACK,
    BEGIN,
    account_of,
    assert_bounded,
    assert_unnoticed,
    bring_up_to_date,
    lose_writes,
    offset,
    start_fleet,
)
from tests.support.patience import PATIENCE, in_loop, now, wait_until
from tests.support.servers.site import pages_of
from tests.support.spiders.storages import STORAGES

POSTS = range(5000)
FLEET = ["pass"] * 8
"""Each page is read by three of them."""
SIZE, AT_ONCE = 250, 50
"""Posts on a page, and how many of them are on their way at once. Two pages are at most."""
LARGE = {
    "delay": 0.2,
    "CONCURRENT_ITEMS": AT_ONCE,
    "CONCURRENT_REQUESTS": 1,
    "SCRAPER_SLOT_MAX_ACTIVE_SIZE": 1,  # a page is asked for when the one before it is stored
}
_numbers = count()


@pytest.fixture(scope="module")
def shared() -> Iterator[ValkeyCluster]:
    """A cluster for all tests; each leaves it in order. A dead primary is replaced in 2 s."""
    # Replicas load what they receive at once: Valkey 9.1 else looks for it once a second.
    with ValkeyCluster(node_timeout=1000, options=("--repl-diskless-load", "swapdb")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: ValkeyCluster) -> Iterator[ValkeyCluster]:
    """The cluster in order, all nodes up."""
    yield shared
    for node in shared.nodes:
        if not node.alive:
            node.restart()
    shared.wait_ok()


@pytest.fixture
def world(cluster: ValkeyCluster, tmp_path: Path) -> Iterator[World]:
    """Crawls with the cluster."""
    made = World(cluster.url, f"cluster-{next(_numbers)}", tmp_path)
    yield made
    made.close()


def assert_settled(world: World, cluster: ValkeyCluster, claims: int = 0) -> None:
    """No heartbeat is left on any node, and no claim, or so many at most."""
    patterns = f"vd1:{{{world.namespace}}}:run:*", f"vd1:{{{world.namespace}:??}}:c:*"
    beats, claimed = (
        [(node, key) for node in cluster.primaries for key in node.ask("KEYS", each)]
        for each in patterns
    )
    assert beats == []
    assert (
        sum(is_held(node.ask("GET", key).encode(errors="surrogateescape")) for node, key in claimed)
        <= claims
    )


# -- crawls ----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_failover_costs_what_it_lost(world: World, cluster: ValkeyCluster) -> None:
    """Eight crawls, a primary killed, its last writes lost: each post is stored, few twice.

    Twice at most those that the ledger, after the failover, does not remember although a crawl had
    begun to store them (counted while the crawls are frozen), and of the others those that were
    claimed and not begun: at most 8 x 2 x 50 are on their way. None of them thrice, and no outage.
    """
    changes = {"ITEM_PIPELINES": {f"{STORAGES}.NotingStore": 300}, **LARGE}
    crawls = start_fleet(world, world.site(pages_of(POSTS, SIZE)), FLEET, of_each=3, **changes)
    primary = cluster.primary_of(f"vd1:{{{world.namespace}:{PARTITION_TAGS[7]}}}")
    (replica,) = cluster.replicas_of(primary)
    begun, unremembered = lose_writes(world, crawls, primary, replica, cluster.wait_ok)
    assert_bounded(world, FLEET, begun, unremembered, len(FLEET) * 2 * AT_ONCE)
    assert_settled(world, cluster, claims=len(unremembered))


def test_a_failover_is_not_noticed(world: World, cluster: ValkeyCluster) -> None:
    """A primary is killed and its replica, up to date, takes over: no outage, each post once."""
    policies = ["pass", "pause", "close"]
    crawls = start_fleet(world, world.site(pages_of(range(1500), SIZE)), policies, **LARGE)
    primary = cluster.primary_of(f"vd1:{{{world.namespace}:{PARTITION_TAGS[7]}}}")
    bring_up_to_date(primary, cluster.replicas_of(primary))
    cluster.kill(primary)
    assert_unnoticed(world, crawls, policies)
    assert_settled(world, cluster)


def test_a_slot_moves_during_a_crawl(world: World, cluster: ValkeyCluster) -> None:
    """Eight crawls, a slot that holds posts is migrated key by key: no outage, each post once."""
    site = world.site(pages_of(POSTS, SIZE))
    crawls = start_fleet(world, site, FLEET, of_each=3, **LARGE)
    slot = cluster.slot_of(f"vd1:{{{world.namespace}:{PARTITION_TAGS[7]}}}")
    source = cluster.primary_of(slot)
    wait_until(lambda: source.ask("CLUSTER", "COUNTKEYSINSLOT", slot) > 10)
    target = next(node for node in cluster.primaries if node is not source)
    stops: list[int] = []

    def step(moved: int) -> None:
        if not stops:  # the crawls go on while it moves, and none can end
            site.free = len(site.pages) // 2
        stops.append(moved)
        sleep(0.05)

    cluster.migrate_slot(slot, target, step, batch=5)
    assert len(stops) > 3
    assert all(crawl.process.is_alive() for crawl in crawls)
    assert_unnoticed(world, crawls, FLEET)
    assert_settled(world, cluster)


def test_a_rolling_restart_during_a_crawl(world: World, cluster: ValkeyCluster) -> None:
    """Eight crawls, every node restarted one by one: no outage, each post once."""
    slow = {"ITEM_PIPELINES": {f"{STORAGES}.HeldStore": 300}, **LARGE, "delay": 3}
    crawls = start_fleet(world, world.site(pages_of(POSTS, SIZE)), FLEET, of_each=3, **slow)
    cluster.rolling_restart()
    assert all(crawl.process.is_alive() for crawl in crawls)
    for crawl in crawls:
        (Path(crawl.job.directory) / "hurry").touch()
    assert_unnoticed(world, crawls, FLEET)
    assert_settled(world, cluster)


def test_a_failover_beyond_the_deadline_is_an_outage(world: World, cluster: ValkeyCluster) -> None:
    """The failover takes several TIMEOUTs, under "pause": each post is stored once, none unchecked.

    The crawl is alone and meets each post once: no lost write can make it store one twice.
    """
    posts = range(2000)
    changes = {"VALKEY_DEDUP_TIMEOUT": 0.3, **LARGE}
    (crawl,) = start_fleet(world, world.site(pages_of(posts, SIZE)), ["pause"], **changes)
    cluster.kill(cluster.primary_of(f"vd1:{{{world.namespace}:{PARTITION_TAGS[7]}}}"))
    world.serve_all()
    crawl.wait_for(BEGIN["pause"])
    stats = account_of(crawl, "pause")
    assert stats["dedup/valkey/outages"] >= 1
    assert BACK in crawl.log
    assert stats["finish_reason"] == "finished"
    assert world.stored == {str(post): 1 for post in posts}
    assert "dedup/items/unchecked" not in stats
    assert stats["dedup/items/confirmed"] == len(posts)
    assert_settled(world, cluster)


# -- questions -------------------------------------------------------------------------------------

a_run = partial(ledger_at, run="a-run", retention=3600)
"""The ledger as a run sees it that has not connected yet."""
KEYS = [digest("Post", [str(post)]) for post in range(600)]
OTHERS = [digest("Post", [str(post)]) for post in range(600, 700)]


async def remember(cluster: ValkeyCluster, namespace: str) -> None:
    """Remembers ``KEYS``; all replicas know it when this returns."""
    async with a_run(cluster.url, namespace) as ledger:
        await ledger.confirm_many(KEYS)
    for node in cluster.primaries:
        # Not WAIT, which knows only the writes of its own connection.
        wait_until(lambda node=node: {offset(node)} == {*map(offset, cluster.replicas_of(node))})


async def verdicts(ledger: Ledger) -> set[Verdict]:
    """What is said of posts that are remembered."""
    return {answer.verdict for answer in await ledger.claim_many(KEYS)}


@pytest.mark.parametrize("hurt", [ClusterNode.kill, ClusterNode.freeze])
@in_loop
async def test_questions_wait_for_a_failover(
    cluster: ValkeyCluster, namespace: str, hurt: Callable[[ClusterNode], None]
) -> None:
    """A primary dies, or stops answering: its successor answers rightly, as soon as it is there.

    An attempt may take minutes here: not until it has ended is the successor asked.
    """
    await remember(cluster, namespace)
    async with a_run(cluster.url, namespace) as ledger:
        assert await verdicts(ledger) == {Verdict.SEEN}
        primary = cluster.primary_of(f"vd1:{{{namespace}:{PARTITION_TAGS[7]}}}")
        hurt(primary)
        began = now()
        try:
            assert await verdicts(ledger) == {Verdict.SEEN}
            assert now() - began < PATIENCE / 4
        finally:
            if hurt is ClusterNode.freeze:
                primary.thaw()
        assert cluster.primary_of(f"vd1:{{{namespace}:{PARTITION_TAGS[7]}}}") is not primary


@in_loop
async def test_questions_wait_for_a_slot_that_moves(cluster: ValkeyCluster, namespace: str) -> None:
    """At no stop of a migration is a remembered post new: its question waits, and so does a new's.

    A question that runs out of time meanwhile says why.
    """
    await remember(cluster, namespace)
    slot = cluster.slot_of(f"vd1:{{{namespace}:{PARTITION_TAGS[7]}}}")
    source = cluster.primary_of(slot)
    target = next(node for node in cluster.primaries if node is not source)
    size = source.ask("CLUSTER", "COUNTKEYSINSLOT", slot)
    async with (
        a_run(cluster.url, namespace) as ledger,
        a_run(cluster.url, namespace, timeout=0.2) as hasty,
    ):
        questions = []
        said = []
        for moved in cluster.migration(slot, target, batch=max(size // 4, 1)):
            try:
                assert await verdicts(hasty) == {Verdict.SEEN}
                assert moved == 0, "a slot that has lost keys has answered"
            except LedgerUnavailableError as error:
                said.append(str(error))
            questions.append(asyncio.ensure_future(verdicts(ledger)))
            questions.append(asyncio.ensure_future(ledger.claim_many(OTHERS)))
            await asyncio.sleep(0.05)
            assert moved == 0 or not any(question.done() for question in questions[2:])
        assert said
        assert all("the slot is being migrated" in text for text in said)
        *_, known, new = await asyncio.gather(*questions)
        assert known == {Verdict.SEEN}
        assert {answer.verdict for answer in new} == {Verdict.NEW}
    cluster.wait_ok()


@in_loop
async def test_a_dump_waits_for_a_slot_that_moves(cluster: ValkeyCluster, namespace: str) -> None:
    """What is read while buckets are on both sides of a migration has all that was remembered."""
    await remember(cluster, namespace)
    partition = f"vd1:{{{namespace}:{PARTITION_TAGS[7]}}}"
    source = cluster.primary_of(partition)
    target = next(node for node in cluster.primaries if node is not source)
    client = Client(cluster.url, cluster.url, {}, timeout=PATIENCE)

    async def read() -> list[BucketBatch]:
        return [step async for step in ShelfBuckets(client, namespace).read(7)]

    try:
        before, reading = await read(), []
        size = source.ask("CLUSTER", "COUNTKEYSINSLOT", cluster.slot_of(partition))
        for _ in cluster.migration(cluster.slot_of(partition), target, batch=max(size // 4, 1)):
            reading.append(asyncio.ensure_future(read()))
            await asyncio.sleep(0.05)
        found = await asyncio.gather(*reading)
    finally:
        await client.close()
    assert sum(step.size for step in before)
    assert found == [before] * len(found)
    cluster.wait_ok()


@in_loop
async def test_a_cluster_that_was_down_is_found_again(
    cluster: ValkeyCluster, namespace: str
) -> None:
    """All nodes are killed: questions end in time. All are back: the same client is answered."""
    await remember(cluster, namespace)
    async with a_run(cluster.url, namespace, timeout=1) as ledger:
        assert await verdicts(ledger) == {Verdict.SEEN}
        for node in cluster.nodes:
            node.kill()
        began = now()
        with pytest.raises(LedgerUnavailableError):
            await verdicts(ledger)
        assert now() - began < 3
        for node in cluster.nodes:
            node.start()
        cluster.wait_ok()
        assert await verdicts(ledger) == {Verdict.SEEN}


@in_loop
async def test_one_living_node_is_seed_enough(cluster: ValkeyCluster, namespace: str) -> None:
    """A URL that names only a replica leads to the cluster; dead and frozen seeds cost nothing."""
    await remember(cluster, namespace)
    replica = next(node for node in cluster.nodes if node not in cluster.primaries)
    async with a_run(f"valkey+cluster://127.0.0.1:{replica.port}", namespace) as ledger:
        assert await verdicts(ledger) == {Verdict.SEEN}
    other = next(node for node in cluster.nodes if node not in (*cluster.primaries, replica))
    hosts = [f"127.0.0.1:{port}" for port in (free_port(), other.port, replica.port)]
    other.freeze()
    try:
        began = now()
        async with a_run(f"valkey+cluster://{','.join(hosts)}", namespace) as ledger:
            assert await verdicts(ledger) == {Verdict.SEEN}
        assert now() - began < PATIENCE / 4  # a frozen node takes half of it
    finally:
        other.thaw()
