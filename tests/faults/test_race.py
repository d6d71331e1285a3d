"""Many processes at once, with a server and with the embedded one: each post is stored once."""

from __future__ import annotations

import os
import signal
from math import inf

import pytest

from tests.support.crawls.items import stored
from tests.support.crawls.world import World
from tests.support.patience import wait_until
from tests.support.servers.site import pages_of


@pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=[pytest.mark.slow, pytest.mark.long])])
def test_eight_processes_store_each_post_once(world: World, rounds: int) -> None:
    """Eight processes scrape the same 2,000 posts in different orders: each is stored once."""
    posts = range(2000)
    site = world.site(pages_of(posts, size=100))
    name = world.namespace
    for number in range(rounds):
        world.namespace = f"{name}-{number}"
        database = str(world.directory / f"round-{number}.db")
        crawls = [
            world.start(site, seed=seed, database=database, LOG_LEVEL="WARNING")
            for seed in range(8)
        ]
        stats = [crawl.wait() for crawl in crawls]
        assert stored(crawls[0].job) == {str(post): 1 for post in posts}, f"round {number}"
        assert sum(found.get("dedup/items/confirmed", 0) for found in stats) == 2000
        assert sum(found.get("dedup/items/unchecked", 0) for found in stats) == 0
        world.assert_settled()


def test_ten_processes_share_the_embedded_server(world: World) -> None:
    """Without a URL ten processes that start at once share one ledger, and a later run knows it."""
    posts = range(500)
    site = world.site(pages_of(posts))
    embedded = {
        "VALKEY_DEDUP_URL": None,
        "VALKEY_DEDUP_DATA_DIR": str(world.directory / "ledger"),
    }
    crawls = [world.start(site, seed=seed, **embedded) for seed in range(10)]
    for crawl in crawls:
        crawl.wait()
    assert world.stored == {str(post): 1 for post in posts}
    assert all("shared by the spiders of this machine only" in crawl.log for crawl in crawls)
    stats = world.crawl(site, **embedded)
    assert stats["dedup/items/duplicate"] == 500
    assert not (world.directory / "ledger" / "valkey.sock").exists()


def test_a_killed_embedded_server_is_revived(world: World) -> None:
    """The embedded server is killed in the middle of a crawl: it starts anew, nothing is lost."""
    posts = range(3000)
    ledger = world.directory / "ledger"
    embedded = {"VALKEY_DEDUP_URL": None, "VALKEY_DEDUP_DATA_DIR": str(ledger)}
    site = world.site(pages_of(posts))
    site.free = len(site.pages) / 2
    crawl = world.start(site, delay=0.005, **embedded)
    for mark in (300, 1000):
        wait_until(lambda mark=mark: len(world.stored) > mark)
        os.kill(int((ledger / "valkey.pid").read_text()), signal.SIGKILL)
    site.free = inf
    stats = crawl.wait()
    assert world.stored == {str(post): 1 for post in posts}
    assert stats["dedup/items/confirmed"] == 3000
    assert "dedup/valkey/outages" not in stats
