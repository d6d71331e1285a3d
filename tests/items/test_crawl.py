"""Real crawls: which posts are stored, remembered and dropped, and what stats and log say."""

from __future__ import annotations

import signal
from math import inf
from pathlib import Path

import pytest

from tests.support.crawls.world import World
from tests.support.outages import start_half
from tests.support.patience import wait_until
from tests.support.servers.site import pages_of
from tests.support.spiders.pipelines import PIPELINES
from tests.support.spiders.storages import STORAGES

HUNDRED = range(100)


def test_a_second_run_stores_nothing(either_world: World) -> None:
    """What one run has stored, the next run drops."""
    world = either_world
    site = world.site(pages_of(HUNDRED))
    first = world.crawl(site)
    second = world.crawl(site)
    assert world.stored == {str(post): 1 for post in HUNDRED}
    assert (first["dedup/items/new"], first["dedup/items/confirmed"]) == (100, 100)
    assert second["dedup/items/duplicate"] == 100
    assert "item_scraped_count" not in second
    assert second["item_dropped_reasons_count/DuplicatePost"] == 100
    assert world.log.splitlines()[-1].endswith(
        "Deduplication of spider 'posts': 100 posts seen (100 duplicates)"
    )
    assert "Dropped" not in world.log
    world.assert_settled()


def test_only_new_posts_are_stored(either_world: World) -> None:
    """A second run stores what has appeared since, and nothing else."""
    world = either_world
    world.crawl(world.site(pages_of(HUNDRED)))
    stats = world.crawl(world.site(pages_of(range(60, 160))))
    assert world.stored == {str(post): 1 for post in range(160)}
    assert (stats["dedup/items/new"], stats["dedup/items/duplicate"]) == (60, 40)
    assert world.log.splitlines()[-1].endswith(
        "spider 'posts': 100 posts seen (60 new, 40 duplicates), 60 stored and remembered"
    )


def test_one_round_trip_serves_many_posts(world: World) -> None:
    """Posts that wait at the same moment go to Valkey together."""
    stats = world.crawl(world.site(pages_of(range(1000), size=100)))
    assert stats["dedup/valkey/keys"] == 2000
    assert stats["dedup/valkey/batches"] < 200


@pytest.mark.parametrize("kind", ["Post", "dict", "PostItem"])
def test_every_kind_of_item_is_deduplicated(world: World, kind: str) -> None:
    """Dataclasses, dicts and Scrapy items are told apart by the same settings."""
    site = world.site(pages_of([*HUNDRED, *HUNDRED]))
    world.crawl(site, kind=kind)
    assert world.stored == {str(post): 1 for post in HUNDRED}


def test_items_from_start_are_deduplicated(either_world: World) -> None:
    """Items that a spider yields from start() pass the same way."""
    world = either_world
    items = [{"post_id": post % 30} for post in range(60)]
    world.crawl(world.site({}), items=items)
    assert world.stored == {str(post): 1 for post in range(30)}
    world.assert_settled()


def test_a_failing_storage_loses_nothing(either_world: World) -> None:
    """Posts that the storage refused in one run are stored by the next, the others not again."""
    world = either_world
    posts = range(500)
    site = world.site(pages_of(posts))
    stats = world.crawl(site, refuse=[post for post in posts if post % 2])
    assert (stats["dedup/items/confirmed"], stats["dedup/items/released"]) == (250, 250)
    world.assert_settled()
    world.crawl(site)
    assert world.stored == {str(post): 1 for post in posts}


def test_a_dropping_pipeline_loses_nothing(either_world: World) -> None:
    """Posts that a later pipeline dropped are free for the next run."""
    world = either_world
    posts = range(500)
    site = world.site(pages_of(posts))
    pipelines = {f"{PIPELINES}.Dropper": 200, f"{STORAGES}.Store": 300}
    stats = world.crawl(site, ITEM_PIPELINES=pipelines, drop=[post for post in posts if post % 2])
    assert stats["dedup/items/released"] == 250
    world.crawl(site, ITEM_PIPELINES=pipelines)
    assert world.stored == {str(post): 1 for post in posts}


def test_a_replaced_item_keeps_its_claim(either_world: World) -> None:
    """A later pipeline may hand on another object of another type."""
    world = either_world
    site = world.site(pages_of(HUNDRED))
    pipelines = {f"{PIPELINES}.Replacer": 200, f"{STORAGES}.Store": 300}
    stats = world.crawl(site, ITEM_PIPELINES=pipelines)
    assert stats["dedup/items/confirmed"] == 100
    world.crawl(site, ITEM_PIPELINES=pipelines)
    assert world.stored == {str(post): 1 for post in HUNDRED}
    world.assert_settled()


def test_twins_of_one_run_wait_for_each_other(world: World) -> None:
    """Of many items with one identity, met at once, one is stored and the others are duplicates."""
    site = world.site(pages_of([7] * 60, size=30))
    stats = world.crawl(site, delay=0.05)
    assert world.stored == {"7": 1}
    assert (stats["dedup/items/new"], stats["dedup/items/duplicate"]) == (1, 59)


def test_a_twin_stores_what_the_first_could_not(world: World) -> None:
    """If the first of two twins is dropped on the way, the second gets its chance."""
    pages = {0: [{"post_id": 7, "text": "first"}, {"post_id": 7, "text": "second"}]}
    stats = world.crawl(
        world.site(pages),
        ITEM_PIPELINES={f"{PIPELINES}.DropFirst": 200, f"{STORAGES}.Store": 300},
        delay=0.05,
    )
    assert world.stored == {"7": 1}
    assert (stats["dedup/items/new"], stats["dedup/items/released"]) == (2, 1)
    world.assert_settled()


def test_a_twin_does_not_wait_for_ever(world: World) -> None:
    """A twin whose first takes longer than WAIT is dropped as in flight."""
    stats = world.crawl(world.site(pages_of([7, 7])), delay=1, VALKEY_DEDUP_WAIT=0.1)
    assert (stats["dedup/items/new"], stats["dedup/items/in_flight"]) == (1, 1)
    assert world.stored == {"7": 1}


def test_posts_of_a_live_run_are_waited_for(world: World) -> None:
    """A post that another run is storing counts as a duplicate once that run has stored it."""
    site = world.site(pages_of([7]))
    slow = world.start(site, delay=1.5)
    wait_until(lambda: world.claims)
    stats = world.crawl(site)
    assert slow.wait()["dedup/items/confirmed"] == 1
    assert stats["dedup/items/duplicate"] == 1
    assert world.stored == {"7": 1}


def test_a_live_run_is_not_waited_for_longer_than_wait(world: World) -> None:
    """A post that a live run holds for longer than WAIT is dropped as in flight."""
    site = world.site(pages_of([7]))
    slow = world.start(site, delay=30, ITEM_PIPELINES={f"{STORAGES}.HeldStore": 300})
    wait_until(lambda: world.claims)
    stats = world.crawl(site, VALKEY_DEDUP_WAIT=0.2)
    assert stats["dedup/items/in_flight"] == 1
    assert "1 being stored by another run" in world.log
    (Path(slow.job.directory) / "hurry").touch()
    slow.wait()
    assert world.stored == {"7": 1}


def test_what_a_live_run_gives_back_is_taken(world: World) -> None:
    """If the run that holds a post fails to store it, the run that waits stores it."""
    site = world.site(pages_of([7]))
    failing = world.start(site, delay=1, refuse=[7])
    wait_until(lambda: world.claims)
    stats = world.crawl(site)
    assert failing.wait()["dedup/items/released"] == 1
    assert stats["dedup/items/confirmed"] == 1
    assert world.stored == {"7": 1}


def test_what_a_killed_run_held_is_taken_over(world: World) -> None:
    """The posts of a run that was killed a moment ago are stored by the run that meets them."""
    site = world.site(pages_of(range(20)))
    killed = world.start(site, delay=30, VALKEY_DEDUP_LEASE=1)
    wait_until(lambda: len(world.claims) == 20)
    killed.kill()
    stats = world.crawl(site, VALKEY_DEDUP_LEASE=1, VALKEY_DEDUP_WAIT=0.2)
    assert stats["dedup/items/taken_over"] == 20
    assert world.stored == {str(post): 1 for post in range(20)}
    world.assert_settled()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_crawl_confirms_what_it_stored(either_world: World, number: int) -> None:
    """After SIGTERM and after Ctrl-C every stored post is remembered, and no other."""
    world = either_world
    posts = range(5000)
    site = world.site(pages_of(posts))
    crawl = start_half(world, site, delay=0.01)
    crawl.signal(number)
    site.free = inf
    stats = crawl.wait()
    assert stats["finish_reason"] == "shutdown"
    kept = set(world.stored)
    assert 100 < len(kept) < 5000
    assert world.remembered(posts) == kept
    assert world.log.splitlines()[-1].count("Deduplication of spider ") == 1
    world.assert_settled()


def test_the_plugin_can_be_switched_off(world: World) -> None:
    """VALKEY_DEDUP_ENABLED = False leaves plain Scrapy, whatever else is set."""
    off = {"VALKEY_DEDUP_ENABLED": False, "VALKEY_DEDUP_NONSENSE": 1}
    stats = world.crawl(world.site(pages_of([1, 1])), **off)
    assert world.stored == {"1": 2}
    assert not any(name.startswith("dedup/") for name in stats)


def test_the_pipeline_can_be_enabled_by_hand(world: World) -> None:
    """Without the add-on, the classical way."""
    pipelines = {"scrapy_valkey_dedup.DedupPipeline": 100, f"{STORAGES}.Store": 300}
    world.crawl(world.site(pages_of([1, 1, 2])), ADDONS={}, ITEM_PIPELINES=pipelines)
    assert world.stored == {"1": 1, "2": 1}


def test_a_pipeline_of_the_users_own_takes_the_place(world: World) -> None:
    """A subclass placed by hand is left alone: the add-on does not put a second one beside it."""
    pipelines = {f"{PIPELINES}.OwnPipeline": 100, f"{STORAGES}.Store": 300}
    world.crawl(world.site(pages_of([1, 1, 2])), ITEM_PIPELINES=pipelines)
    assert world.stored == {"1": 1, "2": 1}


def test_two_pipelines_are_refused(world: World) -> None:
    """Two of them would wait for each other: the crawl does not start, and the message says why."""
    pipelines = {f"{PIPELINES}.OwnPipeline": 100, "scrapy_valkey_dedup.DedupPipeline": 110}
    world.crawl(world.site(pages_of([1])), ITEM_PIPELINES=pipelines | {f"{STORAGES}.Store": 300})
    assert "ITEM_PIPELINES enables the deduplication pipeline twice" in world.log
    assert world.stored == {}


def test_an_identity_function_decides(world: World) -> None:
    """VALKEY_DEDUP_IDENTITY names a function; None from it is a post without an identity."""
    stats = world.crawl(
        world.site(pages_of([1, "1", 2, "none"])), VALKEY_DEDUP_IDENTITY=f"{PIPELINES}.fingerprint"
    )
    assert world.stored == {"1": 1, "2": 1, "none": 1}
    assert stats["dedup/items/unkeyed"] == 1


@pytest.mark.parametrize(
    ("policy", "kept", "stat", "fate"),
    [
        ("pass", 2, "item_scraped_count", "was stored unchecked, and will be stored again"),
        ("drop", 0, "item_dropped_reasons_count/DropItem", "was dropped"),
        ("error", 0, "log_count/ERROR", "ended as item_error"),
    ],
)
def test_posts_without_identity(world: World, policy: str, kept: int, stat: str, fate: str) -> None:
    """A post without an identity passes, is dropped or is an error; a run of only such is told."""
    stats = world.crawl(world.site(pages_of(["", ""])), VALKEY_DEDUP_ON_UNKEYED=policy)
    assert sum(world.stored.values()) == kept
    assert (stats["dedup/items/unkeyed"], stats[stat]) == (2, 2)
    assert world.log.count("its field 'post_id' is missing or empty") == 1
    (warning,) = [line for line in world.log.splitlines() if "Nothing was deduplicated" in line]
    assert "WARNING: Nothing was deduplicated, as no item of this run has an identity" in warning
    assert f"(2 items): each {fate}" in warning
    assert "Let VALKEY_DEDUP_FIELDS name fields that the items have" in warning


def test_the_fields_of_an_item_without_identity(world: World) -> None:
    """The warning names the field that a dict does not have and those it has, and no value."""
    items = [{"id": "secret", "text": "words"}, {"post_id": 1}, {"url": "another"}]
    stats = world.crawl(world.site({}), kind="dict", items=items)
    assert stats["dedup/items/unkeyed"] == 2
    (warning,) = [line for line in world.log.splitlines() if "has no identity" in line]
    assert "it has no field 'post_id'; its fields are 'id', 'text'." in warning
    assert "secret" not in warning
    assert "Nothing was deduplicated" not in world.log


def test_odd_ids_do_no_harm(world: World) -> None:
    """Case, surrogates and length make different posts; an empty id makes none."""
    long = "x" * 10_000_000
    odd = ["CxYzAbC", "cXyZaBc", "\ud800", "\ud801", long, long + "y", " ", "a\nb", "{}*?"]
    site = world.site({0: [{"post_id": post} for post in [*odd, *odd]]})
    stats = world.crawl(site, ITEM_PIPELINES={}, LOG_LEVEL="WARNING")
    assert stats["item_scraped_count"] == len(odd) - 1 + 2  # the blank one passes twice
    assert stats["dedup/items/unkeyed"] == 2
    assert stats["dedup/items/duplicate"] == len(odd) - 1
    assert "Traceback" not in world.log
