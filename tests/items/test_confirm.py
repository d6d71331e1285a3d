"""CONFIRM: when a post counts as stored, and what becomes of it otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.crawls.world import World
from tests.support.patience import PATIENCE, wait_until
from tests.support.servers.site import pages_of
from tests.support.spiders.feeds import FEEDS
from tests.support.spiders.pipelines import PIPELINES
from tests.support.spiders.posts import CLASSES
from tests.support.spiders.storages import STORAGES

POSTS = range(50)
EVERY_POST = {str(post): 1 for post in POSTS}


def feed(world: World, name: str = "feed.jl", **options: Any) -> dict[str, dict[str, Any]]:
    """FEEDS with one file in the test's directory."""
    return {str(world.directory / name): {"format": "jsonlines", "overwrite": False, **options}}


def exported(directory: Path) -> list[int | str]:
    """The ids in all feeds, each as often as it stands there."""
    lines = [line for path in directory.glob("*.jl") for line in path.read_text().splitlines()]
    return sorted(json.loads(line)["post_id"] for line in lines)


def test_claimed_remembers_at_once(world: World) -> None:
    """With "claimed" one question does it all, and a storage that fails has lost the post."""
    site = world.site(pages_of(POSTS))
    stats = world.crawl(site, VALKEY_DEDUP_CONFIRM="claimed", refuse=[7])
    assert stats["dedup/valkey/keys"] == stats["dedup/items/new"] == 50
    assert "dedup/items/confirmed" not in stats
    world.crawl(site, VALKEY_DEDUP_CONFIRM="claimed")
    assert world.stored == {post: 1 for post in EVERY_POST if post != "7"}
    world.assert_settled()


def test_manual_remembers_what_the_storage_confirms(either_world: World) -> None:
    """With "manual" a storage that writes in batches confirms, or releases, each claim itself."""
    world = either_world
    site = world.site(pages_of(POSTS))
    pipelines = {f"{STORAGES}.ManualStore": 300}
    manual = {"ITEM_PIPELINES": pipelines, "VALKEY_DEDUP_CONFIRM": "manual"}
    stats = world.crawl(site, refuse=[7, 8], **manual)
    assert (stats["dedup/items/confirmed"], stats["dedup/items/released"]) == (48, 2)
    world.crawl(site, **manual)
    assert world.stored == EVERY_POST
    world.assert_settled()


def test_manual_frees_what_nobody_confirmed(world: World) -> None:
    """With "manual" a post whose claim is never settled is free at the end; the log says so."""
    site = world.site(pages_of(POSTS))
    world.crawl(site, VALKEY_DEDUP_CONFIRM="manual")
    assert "neither confirmed nor released, so free again: 50 posts" in world.log
    assert world.remembered(POSTS) == set()
    world.assert_settled()


def test_manual_releases_a_dropped_item(world: World) -> None:
    """With "manual" an item that is dropped before the storage gives its claim back by itself."""
    site = world.site(pages_of(POSTS))
    pipelines = {f"{PIPELINES}.Dropper": 200, f"{STORAGES}.ManualStore": 300}
    manual = {"ITEM_PIPELINES": pipelines, "VALKEY_DEDUP_CONFIRM": "manual"}
    stats = world.crawl(site, drop=[1, 2, 3], **manual)
    assert (stats["dedup/items/confirmed"], stats["dedup/items/released"]) == (47, 3)


def test_exported_remembers_after_the_feed_is_stored(either_world: World) -> None:
    """With "exported" nothing is remembered before the feed is stored, everything afterwards."""
    world = either_world
    site = world.site(pages_of(POSTS))
    # Not synced meanwhile, however slow the machine is.
    crawl = world.start(
        site, VALKEY_DEDUP_CONFIRM="exported", FEEDS=feed(world), linger=True, sync_interval=3600
    )
    wait_until(lambda: len(world.stored) == 50)
    assert world.remembered(POSTS) == set()
    (Path(crawl.job.directory) / "go").touch()
    stats = crawl.wait()
    assert stats["dedup/items/confirmed"] == 50
    assert world.remembered(POSTS) == set(EVERY_POST)
    world.crawl(site, VALKEY_DEDUP_CONFIRM="exported", FEEDS=feed(world))
    assert exported(world.directory) == list(POSTS)
    world.assert_settled()


def test_exported_in_batches(world: World) -> None:
    """With "exported" a feed of many files is remembered when all of them are stored."""
    site = world.site(pages_of([*POSTS, *POSTS]))
    feeds = feed(world, "feed-%(batch_id)d.jl", batch_item_count=7)
    stats = world.crawl(site, VALKEY_DEDUP_CONFIRM="exported", FEEDS=feeds)
    assert exported(world.directory) == list(POSTS)
    assert stats["feedexport/success_count/FileFeedStorage"] == 8
    assert stats["dedup/items/confirmed"] == 50
    world.assert_settled()


@pytest.mark.parametrize("batch", [0, 7, 1])
def test_exported_releases_what_could_not_be_stored(world: World, batch: int) -> None:
    """With "exported" a feed that cannot be stored leaves all its posts to the next run."""
    site = world.site(pages_of(POSTS))
    broken = {"broken://somewhere/%(batch_id)d": {"format": "jsonlines", "batch_item_count": batch}}
    stats = world.crawl(
        site,
        VALKEY_DEDUP_CONFIRM="exported",
        FEEDS=broken,
        FEED_STORAGES={"broken": f"{FEEDS}.BrokenStorage"},
    )
    assert stats["dedup/items/released"] == 50
    assert "dedup/items/confirmed" not in stats
    assert world.remembered(POSTS) == set()
    world.assert_settled()
    world.crawl(site, VALKEY_DEDUP_CONFIRM="exported", FEEDS=feed(world))
    assert exported(world.directory) == list(POSTS)


def test_exported_with_one_broken_feed_of_two(world: World) -> None:
    """With "exported" every feed must be stored: one that is not keeps all posts free."""
    feeds = feed(world) | {"broken://somewhere": {"format": "jsonlines"}}
    storages = {"broken": f"{FEEDS}.BrokenStorage"}
    stats = world.crawl(
        world.site(pages_of(POSTS)),
        VALKEY_DEDUP_CONFIRM="exported",
        FEEDS=feeds,
        FEED_STORAGES=storages,
    )
    assert stats["dedup/items/released"] == 50


def test_exported_releases_an_item_that_cannot_be_exported(world: World) -> None:
    """With "exported" a post that the exporter could not write is not remembered, others are."""
    pages = {0: [{"post_id": 1}, {"post_id": 2, "text": "unexportable"}, {"post_id": 3}]}
    stats = world.crawl(
        world.site(pages),
        VALKEY_DEDUP_CONFIRM="exported",
        FEEDS=feed(world),
        FEED_EXPORTERS={"jsonlines": f"{FEEDS}.PickyExporter"},
    )
    assert (stats["dedup/items/confirmed"], stats["dedup/items/released"]) == (2, 1)
    assert world.remembered([1, 2, 3]) == {"1", "3"}
    assert exported(world.directory) == [1, 3]


def test_exported_releases_all_if_a_file_cannot_be_finished(world: World) -> None:
    """With "exported" a file whose last bytes cannot be written counts as not stored."""
    stats = world.crawl(
        world.site(pages_of(POSTS)),
        VALKEY_DEDUP_CONFIRM="exported",
        FEEDS=feed(world),
        FEED_EXPORTERS={"jsonlines": f"{FEEDS}.UnfinishedExporter"},
    )
    assert stats["dedup/items/released"] == 50


def test_exported_confirms_at_once_what_no_feed_is_meant_for(world: World) -> None:
    """With "exported" an item that every feed filters out has been stored by its pipelines."""
    feeds = feed(world, item_classes=[f"{CLASSES}.PostItem"])
    stats = world.crawl(world.site(pages_of(POSTS)), VALKEY_DEDUP_CONFIRM="exported", FEEDS=feeds)
    assert stats["dedup/items/confirmed"] == 50


def test_exported_without_an_exporter_remembers_nothing(world: World) -> None:
    """With "exported" and feeds that Scrapy refuses nothing is stored, so nothing is remembered."""
    stats = world.crawl(
        world.site(pages_of(POSTS)),
        VALKEY_DEDUP_CONFIRM="exported",
        FEEDS={"nowhere://at/all": {"format": "jsonlines"}},
    )
    assert stats["dedup/items/released"] == 50
    world.assert_settled()


def test_exported_drops_twins_without_waiting(world: World) -> None:
    """With "exported" a twin of a post that waits for its feed is a duplicate at once."""
    stats = world.crawl(
        world.site(pages_of([7] * 40)),
        VALKEY_DEDUP_CONFIRM="exported",
        VALKEY_DEDUP_WAIT=2 * PATIENCE,
        FEEDS=feed(world),
    )
    assert stats["dedup/items/duplicate"] == 39


@pytest.mark.parametrize("kind", ["Post", "dict"])
def test_mark_lets_duplicates_through(world: World, kind: str) -> None:
    """With ON_DUPLICATE = "mark" a duplicate is stored too, with the field set."""
    site = world.site(pages_of([1, 2]))
    changes = {"VALKEY_DEDUP_ON_DUPLICATE": "mark", "kind": kind}
    world.crawl(site, **changes)
    stats = world.crawl(site, FEEDS=feed(world), **changes)
    assert stats["dedup/items/duplicate"] == stats["item_scraped_count"] == 2
    lines = (world.directory / "feed.jl").read_text().splitlines()
    assert [json.loads(line)["duplicate"] for line in lines] == [True, True]
    world.assert_settled()


@pytest.mark.parametrize("mode", ["manual", "exported"])
def test_a_drop_before_the_pipeline_touches_no_other_claim(world: World, mode: str) -> None:
    """An item that is dropped before it came here does not release the claim of the one before."""
    store = "ManualStore" if mode == "manual" else "Store"
    pipelines = {f"{PIPELINES}.Dropper": 50, f"{STORAGES}.{store}": 300}
    changes: dict[str, Any] = {"VALKEY_DEDUP_CONFIRM": mode, "ITEM_PIPELINES": pipelines}
    if mode == "exported":
        changes["FEEDS"] = feed(world)
    odd = [post for post in POSTS if post % 2]
    site = world.site(pages_of(POSTS, size=50))
    world.crawl(site, drop=odd, CONCURRENT_ITEMS=2, **changes)
    kept = {post for post in EVERY_POST if int(post) % 2 == 0}
    assert set(world.stored) == kept
    assert world.remembered(POSTS) == kept
    world.assert_settled()


def test_items_sent_by_a_pipeline_have_claims_of_their_own(world: World) -> None:
    """A pipeline that sends another item and waits for it leaves both claims in order."""
    pipelines = {f"{PIPELINES}.Parent": 200, f"{STORAGES}.Store": 300}
    site = world.site(pages_of(range(20)))
    stats = world.crawl(site, ITEM_PIPELINES=pipelines)
    assert stats["dedup/items/confirmed"] == 40
    assert "dedup/items/released" not in stats
    world.crawl(site, ITEM_PIPELINES=pipelines)
    assert set(world.stored.values()) == {1}
    assert len(world.stored) == 40


def test_exported_is_not_fooled_by_an_empty_feed(world: World) -> None:
    """With "exported" an empty feed that was stored does not stand in for one that was not."""
    feeds = feed(world, "empty.jl", item_classes=[f"{CLASSES}.PostItem"])
    feeds |= feed(world, "unfinished.csv", format="unfinished")
    stats = world.crawl(
        world.site(pages_of(POSTS)),
        VALKEY_DEDUP_CONFIRM="exported",
        FEEDS=feeds,
        FEED_EXPORTERS={"unfinished": f"{FEEDS}.UnfinishedExporter"},
    )
    assert stats["dedup/items/released"] == 50
    assert "dedup/items/confirmed" not in stats


def test_exported_needs_every_feed_to_be_open(world: World) -> None:
    """With "exported" a feed that could not be opened keeps all posts free."""
    feeds = feed(world) | {str(world.directory / "%(nonsense)s.jl"): {"format": "jsonlines"}}
    stats = world.crawl(world.site(pages_of(POSTS)), VALKEY_DEDUP_CONFIRM="exported", FEEDS=feeds)
    assert stats["dedup/items/released"] == 50
    assert world.remembered(POSTS) == set()


def test_exported_asks_a_filter_once(world: World) -> None:
    """With "exported" a filter that counts its items lets as many through as without the plugin."""
    feeds = feed(world, item_filter=f"{FEEDS}.FirstTen")
    stats = world.crawl(world.site(pages_of(POSTS)), VALKEY_DEDUP_CONFIRM="exported", FEEDS=feeds)
    assert len(exported(world.directory)) == 10
    assert stats["dedup/items/confirmed"] == 50
