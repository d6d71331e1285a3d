"""A primary that Sentinels watch fails under the crawls; Sentinels that are away, or say no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from bench.servers import Sentinel, SentinelSet
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.crawls.world import World
from tests.support.ledgers import heartbeats
from tests.support.outages import (
    BEGIN,
    NEVER,
    account_of,
    assert_bounded,
    assert_unnoticed,
    bring_up_to_date,
    lose_writes,
    start_fleet,
)
from tests.support.patience import PATIENCE, in_loop, now
from tests.support.servers.site import pages_of
from tests.support.spiders.storages import STORAGES

POSTS = range(1500)
FLEET = ["pass"] * 3
AT_ONCE = 20
SLOW = {
    "delay": 0.1,
    "CONCURRENT_ITEMS": AT_ONCE,
    "CONCURRENT_REQUESTS": 1,
    "SCRAPER_SLOT_MAX_ACTIVE_SIZE": 1,  # a page is asked for when the one before it is stored
}
PASSWORD, WATCHWORD = "of-the-data", "of-the-sentinels"
_numbers = count()


@pytest.fixture(scope="module")
def shared() -> Iterator[SentinelSet]:
    """Servers and Sentinels for all tests, each with a password; each test leaves them in order."""
    with SentinelSet(2, password=PASSWORD, sentinel_password=WATCHWORD) as sentinels:
        yield sentinels


@pytest.fixture
def sentinels(shared: SentinelSet) -> Iterator[SentinelSet]:
    """The same, in order, all up."""
    yield shared
    for server in (*shared.sentinels, *shared.servers):
        if not server.alive:
            shared.restart(server)
    shared.wait_ok()


OF_SENTINELS = {"sentinel_kwargs": {"password": WATCHWORD}}


@pytest.fixture
def world(sentinels: SentinelSet, tmp_path: Path) -> Iterator[World]:
    """Crawls that are told only of the Sentinels; looks from outside go to the primary."""
    made = World(sentinels.primary.url, f"sentinel-{next(_numbers)}", tmp_path)
    yield made
    made.close()


def told(sentinels: SentinelSet, **changes: object) -> dict[str, object]:
    """The settings of a crawl that finds its server by the Sentinels."""
    options = {"VALKEY_DEDUP_CLIENT_OPTIONS": OF_SENTINELS}
    return {"VALKEY_DEDUP_URL": sentinels.url, **options, **SLOW, **changes}


@pytest.mark.long
def test_a_failover_costs_what_it_lost(world: World, sentinels: SentinelSet) -> None:
    """Three crawls, the primary killed, its last writes lost: each post is stored, few twice.

    Twice at most those that the ledger, after the failover, does not remember although a crawl had
    begun to store them (counted while the crawls are frozen), and of the others those that were
    claimed and not begun: at most 3 x 2 x 20 are on their way. None of them thrice, and no outage.
    """
    settings = told(sentinels, ITEM_PIPELINES={f"{STORAGES}.NotingStore": 300})
    crawls = start_fleet(world, world.site(pages_of(POSTS, 100)), FLEET, **settings)
    primary = sentinels.primary
    first, second = sentinels.replicas
    second.kill()  # it would be up to date, and be preferred

    def wait_failover() -> None:
        world.url = sentinels.wait_failover(primary).url

    begun, unremembered = lose_writes(world, crawls, primary, first, wait_failover)
    assert_bounded(world, FLEET, begun, unremembered, len(FLEET) * 2 * AT_ONCE)
    assert len(world.claims) <= len(unremembered)
    assert heartbeats(world.url, world.namespace) == 0


def test_a_failover_is_waited_for(world: World, sentinels: SentinelSet) -> None:
    """The primary is killed, and replicas are up to date: no outage, each post is stored once."""
    policies = ["pass", "pause", "close"]
    settings = told(sentinels, VALKEY_DEDUP_TIMEOUT=20)  # Sentinels take 1 to 4 s, and retry in 6
    crawls = start_fleet(world, world.site(pages_of(POSTS, 100)), policies, **settings)
    primary = sentinels.primary
    bring_up_to_date(primary, sentinels.replicas)
    sentinels.kill(primary)
    world.serve_all()
    world.url = sentinels.wait_failover(primary).url
    assert_unnoticed(world, crawls, policies)
    world.assert_settled()


@in_loop
async def test_a_frozen_primary_does_not_use_up_the_time(
    sentinels: SentinelSet, namespace: str
) -> None:
    """A primary stops answering: its successor is asked as soon as the Sentinels name it.

    Not when the attempt with the former has ended, which may take minutes here.
    """
    primary = sentinels.primary
    server = Client(sentinels.url, "here", OF_SENTINELS, timeout=2 * PATIENCE)
    try:
        ledger = Ledger(server, namespace, "a-run", retention=60)
        await ledger.open()
        primary.freeze()
        began = now()
        await ledger.runs.write_heartbeat(1, 30)
        assert now() - began < PATIENCE / 2  # Sentinels take 1 to 4 s, and retry in 6
    finally:
        primary.thaw()
        await server.close()
    sentinels.wait_failover(primary)
    sentinels.restart(primary)  # else it takes the Sentinels ten seconds to correct it


@pytest.mark.parametrize("hurt", [Sentinel.kill, Sentinel.freeze])
@in_loop
async def test_one_sentinel_less_costs_nothing(
    sentinels: SentinelSet, namespace: str, hurt: Callable[[Sentinel], None]
) -> None:
    """The first Sentinel of the URL is dead, or does not answer: the others are asked at once."""
    hurt(sentinels.sentinels[0])
    server = Client(sentinels.url, "here", OF_SENTINELS, timeout=PATIENCE)
    try:
        began = now()
        await Ledger(server, namespace, "a-run", retention=60).open()
        assert now() - began < PATIENCE / 4  # one that is frozen takes half of it
    finally:
        await server.close()
        if hurt is Sentinel.freeze:
            sentinels.sentinels[0].thaw()


def test_a_service_that_nobody_knows(world: World, sentinels: SentinelSet) -> None:
    """A wrong service name stops the crawl at the start: the line names it, and no password."""
    settings = told(sentinels)
    settings["VALKEY_DEDUP_URL"] = sentinels.url.removesuffix("/posts") + "/pots"
    crawl = world.start(world.site(pages_of(range(40))), **settings)
    crawl.process.join(PATIENCE)
    assert "the Sentinels know no service 'pots'" in crawl.log
    assert "VALKEY_DEDUP_URL" in crawl.log
    assert PASSWORD not in crawl.log
    assert WATCHWORD not in crawl.log
    assert world.stored == {}


@pytest.mark.parametrize("words", [None, "wrong-watchword"])
def test_sentinels_that_refuse_stop_the_crawl(
    world: World, sentinels: SentinelSet, words: str | None
) -> None:
    """Without the Sentinels' password, or with a wrong one, the crawl ends with the cure."""
    options = {"sentinel_kwargs": {"password": words}} if words else {}
    settings = told(sentinels, VALKEY_DEDUP_CLIENT_OPTIONS=options)
    crawl = world.start(world.site(pages_of(range(40))), **settings)
    crawl.process.join(PATIENCE)
    assert "refuses" in crawl.log
    assert "VALKEY_DEDUP_CLIENT_OPTIONS" in crawl.log
    assert PASSWORD not in crawl.log
    assert "wrong-watchword" not in crawl.log
    assert world.stored == {}


@pytest.mark.parametrize("policy", ["pass", "pause", "close"])
def test_no_sentinel_at_the_start(world: World, sentinels: SentinelSet, policy: str) -> None:
    """All Sentinels are dead when the crawl starts: an outage, and the policy holds."""
    settings = told(sentinels, VALKEY_DEDUP_TIMEOUT=0.5, VALKEY_DEDUP_ON_OUTAGE=policy)
    for sentinel in sentinels.sentinels:
        sentinel.kill()
    crawl = world.start(world.site(pages_of(range(40))), **settings)
    crawl.wait_for(BEGIN[policy])
    if policy == "pause":
        for sentinel in sentinels.sentinels:
            sentinel.start()
    stats = account_of(crawl, policy)
    assert stats["finish_reason"] == ("valkey_unavailable" if policy == "close" else "finished")
    assert stats.get("dedup/items/unchecked", 0) == (40 if policy == "pass" else 0)
    assert (NEVER in crawl.log) == (policy != "pause")
    assert len(world.stored) == (0 if policy == "close" else 40)
