"""Each fault of a server or a line, in the middle of a crawl, under each outage policy.

A fault that is over within ``TIMEOUT`` is no outage: then crawls under all three policies run side
by side, and each post is stored exactly once. A longer one is an outage, and the law is the
policy's: "pass" stores each post at least once, and no more second copies than it counts as
unchecked; "pause" stores each exactly once; "close" ends, and the next run stores what is missing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.servers import FaultyProxy, ValkeyServer, free_port
from tests.support.crawls.world import World
from tests.support.outages import (
    BACK,
    BEGIN,
    GONE,
    NEVER,
    account_of,
    again_and_again,
    assert_mended,
    assert_unnoticed,
    second_copies,
    start_fleet,
    total,
)
from tests.support.patience import PATIENCE, wait_until
from tests.support.servers.site import pages_of
from tests.support.servers.standin import not_on_serverless

POLICIES = "pass", "pause", "close"
POSTS = range(1000)
EVERY_POST = {str(post): 1 for post in POSTS}
SLOW = {
    "delay": 0.05,
    "CONCURRENT_ITEMS": 10,
    "CONCURRENT_REQUESTS": 2,
    # A page is asked for when those before it are stored: there are always more to come.
    "SCRAPER_SLOT_MAX_ACTIVE_SIZE": 1,
}
TIMEOUT = 0.5
LONG = {"VALKEY_DEDUP_TIMEOUT": TIMEOUT, **SLOW, "delay": 0.1}


@pytest.fixture
def line(fragile: World) -> Iterator[FaultyProxy]:
    """The way of the crawls to that server."""
    with FaultyProxy(fragile.server.port) as proxy:
        fragile.url = fragile.server.url_through(proxy.port)
        yield proxy


# -- what is over within TIMEOUT -------------------------------------------------------------------


@not_on_serverless("its backends take nothing in the first two seconds after a start")
def test_a_restart_is_not_noticed(fragile: World) -> None:
    """Killed with SIGKILL and started again on its append-only file: no outage, all once."""
    crawls = start_fleet(fragile, fragile.site(pages_of(POSTS)), POLICIES, **SLOW)
    fragile.server.kill()
    fragile.server.start()
    assert_unnoticed(fragile, crawls, POLICIES)
    fragile.assert_settled()


def test_two_seconds_of_delay_are_not_noticed(fragile: World, line: FaultyProxy) -> None:
    """Each question takes 2 s of the 5 s that it has: no outage, all once."""
    changes = SLOW | {"CONCURRENT_ITEMS": 20}
    crawls = start_fleet(fragile, fragile.site(pages_of(POSTS)), POLICIES, **changes)
    line.delay = 1.0
    began, known = time.monotonic(), len(fragile.stored)
    fragile.serve_all()
    # The first are of questions that were on their way before; those after them were delayed.
    wait_until(lambda: len(fragile.stored) > known + 150)
    assert time.monotonic() - began > 2
    line.delay = 0
    assert_unnoticed(fragile, crawls, POLICIES)
    fragile.assert_settled()


def test_random_resets_are_not_noticed(fragile: World, line: FaultyProxy) -> None:
    """Of the chunks on the line 1 % are torn, and their connections reset: no outage, all once."""
    small = SLOW | {"CONCURRENT_ITEMS": 2, "delay": 0.01}  # batches, and so chunks
    crawls = start_fleet(fragile, fragile.site(pages_of(POSTS)), POLICIES, **small)
    line.reset_chance = 0.01
    fragile.serve_all()
    for crawl in crawls:
        crawl.wait()
    line.reset_chance = 0
    assert line.resets > 0
    assert_unnoticed(fragile, crawls, POLICIES)
    fragile.assert_settled()


def test_a_flushed_script_cache_is_not_noticed(fragile: World) -> None:
    """The server forgets its scripts again and again, at random moments: no outage, all once."""
    crawls = start_fleet(fragile, fragile.site(pages_of(POSTS)), POLICIES, **SLOW)
    chance = random.Random(4)
    flush = lambda: fragile.server.ask("SCRIPT", "FLUSH")  # noqa: E731
    with again_and_again(flush, lambda: chance.uniform(0, 0.05)) as flushed:
        wait_until(lambda: len(flushed) > 10)
        assert_unnoticed(fragile, crawls, POLICIES)
    fragile.assert_settled()


def test_killed_clients_are_not_noticed(fragile: World) -> None:
    """All clients are killed every 100 ms: no outage, all once."""
    crawls = start_fleet(fragile, fragile.site(pages_of(POSTS)), POLICIES, **SLOW)
    kill = lambda: fragile.server.ask("CLIENT", "KILL", "TYPE", "normal")  # noqa: E731
    with again_and_again(kill, lambda: 0.1) as killed:
        wait_until(lambda: sum(killed) > 10)
        fragile.serve_all()
        for crawl in crawls:
            crawl.wait()
    assert_unnoticed(fragile, crawls, POLICIES)
    fragile.assert_settled()


# -- what lasts longer -----------------------------------------------------------------------------

Deed = Callable[[ValkeyServer], object]


def fill(server: ValkeyServer) -> None:
    """No write has room any more."""
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.ask("CONFIG", "SET", "maxmemory", 1)


FAULTS: dict[str, tuple[Deed, Deed]] = {
    "down": (lambda server: server.kill(), lambda server: server.start()),
    "stopped": (lambda server: server.freeze(), lambda server: server.thaw()),
    "full": (fill, lambda server: server.ask("CONFIG", "SET", "maxmemory", 0)),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_is_away_for_a_while(fragile: World, fault: str, policy: str) -> None:
    """The server is away for several TIMEOUTs, which two crawls of the same posts meet.

    "pass": each post is stored, and second copies are at most the posts counted as unchecked.
    "pause": each post is stored once. "close": both end while it is still away, second copies are
    at most the posts counted as unchecked, and the next run stores exactly what is missing.
    """
    hurt, heal = FAULTS[fault]
    crawls = start_fleet(fragile, fragile.site(pages_of(POSTS)), [policy] * 2, **LONG)
    began = time.monotonic()
    hurt(fragile.server)
    fragile.serve_all()
    for crawl in crawls:
        crawl.wait_for(BEGIN[policy])
    noticed = time.monotonic()
    if policy == "close":
        stats = [account_of(crawl, policy) for crawl in crawls]
        healed = noticed
        heal(fragile.server)
    else:
        time.sleep(3 * TIMEOUT)
        assert all(crawl.process.is_alive() for crawl in crawls)
        healed = time.monotonic()
        heal(fragile.server)
        stats = [account_of(crawl, policy) for crawl in crawls]
    ended = time.monotonic()
    for found in stats:
        assert found["dedup/valkey/outages"] == 1
        assert healed - noticed - 0.5 <= found["dedup/valkey/outage_seconds"] < ended - began + 0.5
    assert second_copies(fragile.stored) <= total(stats, "unchecked")
    if policy == "close":
        assert {found["finish_reason"] for found in stats} == {"valkey_unavailable"}
        assert len(fragile.stored) < len(POSTS)
        assert_mended(fragile)
        return
    assert {found["finish_reason"] for found in stats} == {"finished"}
    assert [crawl.log.count(BACK) for crawl in crawls] == [1, 1]
    assert fragile.stored.keys() == EVERY_POST.keys()
    assert (total(stats, "unchecked") > 0) == (policy == "pass")
    assert sum(fragile.stored.values()) == total(stats, "confirmed")
    assert fragile.remembered(POSTS) == EVERY_POST.keys()
    fragile.assert_settled()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_server_never_comes_back(fragile: World, policy: str) -> None:
    """Killed for good: both crawls end, and lose nothing; the next one mends what they left.

    "pass": with all posts. "pause": when its limit has passed. "close": at once. Second copies are
    at most the posts counted as unchecked.
    """
    crawls = start_fleet(
        fragile,
        fragile.site(pages_of(POSTS)),
        [policy] * 2,
        VALKEY_DEDUP_PAUSE_LIMIT=1,
        **LONG,
    )
    fragile.server.kill()
    fragile.serve_all()
    stats = [account_of(crawl, policy) for crawl in crawls]
    assert second_copies(fragile.stored) <= total(stats, "unchecked")
    assert sum(fragile.stored.values()) == total(stats, "confirmed") + total(stats, "spooled")
    assert total(stats, "spooled") == total(stats, "unconfirmed") > 0
    for crawl, found in zip(crawls, stats, strict=True):
        assert sum(map(crawl.log.count, (GONE, NEVER))) == found["dedup/valkey/outages"] == 1
        assert found["finish_reason"] == "finished" if policy == "pass" else "valkey_unavailable"
    assert (fragile.stored.keys() == EVERY_POST.keys()) == (policy == "pass")
    fragile.server.start()
    assert_mended(fragile)


@pytest.mark.slow
@pytest.mark.long
def test_twenty_seconds_without_an_answer(fragile: World) -> None:
    """SIGSTOP for 20 s, with all settings as they are by default: as above, under "pass"."""
    posts = range(700)
    slow = SLOW | {"delay": 0.9}  # they take longer than the fault
    crawls = start_fleet(fragile, fragile.site(pages_of(posts)), ["pass"] * 2, **slow)
    fragile.server.freeze()
    fragile.serve_all()
    time.sleep(20)
    assert all(crawl.process.is_alive() for crawl in crawls)
    fragile.server.thaw()
    stats = [account_of(crawl, "pass") for crawl in crawls]
    assert [found["dedup/valkey/outages"] for found in stats] == [1, 1]
    assert all(14 <= found["dedup/valkey/outage_seconds"] < PATIENCE for found in stats)
    assert [crawl.log.count(BACK) for crawl in crawls] == [1, 1]
    assert fragile.stored.keys() == {str(post) for post in posts}
    assert second_copies(fragile.stored) <= total(stats, "unchecked")
    assert sum(fragile.stored.values()) == total(stats, "confirmed")
    assert fragile.remembered(posts) == fragile.stored.keys()
    fragile.assert_settled()


# -- few connections -------------------------------------------------------------------------------


def test_two_thousand_items_share_few_connections(tmp_path: Path) -> None:
    """A server with room for 10 clients serves 2,000 concurrent items, over 5 connections."""
    posts = range(2000)
    with ValkeyServer("--maxclients", "10", port=free_port()) as server:
        world = World(server.url, "crowd", tmp_path)
        try:
            crowd = {"CONCURRENT_ITEMS": 2000, "delay": 2.0}
            site = world.site(pages_of(posts, size=2000))
            crawl = world.start(site, VALKEY_DEDUP_ON_OUTAGE="close", **crowd)
            seen = []
            while crawl.process.is_alive():
                clients = server.ask("CLIENT", "LIST", "TYPE", "normal")
                seen.append(str(clients).count("127.0.0.1:") // 2)
                time.sleep(0.01)
            assert_unnoticed(world, [crawl], ["close"])
            assert 0 < max(seen) <= 5
        finally:
            world.close()
