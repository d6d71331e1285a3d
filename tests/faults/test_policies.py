"""The outage policies: what becomes of posts, requests and the spider while Valkey is away."""

from __future__ import annotations

import os
import signal
import time
from math import inf

import pytest

from tests.support.crawls.items import Crawl
from tests.support.crawls.world import World
from tests.support.outages import SLOW, start_half
from tests.support.servers.site import pages_of

POSTS = range(1000)
EVERY_POST = {str(post): 1 for post in POSTS}
QUICK = {"VALKEY_DEDUP_TIMEOUT": 0.5, **SLOW}
AWAY, BACK, GONE = "gave no answer", "Valkey answers again, after", "has not answered any more"


def begin(world: World, policy: str, **changes: object) -> Crawl:
    """Starts a crawl, and returns when it has stored some posts."""
    return start_half(
        world,
        world.sites[0] if world.sites else world.site(pages_of(POSTS)),
        **{
            **QUICK,
            "VALKEY_DEDUP_ON_OUTAGE": policy,
            "VALKEY_DEDUP_DATA_DIR": str(world.directory / "data"),
            **changes,
        },
    )


def kill_server(world: World) -> None:
    """In the middle of a crawl, which may go on then."""
    world.server.kill()
    world.sites[0].free = inf


def is_quiet(world: World, crawl: Crawl) -> bool:
    """Whether nothing was stored and nothing downloaded for a moment; ends with the wait."""
    before = sum(world.stored.values()), world.sites[0].served.total()
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 0.5:
        now = sum(world.stored.values()), world.sites[0].served.total()
        if now != before:
            before, quiet_since = now, time.monotonic()
        time.sleep(0.01)
        assert crawl.process.is_alive()
    return True


def test_pause_stores_nothing_unchecked(fragile: World) -> None:
    """Posts and downloads wait until Valkey is back; then each post is stored once, checked."""
    crawl = begin(fragile, "pause")
    os.kill(fragile.server.pid, signal.SIGSTOP)
    site = fragile.sites[0]
    site.free = 5  # the posts of these pages meet the outage; the other pages wait
    try:
        crawl.wait_for(AWAY)
        site.free = inf
        assert is_quiet(fragile, crawl)
        assert len(fragile.stored) < len(POSTS)
        assert site.served.total() < len(site.pages)
    finally:
        os.kill(fragile.server.pid, signal.SIGCONT)
    stats = crawl.wait()
    assert fragile.stored == EVERY_POST
    assert "dedup/items/unchecked" not in stats
    assert stats["dedup/items/confirmed"] == len(POSTS)
    assert stats["finish_reason"] == "finished"
    assert crawl.log.count("posts and requests wait") == crawl.log.count(BACK) == 1
    fragile.assert_settled()


def test_pause_has_a_limit(fragile: World) -> None:
    """A pause that lasts too long closes the spider; what waited is stored unchecked."""
    crawl = begin(fragile, "pause", VALKEY_DEDUP_PAUSE_LIMIT=1)
    kill_server(fragile)
    stats = crawl.wait()
    assert stats["finish_reason"] == "valkey_unavailable"
    assert "VALKEY_DEDUP_PAUSE_LIMIT" in crawl.log
    assert stats["dedup/items/unchecked"] > 0
    assert stats["item_scraped_count"] == len(fragile.stored) < len(POSTS)
    again(fragile)


def test_a_pause_ends_with_items_of_start(fragile: World) -> None:
    """The spider closes while only items of start() wait: Scrapy's end waits for them, and comes.

    Scrapy 2.18 and later look whether the items have ended only when a response has been scraped.
    """
    fragile.server.kill()
    settings = {"VALKEY_DEDUP_ON_OUTAGE": "pause", "VALKEY_DEDUP_TIMEOUT": 0.3}
    items = [{"post_id": post} for post in range(3)]
    crawl = fragile.start(fragile.site({}), items=items, VALKEY_DEDUP_PAUSE_LIMIT=1, **settings)
    stats = crawl.wait()
    # Before 2.18 Scrapy comes to its own end while these items wait.
    assert stats["finish_reason"] in ("valkey_unavailable", "finished")
    assert stats["item_scraped_count"] == len(fragile.stored) == len(items)


def test_a_paused_crawl_can_be_stopped(fragile: World) -> None:
    """SIGTERM ends a crawl that waits, in time, and what it had scraped is stored."""
    crawl = begin(fragile, "pause")
    kill_server(fragile)
    crawl.wait_for("posts and requests wait")
    crawl.signal(signal.SIGTERM)
    stats = crawl.wait()
    assert stats["finish_reason"] == "shutdown"
    assert stats["item_scraped_count"] == len(fragile.stored)
    again(fragile)


def test_close_ends_the_spider(fragile: World) -> None:
    """The spider is closed for the stated reason; what it had scraped is stored, none is lost."""
    crawl = begin(fragile, "close")
    kill_server(fragile)
    stats = crawl.wait()
    assert stats["finish_reason"] == "valkey_unavailable"
    assert stats["item_scraped_count"] == len(fragile.stored) < len(POSTS)
    assert crawl.log.count("The spider is closed (VALKEY_DEDUP_ON_OUTAGE = 'close')") == 1
    again(fragile)


@pytest.mark.parametrize("policy", ["pause", "close"])
def test_a_server_that_is_away_at_the_start(fragile: World, policy: str) -> None:
    """The policy holds from the first moment on."""
    fragile.server.kill()
    site = fragile.site(pages_of(POSTS))
    settings = {"VALKEY_DEDUP_ON_OUTAGE": policy, "VALKEY_DEDUP_TIMEOUT": 0.3}
    crawl = fragile.start(site, **settings)
    crawl.wait_for(AWAY)
    if policy == "pause":
        crawl.wait_for("Spider opened")
        assert is_quiet(fragile, crawl)
        fragile.server.start()
        assert crawl.wait()["finish_reason"] == "finished"
        assert fragile.stored == EVERY_POST
    else:
        assert crawl.wait()["finish_reason"] == "valkey_unavailable"


def test_an_outage_knows_the_runs_own_posts(fragile: World) -> None:
    """During an outage the run tells its own duplicates, also of what it had confirmed before."""
    crawl = start_half(fragile, fragile.site(pages_of([*POSTS, *POSTS])), **QUICK)
    kill_server(fragile)
    stats = crawl.wait()
    assert fragile.stored == EVERY_POST
    assert stats["dedup/items/duplicate"] == len(POSTS)
    assert GONE in crawl.log


def again(world: World) -> None:
    """A later run with a healthy server: the spool is delivered first, and nothing is missing."""
    world.server.start()
    before = world.stored
    stats = world.crawl(world.sites[0], VALKEY_DEDUP_DATA_DIR=str(world.directory / "data"), **SLOW)
    assert world.stored == EVERY_POST, "missing, or stored twice"
    assert stats["dedup/items/confirmed"] == len(POSTS) - len(before)
    assert not list((world.directory / "data" / "spool").glob("*.keys"))
    assert world.remembered(POSTS) == EVERY_POST.keys()


def test_what_cannot_be_confirmed_is_for_the_next_run(fragile: World) -> None:
    """A run whose server is gone for good leaves its confirmations in a file, for the next one."""
    crawl = begin(fragile, "pass")
    kill_server(fragile)
    stats = crawl.wait()
    assert fragile.stored == EVERY_POST
    left = len(POSTS) - stats["dedup/items/confirmed"]
    assert stats["dedup/items/unconfirmed"] == stats["dedup/items/spooled"] == left > 0
    assert (
        f"{left} stored and noted on disk for the next run to remember"
        in crawl.log.splitlines()[-1]
    )
    fragile.server.start()
    other = fragile.crawl(
        fragile.sites[0], VALKEY_DEDUP_DATA_DIR=str(fragile.directory / "data"), **SLOW
    )
    assert other["dedup/items/recovered"] == left
    assert other["dedup/items/duplicate"] == len(POSTS)
    assert fragile.stored == EVERY_POST
