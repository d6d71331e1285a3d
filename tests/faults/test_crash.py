"""SIGKILL at random moments, again and again: no post is missing, few are stored twice."""

from __future__ import annotations

import random

import pytest

from tests.support.crawls.world import World
from tests.support.ledgers import heartbeats
from tests.support.patience import wait_until
from tests.support.servers.site import pages_of
from tests.support.spiders.storages import STORAGES

# Slow enough that a test which waits for its turn finds the crawl still at work.
SLOW = {"delay": 0.03, "CONCURRENT_ITEMS": 4, "CONCURRENT_REQUESTS": 4}


def kill_again_and_again(world: World, kills: int, **changes: object) -> tuple[int, set[str]]:
    """Kills crawls at random moments of their storing.

    Returns how many posts were in flight then, and all posts of the site.
    """
    posts = range(120 * kills)
    site = world.site(pages_of(posts, size=60))
    chance = random.Random(20261122)
    in_flight, known = 0, set()
    for number in range(kills):
        before = sum(world.stored.values()) if world.crawls else 0
        crawl = world.start(site, seed=number, VALKEY_DEDUP_LEASE=1, **SLOW, **changes)
        wanted = before + chance.randrange(1, 40)
        wait_until(lambda wanted=wanted: sum(world.stored.values()) >= wanted)
        assert crawl.kill(), f"crawl {number} ended before it was killed"
        left = {key for key, run in world.claims.items() if run not in known}
        in_flight += len(left)
        known.update(world.claims.values())
    world.crawl(site, VALKEY_DEDUP_LEASE=1, **changes)
    return in_flight, {str(post) for post in posts}


def assert_settled(world: World) -> None:
    """No claim is left, and no heartbeat when those of the killed runs are over."""
    wait_until(lambda: not heartbeats(world.url, world.namespace))
    world.assert_settled()


@pytest.mark.long
@pytest.mark.parametrize("kills", [10, pytest.param(25, marks=pytest.mark.slow)])
def test_no_post_is_lost_by_kills(world: World, kills: int) -> None:
    """After many kills and one run to the end all posts are stored, twice only those in flight."""
    in_flight, posts = kill_again_and_again(world, kills)
    stored = world.stored
    twice = sum(stored.values()) - len(stored)
    assert set(stored) == posts
    assert in_flight >= kills
    assert twice <= in_flight
    assert world.remembered(posts) == posts
    assert_settled(world)


def test_marking_first_loses_posts(world: World) -> None:
    """The same kills against a pipeline that marks before it stores: posts are missing."""
    _, posts = kill_again_and_again(
        world,
        10,
        ADDONS={},
        ITEM_PIPELINES={f"{STORAGES}.MarkFirst": 100, f"{STORAGES}.Store": 300},
        marked=world.namespace,
    )
    assert set(world.stored) < posts
