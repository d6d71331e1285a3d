"""The end of an item is heard without a receiver of its signals, and after all receivers."""

from __future__ import annotations

import signal

import pytest

from tests.support.crawls.world import World
from tests.support.patience import PATIENCE
from tests.support.servers.site import pages_of
from tests.support.spiders.handlers import HANDLERS

POSTS = range(20)
EVERY_POST = {str(post): 1 for post in POSTS}


def test_no_receiver_is_left(either_world: World) -> None:
    """Once an item has ended the plugin has no receiver of its end, which would cost a task each.

    Stored, dropped and failed items are settled all the same, in the first run and the second.
    """
    world = either_world
    site = world.site(pages_of(POSTS))
    counts = {"EXTENSIONS": {f"{HANDLERS}.CountsReceivers": 0}}
    first = world.crawl(site, refuse=[7], **counts)
    assert (first["dedup/items/confirmed"], first["dedup/items/released"]) == (19, 1)
    second = world.crawl(site, **counts)
    assert (second["dedup/items/duplicate"], second["dedup/items/confirmed"]) == (19, 1)
    assert (first["receivers"], second["receivers"]) == (0, 0)
    assert world.stored == EVERY_POST
    world.assert_settled()


def test_receivers_remain_where_nothing_is_heard(world: World) -> None:
    """If Scrapy sends the signals another way, the receivers settle every item."""
    site = world.site(pages_of(POSTS))
    stats = world.crawl(site, refuse=[7], EXTENSIONS={f"{HANDLERS}.SendsOtherwise": 0})
    assert stats["receivers"] == 3
    assert (stats["dedup/items/confirmed"], stats["dedup/items/released"]) == (19, 1)
    assert world.remembered(POSTS) == EVERY_POST.keys() - {"7"}
    world.assert_settled()


@pytest.mark.parametrize("awaits", ["nothing", "something"])
def test_a_handler_that_stores_is_waited_for(world: World, awaits: str) -> None:
    """A post that a handler of item_scraped was about to store when the process died comes again.

    Whether the handler stores at once or awaits something first: no post is missing.
    """
    site = world.site(pages_of(POSTS))
    by_handler = {
        "EXTENSIONS": {f"{HANDLERS}.StoringHandler": 0},
        "ITEM_PIPELINES": {},
        "VALKEY_DEDUP_CONFIRM": "scraped",
        "VALKEY_DEDUP_LEASE": 1,
        "awaits": awaits == "something",
    }
    killed = world.start(site, kill_at=13, **by_handler)
    killed.process.join(PATIENCE)
    assert killed.process.exitcode == -signal.SIGKILL
    world.crawl(site, **by_handler)
    assert set(world.stored) == set(EVERY_POST)
    world.assert_settled()


@pytest.mark.parametrize("awaits", ["nothing", "something"])
def test_a_handler_that_cannot_store(world: World, awaits: str) -> None:
    """A post whose handler of item_scraped fails is not remembered: the next run stores it."""
    site = world.site(pages_of(POSTS))
    by_handler = {
        "EXTENSIONS": {f"{HANDLERS}.StoringHandler": 0},
        "ITEM_PIPELINES": {},
        "VALKEY_DEDUP_CONFIRM": "scraped",
        "awaits": awaits == "something",
    }
    first = world.crawl(site, fails_at=13, **by_handler)
    assert (first["dedup/items/confirmed"], first["dedup/items/released"]) == (19, 1)
    assert world.log.count("A handler of item_scraped has failed") == 1
    second = world.crawl(site, **by_handler)
    assert (second["dedup/items/confirmed"], second["dedup/items/duplicate"]) == (1, 19)
    assert world.stored == EVERY_POST
    world.assert_settled()
