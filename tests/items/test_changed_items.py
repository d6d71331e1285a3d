"""An item that is filled anew while the ledger is asked for it is stored as it was yielded."""

from __future__ import annotations

import pytest

from bench.servers import FaultyProxy, ValkeyServer
from tests.support.crawls.world import World
from tests.support.servers.site import pages_of
from tests.support.spiders.posts import KINDS

POSTS = range(20)
EVERY_POST = {str(post) for post in POSTS}


@pytest.mark.parametrize("kind", KINDS)
def test_one_object_for_all_posts(world: World, valkey: ValkeyServer, kind: str) -> None:
    """One object refilled for 20 posts is stored as 20 posts, and just these are remembered."""
    proxy = FaultyProxy(valkey.port)
    proxy.delay = 0.005
    with proxy:
        changes = {"VALKEY_DEDUP_URL": f"valkey://127.0.0.1:{proxy.port}"}
        world.crawl(world.site(pages_of(POSTS)), callback="parse_into_one", kind=kind, **changes)
    assert world.stored == dict.fromkeys(EVERY_POST, 1)
    assert world.remembered(POSTS) == EVERY_POST
    assert world.log.count("was changed after the spider had yielded it") == 1
    world.assert_settled()


def test_a_duplicate_that_is_marked(world: World, valkey: ValkeyServer) -> None:
    """With ON_DUPLICATE = "mark" each of the 20 is marked under its own id."""
    world.crawl(world.site(pages_of(POSTS)))
    proxy = FaultyProxy(valkey.port)
    proxy.delay = 0.005
    with proxy:
        world.crawl(
            world.sites[0],
            callback="parse_into_one",
            VALKEY_DEDUP_ON_DUPLICATE="mark",
            VALKEY_DEDUP_URL=f"valkey://127.0.0.1:{proxy.port}",
        )
    assert world.stored == dict.fromkeys(EVERY_POST, 2)


def test_what_changes_inside_fails_loudly(world: World, valkey: ValkeyServer) -> None:
    """A post known by what lies inside a dict that has changed fails, and none is remembered."""
    proxy = FaultyProxy(valkey.port)
    proxy.delay = 0.01
    with proxy:
        stats = world.crawl(
            world.site(pages_of(POSTS)),
            callback="parse_with_one_author",
            VALKEY_DEDUP_FIELDS=["author.id"],
            VALKEY_DEDUP_URL=f"valkey://127.0.0.1:{proxy.port}",
        )
    assert stats["log_count/ERROR"] == stats["dedup/items/released"] > 0
    assert stats.get("dedup/items/confirmed", 0) == sum(world.stored.values())
    assert "has become another post while the ledger was asked for it" in world.log
    world.assert_settled()
