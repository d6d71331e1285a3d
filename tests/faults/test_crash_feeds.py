"""SIGKILL at random moments with feeds as the storage: no post is missing, few are stored twice."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.test_crash import assert_settled
from tests.support.crawls.feeds import S3, feed, half_of_the_time, posts_in
from tests.support.crawls.world import World
from tests.support.patience import wait_until
from tests.support.servers.site import Site, pages_of
from tests.support.spiders.storages import STORAGES

KILLS = int(os.environ.get("CRASH_KILLS", "25"))
# Each process there loads boto3, which takes longer than its crawl.
S3_KILLS = max(KILLS * 2 // 5, 1)
SLOW = {"pace": 0.004, "CONCURRENT_REQUESTS": 2, "VALKEY_DEDUP_LEASE": 1}

pytestmark = [pytest.mark.slow, pytest.mark.long]


def kill_again_and_again(
    world: World, site: Site, progress: Callable[[], int], step: int, **changes: Any
) -> tuple[int, int]:
    """Kills a crawl for each page of a site, at a random moment up to ``step`` further on.

    Returns how many did not end before, and the claims that they left. A post that is stored and
    still claimed is one of the last moments: it is stored once more.
    """
    chance = random.Random(20261126)
    kills, left_claimed, known = 0, 0, set()
    for number in site.pages:
        before = progress()
        crawl = world.start(site, seed=number, sync_interval=0.1, **SLOW, **changes)
        wanted = before + chance.randrange(1, step)
        wait_until(
            lambda wanted=wanted, crawl=crawl: progress() >= wanted or not crawl.process.is_alive()
        )
        kills += crawl.kill()
        left = {key for key, holder in world.claims.items() if holder not in known}
        left_claimed += len(left)
        known.update(world.claims.values())
    return kills, left_claimed


def site_for(world: World, kills: int) -> tuple[Site, set[str]]:
    """A site with a page for each kill, and all its posts."""
    posts = range(60 * kills)
    return world.site(pages_of(posts, size=60)), set(map(str, posts))


def total(stored: Counter[str]) -> int:
    return sum(stored.values())


def twice(stored: Counter[str]) -> int:
    return total(stored) - len(stored)


def test_json_lines_as_the_only_storage(world: World) -> None:
    """After many kills and one run to the end every post is in the file, whole."""
    site, posts = site_for(world, KILLS)
    path = world.directory / "posts.jl"
    changes: dict[str, Any] = {"FEEDS": feed(path), "ITEM_PIPELINES": {}}
    kills, left_claimed = kill_again_and_again(
        world, site, lambda: total(posts_in(path)), 60, **changes
    )
    world.crawl(site, VALKEY_DEDUP_LEASE=1, **changes)
    stored = posts_in(path)
    assert kills >= KILLS // 2
    assert set(stored) == posts
    assert twice(stored) <= left_claimed
    assert world.remembered(posts) == posts
    assert_settled(world)


def test_csv_beside_a_pipeline(world: World) -> None:
    """With a file of CSV and a table every post is in both; a post is remembered when it is."""
    site, posts = site_for(world, KILLS)
    path = world.directory / "posts.csv"
    changes: dict[str, Any] = {
        "FEEDS": feed(path, "csv"),
        "ITEM_PIPELINES": {f"{STORAGES}.Store": 300},
    }
    kills, left_claimed = kill_again_and_again(
        world, site, lambda: total(posts_in(path)), 60, **changes
    )
    world.crawl(site, VALKEY_DEDUP_LEASE=1, **changes)
    assert kills >= KILLS // 2
    assert set(posts_in(path)) == set(world.stored) == posts
    assert twice(posts_in(path)) <= left_claimed
    assert twice(world.stored) <= left_claimed
    assert_settled(world)


def test_batches_to_an_s3_that_fails_half_of_the_time(world: World) -> None:
    """Kills and refused uploads at once: each post is stored by some run, and no batch lost."""
    site, posts = site_for(world, S3_KILLS)
    s3 = S3()
    changes: dict[str, Any] = {
        "FEEDS": {"s3://posts/%(batch_time)s-%(batch_id)d.jl": {"format": "jsonlines"}},
        "FEED_EXPORT_BATCH_ITEM_COUNT": 15,
        "ITEM_PIPELINES": {},
        **s3.settings,
    }
    try:
        s3.refuses = half_of_the_time(20261126)
        kills, left_claimed = kill_again_and_again(world, site, lambda: s3.uploads, 4, **changes)
        assert world.remembered(posts) <= set(s3.posts)
        s3.refuses = lambda: False
        world.crawl(site, VALKEY_DEDUP_LEASE=1, **changes)
        stored = s3.posts
    finally:
        s3.close()
    assert kills >= S3_KILLS // 2
    assert set(stored) == posts
    assert twice(stored) <= left_claimed
    assert_settled(world)
