"""What a crawl stores its posts with decides when they are stored; one line says what it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.crawls.feeds import feed, posts_in
from tests.support.crawls.world import World
from tests.support.servers.site import pages_of
from tests.support.spiders.feeds import FEEDS
from tests.support.spiders.pipelines import PIPELINES
from tests.support.spiders.storages import STORAGES

POSTS = range(20)
EVERY_POST = {str(post) for post in POSTS}
TWINS = [*POSTS, *POSTS]
NO_PIPELINE: dict[str, Any] = {"ITEM_PIPELINES": {}}


def warnings(world: World) -> list[str]:
    """The plugin's warnings and errors in the newest log."""
    return [
        line
        for line in world.log.splitlines()
        if "[scrapy_valkey_dedup" in line and ("] WARNING" in line or "] ERROR" in line)
    ]


def test_a_trial_run_remembers_nothing(either_world: World) -> None:
    """Without any storage 20 of 20 posts are new to the next run, and twins are dropped."""
    world = either_world
    site = world.site(pages_of(TWINS))
    stats = world.crawl(site, **NO_PIPELINE)
    assert (stats["dedup/items/new"], stats["dedup/items/duplicate"]) == (20, 20)
    assert stats["dedup/items/not_remembered"] == 20
    assert "dedup/items/confirmed" not in stats
    assert world.remembered(POSTS) == set()
    (warning,) = warnings(world)
    assert "Nothing that can be seen stores the posts" in warning
    assert "VALKEY_DEDUP_CONFIRM = 'scraped'" in warning
    assert world.log.splitlines()[-1].endswith(
        "40 posts seen (20 new, 20 duplicates), 20 not remembered, as nothing behind the "
        "deduplication stores them"
    )
    assert world.crawl(site)["dedup/items/confirmed"] == 20
    assert world.stored == dict.fromkeys(EVERY_POST, 1)
    assert world.crawl(site, **NO_PIPELINE)["dedup/items/duplicate"] == 40
    world.assert_settled()


def test_a_trial_run_remembers_no_pages(world: World) -> None:
    """Without any storage no page with posts is done, in either mode of the request filter."""
    site = world.site(pages_of(POSTS))
    for changes in ({"VALKEY_DEDUP_JOB": "j"}, {"VALKEY_DEDUP_REQUESTS": "stored"}):
        stats = world.crawl(site, **changes, **NO_PIPELINE)
        assert stats["dedup/requests/released"] == 1
        assert "dedup/requests/confirmed" not in stats


def test_storage_by_an_extension_is_obeyed(world: World) -> None:
    """With "scraped" posts are remembered though nothing that can be seen stores them."""
    stats = world.crawl(world.site(pages_of(POSTS)), VALKEY_DEDUP_CONFIRM="scraped", **NO_PIPELINE)
    assert stats["dedup/items/confirmed"] == 20
    assert warnings(world) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "there are no feeds, so it is 'scraped'"),
        ({"FEEDS": {"posts.jl": {"format": "jsonlines"}}}, "there are feeds, so it is 'exported'"),
    ],
)
def test_the_default_is_told(world: World, changes: dict[str, Any], line: str) -> None:
    """One line at the start says when a post counts as stored, and why."""
    world.crawl(world.site(pages_of(POSTS)), **changes)
    assert world.log.count(line) == world.log.count("VALKEY_DEDUP_CONFIRM is not set") == 1
    assert warnings(world) == []


def test_a_feed_that_overwrites_loses_no_post(world: World) -> None:
    """With -O as the only storage the second day's file has all 25 posts, not just the new 5."""
    path = world.directory / "posts.jl"
    feeds = feed(path) | {str(path): {"format": "jsonlines", "overwrite": True}}
    for last in (20, 25):
        world.crawl(world.site(pages_of(range(last))), FEEDS=feeds, **NO_PIPELINE)
        (warning,) = warnings(world)
        assert "posts.jl overwrites in every run" in warning
        assert "%(batch_time)s" in warning
        assert "or append to it (-o instead of -O, or 'overwrite': False)" in warning
        assert set(posts_in(path)) == {str(post) for post in range(last)}
    assert world.remembered(range(25)) == set()


def test_workers_that_start_in_one_second(world: World) -> None:
    """One warning where workers of a job may overwrite each other's files, with the cure."""
    for time, found in (("time", 1), ("batch_time", 0)):
        uri = str(world.directory / f"%({time})s.jl")
        feeds = {uri: {"format": "jsonlines", "overwrite": True}}
        world.crawl(world.site({}), FEEDS=feeds, VALKEY_DEDUP_JOB="today")
        assert len(warnings(world)) == found
        assert all("Write %(batch_time)s instead" in line for line in warnings(world))


def test_a_feed_that_overwrites_what_was_remembered(world: World) -> None:
    """After a run with -o the file of one with -O has all 20 posts, not none."""
    site, path = world.site(pages_of(POSTS)), world.directory / "posts.jl"
    world.crawl(site, FEEDS=feed(path), **NO_PIPELINE)
    assert world.remembered(POSTS) == EVERY_POST
    overwrites = {str(path): {"format": "jsonlines", "overwrite": True}}
    stats = world.crawl(site, FEEDS=overwrites, **NO_PIPELINE)
    assert stats["dedup/items/not_remembered"] == 20
    assert set(posts_in(path)) == EVERY_POST


@pytest.mark.parametrize(
    "changes",
    [
        {"ITEM_PIPELINES": {f"{PIPELINES}.HandsOn": 300}},
        {"ITEM_PIPELINES": {f"{PIPELINES}.Dropper": 50}},
        {"ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 300}, "IMAGES_STORE": "i"},
        {"ITEM_PIPELINES": {}, "FEEDS": {"/dev/null": {"format": "jsonlines"}}},
    ],
    ids=["a pipeline that hands on", "one before ours", "one that fetches images", "/dev/null"],
)
def test_what_stores_nothing_is_no_storage(world: World, changes: dict[str, Any]) -> None:
    """A pipeline that cannot store posts, or a feed to /dev/null, has 20 of 20 not remembered."""
    stats = world.crawl(world.site(pages_of(POSTS)), kind="dict", **changes)
    assert stats["dedup/items/not_remembered"] == 20
    assert world.log.count("Nothing that can be seen stores the posts") == 1
    assert world.remembered(POSTS) == set()


@pytest.mark.parametrize(
    ("before", "found"),
    [
        (f"{STORAGES}.Store", "as nothing behind the deduplication stores the posts, none is"),
        (f"{PIPELINES}.Dropper", f"If {PIPELINES}.Dropper stores them, give it a number above 100"),
    ],
    ids=["named like a storage", "named like none"],
)
def test_a_storage_that_stands_before(world: World, before: str, found: str) -> None:
    """One warning says that none is remembered and which pipeline goes behind the deduplication."""
    world.crawl(world.site(pages_of(POSTS)), ITEM_PIPELINES={before: 50})
    (warning,) = warnings(world)
    assert found in warning
    assert before in warning
    assert "number above 100" in warning
    assert world.remembered(POSTS) == set()


def test_an_identity_that_is_too_coarse_is_told(world: World) -> None:
    """If 20 different posts have 1 identity, one warning says so; half of them does not."""
    site = world.site(pages_of(POSTS))
    world.crawl(site, VALKEY_DEDUP_FIELDS={"*": {"fields": ["duplicate"], "kind": "p"}})
    (warning,) = warnings(world)
    assert "Of the first 20 posts of this run only 1 differ in their identity" in warning
    world.crawl(world.site(pages_of(TWINS)))
    assert warnings(world) == []


def test_dicts_of_two_kinds_under_one_identity_are_told(world: World) -> None:
    """A post and a comment with the same id: one warning with the fields; one field less: none."""
    post = {"post_id": 1, "text": "a", "title": "b"}
    for other, told in (({"post_id": 1, "text": "a", "author": "c"}, 1), ({"post_id": 1}, 0)):
        world.crawl(world.site({0: [post, other]}), kind="dict", VALKEY_DEDUP_FIELDS=["post_id"])
        found = [line for line in warnings(world) if "same identity have different" in line]
        assert len(found) == told
        assert all("title in one, author in the other" in line for line in found)


@pytest.mark.parametrize(
    ("uri", "options", "warned"),
    [
        ("posts.json", {}, 0),
        ("posts.json", {"overwrite": True}, 1),
        ("posts-%(name)s-%(batch_id)d.json", {"overwrite": True, "batch_item_count": 9}, 1),
        ("posts-%(time)s.json", {"overwrite": True}, 0),
        ("posts-%(time).10s.json", {"overwrite": True}, 1),
        ("posts-%(country)s.json", {"overwrite": True, "uri_params": f"{FEEDS}.country"}, 1),
        ("posts-%(batch_time)s.json", {"overwrite": True, "batch_item_count": 9}, 0),
        ("s3://bucket/posts.json", {}, 1),
        ("s3://bucket/posts.json", {"overwrite": False}, 1),
        ("ftp://user:hidden@127.0.0.1:9/posts.json", {}, 1),
        ("ftp://127.0.0.1:9/posts.json", {"overwrite": False}, 0),
        ("stdout:", {}, 0),
    ],
)
def test_feeds_that_overwrite_are_named(
    world: World, uri: str, options: dict[str, Any], warned: int
) -> None:
    """One warning for each feed whose file replaces that of an earlier run, with the cure.

    That is never to append: two JSON lists in one file are no JSON.
    """
    world.crawl(
        world.site({}),
        FEEDS={uri: {"format": "json", **options}},
        FEED_STORE_EMPTY=False,
        AWS_REGION_NAME="us-east-1",
    )
    found = warnings(world)
    assert len(found) == warned
    assert all("overwrites in every run" in line and "hidden" not in line for line in found)
    assert all("%(batch_time)s" in line and "append" not in line for line in found)


@pytest.mark.parametrize(
    ("pipelines", "level", "named"),
    [
        ({f"{STORAGES}.Store": 50}, "WARNING", f"{STORAGES}.Store"),
        ({"scrapy.pipelines.images.ImagesPipeline": 1}, "WARNING", "ImagesPipeline"),
        ({f"{PIPELINES}.Dropper": 50}, "INFO", f"{PIPELINES}.Dropper"),
        ({f"{STORAGES}.Store": 300, "scrapy_valkey_dedup.DedupPipeline": 900}, "WARNING", "Store"),
    ],
)
def test_pipelines_before_the_deduplication_are_named(
    world: World, pipelines: dict[str, int], level: str, named: str
) -> None:
    """One line says which pipelines handle every duplicate; a warning if one seems to store."""
    world.crawl(
        world.site({}), ITEM_PIPELINES=pipelines, IMAGES_STORE=str(world.directory / "images")
    )
    lines = [line for line in world.log.splitlines() if "Before the deduplication" in line]
    (line,) = lines
    assert f"] {level}: " in line
    assert "It handles every duplicate, too" in line
    own = pipelines.get("scrapy_valkey_dedup.DedupPipeline", 100)
    assert (f"Give it a number above {own}, which" in line) == (level == "WARNING")
    assert named in line


def test_an_item_processor_of_the_users(world: World) -> None:
    """With another ITEM_PROCESSOR a pipeline before ours is refused with the cure."""
    site = world.site(pages_of(POSTS))
    other = {"ITEM_PROCESSOR": f"{PIPELINES}.OwnProcessor"}
    assert world.crawl(site, **other)["dedup/items/confirmed"] == 20
    crawl = world.start(site, ITEM_PIPELINES={f"{PIPELINES}.Dropper": 50}, **other)
    crawl.process.join()
    assert "set scrapy_valkey_dedup.DedupItemProcessor" in world.log
    extends = {"ITEM_PROCESSOR": f"{PIPELINES}.OwnDedupProcessor"}
    pipelines = {f"{PIPELINES}.Dropper": 50, f"{STORAGES}.Store": 300}
    stats = world.crawl(site, ITEM_PIPELINES=pipelines, drop=[3], **extends)
    assert stats["dedup/items/duplicate"] == 19


def test_an_item_processor_of_old_is_refused(world: World) -> None:
    """One that overrides the deprecated process_item is refused: ends come in other contexts."""
    crawl = world.start(world.site({}), ITEM_PROCESSOR=f"{PIPELINES}.OldProcessor")
    crawl.process.join()
    assert "override process_item_async instead" in world.log
