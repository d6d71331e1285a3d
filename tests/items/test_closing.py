"""The end of a crawl waits for what is still being stored, and gives back nothing of it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.crawls.items import Crawl
from tests.support.crawls.world import World
from tests.support.ledgers import heartbeats
from tests.support.patience import wait_until
from tests.support.servers.site import pages_of
from tests.support.spiders.feeds import FEEDS
from tests.support.spiders.pipelines import PIPELINES
from tests.support.spiders.storages import STORAGES

POSTS = range(50)
EVERY_POST = {str(post) for post in POSTS}
MODES: dict[str, dict[str, Any]] = {
    "exported": {
        "FEEDS": {"held://all": {"format": "jsonlines"}},
        "FEED_STORAGES": {"held": f"{FEEDS}.HeldStorage"},
        "ITEM_PIPELINES": {},
    },
    "manual": {
        "VALKEY_DEDUP_CONFIRM": "manual",
        "ITEM_PIPELINES": {f"{STORAGES}.LateManualStore": 300},
    },
}


def say(crawl: Crawl, word: str) -> None:
    Path(crawl.job.directory, word).touch()


def start_closing(world: World, mode: str, **changes: Any) -> Crawl:
    """A crawl that stands at its natural end, with the storing of all posts still to come."""
    crawl = world.start(world.site(pages_of(POSTS)), **MODES[mode], **changes)
    crawl.wait_for("Closing spider (finished)")
    return crawl


@pytest.mark.parametrize("mode", MODES)
def test_a_signal_while_the_spider_closes(either_world: World, mode: str) -> None:
    """After a SIGTERM while the last 50 posts are being stored all 50 are remembered."""
    crawl = start_closing(either_world, mode)
    crawl.signal(signal.SIGTERM)
    crawl.wait_for("The engine stops while the spider is being closed")
    assert len(either_world.claims) == 50
    say(crawl, "go")
    assert crawl.wait()["dedup/items/confirmed"] == 50
    assert either_world.remembered(POSTS) == EVERY_POST
    either_world.assert_settled()


def test_another_pipeline_that_cannot_close(world: World) -> None:
    """A storage that is at its last 50 posts when another pipeline fails to close is waited for."""
    pipelines = {f"{STORAGES}.LateManualStore": 300, f"{PIPELINES}.FailsToClose": 400}
    crawl = world.start(
        world.site(pages_of(POSTS)), VALKEY_DEDUP_CONFIRM="manual", ITEM_PIPELINES=pipelines
    )
    crawl.wait_for("Closing spider (finished)")
    say(crawl, "go")
    assert crawl.wait()["dedup/items/confirmed"] == 50
    assert world.remembered(POSTS) == set(world.stored) == EVERY_POST
    world.assert_settled()


def test_nothing_is_waited_for_that_does_not_come(world: World) -> None:
    """If all pipelines have closed, one of them badly, unsettled posts are not waited for."""
    pipelines = {f"{STORAGES}.NeverSettles": 300, f"{PIPELINES}.FailsToClose": 400}
    stats = world.crawl(
        world.site(pages_of(POSTS)),
        longest_end=3600,
        VALKEY_DEDUP_CONFIRM="manual",
        ITEM_PIPELINES=pipelines,
    )
    assert stats["dedup/items/released"] == 50
    world.assert_settled()


def test_a_storage_that_cannot_close_is_told_of(world: World) -> None:
    """Without "manual" one line says what a pipeline that fails to close may have lost."""
    pipelines = {f"{STORAGES}.Store": 300, f"{PIPELINES}.FailsToClose": 400}
    world.crawl(world.site(pages_of(POSTS)), ITEM_PIPELINES=pipelines)
    assert world.log.count("A pipeline could not be closed (OSError)") == 1


def test_a_confirmation_that_comes_too_late_still_counts(world: World) -> None:
    """What is stored after the longest wait stays claimed, and the next run remembers all 50."""
    crawl = start_closing(
        world, "manual", longest_end=0.1, EXTENSIONS={f"{PIPELINES}.StaysAtTheEnd": 0}
    )
    crawl.signal(signal.SIGTERM)
    crawl.wait_for("The spider is still being closed")
    crawl.wait_for("50 posts seen")
    assert len(world.claims) == 50
    assert heartbeats(world.url, world.namespace) == 1
    say(crawl, "go")
    wait_until(lambda: set(world.stored) == EVERY_POST)
    say(crawl, "end")
    crawl.wait()
    assert world.remembered(POSTS) == set()
    stats = world.crawl(world.sites[0], VALKEY_DEDUP_DATA_DIR=data_dir(crawl))
    assert stats["dedup/items/recovered"] == 50
    assert stats["dedup/items/duplicate"] == 50
    assert world.stored == dict.fromkeys(EVERY_POST, 1)


def data_dir(crawl: Crawl) -> str:
    """Where a crawl that sets nothing keeps what it could not confirm."""
    return str(Path(crawl.job.directory, ".scrapy", "valkey-dedup"))
