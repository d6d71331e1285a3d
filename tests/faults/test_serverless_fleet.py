"""Fifty spiders at the stand-in of ElastiCache Serverless, with a limit of 5,000 ECPU a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from bench.serverless import Serverless
from scrapy_valkey_dedup.stats import Stats
from tests.support import barrier
from tests.support.crawls.items import Crawl
from tests.support.crawls.world import World
from tests.support.outages import BACK, BEGIN, account_of, second_copies, total
from tests.support.patience import PATIENCE, wait_until
from tests.support.servers.site import pages_of
from tests.support.servers.standin import a_serverless

logger = logging.getLogger(__name__)

SPIDERS = 50
LIMIT = 5_000
POSTS = range(200)
AWAY = 30  # seconds


@pytest.fixture
def standin() -> Iterator[Serverless]:
    """With a limit, beyond which it answers errors."""
    with a_serverless(persistent=True, ecpu_limit=LIMIT) as made:
        yield made


@pytest.fixture
def fleet(standin: Serverless, tmp_path: Path) -> Iterator[World]:
    """Crawls there."""
    made = World(standin.url, "fleet", tmp_path)
    yield made
    made.close()


def start_at_once(fleet: World) -> list[Crawl]:
    """Starts fifty spiders that begin at the same moment; each reads all pages, in its own order.

    The site serves nothing yet.
    """
    folder = fleet.directory / "barrier"
    folder.mkdir()
    site = fleet.site(pages_of(POSTS, size=10))
    site.free = 0
    crawls = [
        fleet.start(
            site, seed=seed, EXTENSIONS={barrier.HERE: 0}, **{barrier.FOLDER: str(folder)},
            VALKEY_DEDUP_DATA_DIR=str(fleet.directory / "data"), CONCURRENT_REQUESTS=1,
        )
        for seed in range(SPIDERS)
    ]  # fmt: skip
    wait_until(lambda: barrier.waiting(folder) == SPIDERS)
    (folder / "go").touch()
    return crawls


def all_say(crawls: list[Crawl], words: str) -> bool:
    """Whether all have logged it; fails if one has ended without."""
    for crawl in crawls:
        if words not in crawl.log:
            assert crawl.process.is_alive(), crawl.log[-3000:]
            return False
    return True


@pytest.mark.slow
@pytest.mark.long
def test_fifty_spiders_start_at_once_and_meet_an_outage(fleet: World, standin: Serverless) -> None:
    """Fifty starts take at most 20 calls each; after 30 s of outage all fifty come back.

    Nothing passes unchecked but in the outage, nothing is lost, and the rest is stored once.
    """
    fleet.crawl(fleet.site(pages_of(["first"])))  # the first of all gives the ledger its identity
    standin.meter(reset=True)
    crawls = start_at_once(fleet)
    wait_until(lambda: all_say(crawls, "Spider opened") and standin.meter()["calls"])
    site = fleet.sites[-1]
    wait_until(lambda: site.kept_waiting >= SPIDERS)  # each asks for its first page
    started = standin.meter(reset=True)
    logger.info("fifty starts: %s", started)
    answered = sum(started["calls"].values()) - started["answers"].get("throttled", 0)
    assert answered <= 20 * SPIDERS
    assert not any(BEGIN["pass"] in crawl.log for crawl in crawls)

    site.free += 4 * SPIDERS
    wait_until(lambda: site.kept_waiting >= SPIDERS)
    standin.freeze()
    began = time.monotonic()
    site.free += 2 * SPIDERS
    wait_until(lambda: all_say(crawls, BEGIN["pass"]))
    time.sleep(max(0.0, began + AWAY - time.monotonic()))
    standin.thaw()
    wait_until(lambda: all_say(crawls, BACK))
    logger.info("fifty back: %s", standin.meter(reset=True))
    site.free = inf

    stats = [account_of(crawl, "pass", PATIENCE) for crawl in crawls]
    assert [found["dedup/valkey/outages"] for found in stats] == [1] * SPIDERS
    assert {found["finish_reason"] for found in stats} == {"finished"}
    assert set(fleet.stored) == {"first", *map(str, POSTS)}
    assert second_copies(fleet.stored) <= total(stats, "unchecked")
    assert total(stats, "unconfirmed") == 0
    assert fleet.remembered(POSTS) == {str(post) for post in POSTS}
    fleet.assert_settled()
    logger.info("throttled: %d", sum(found.get(Stats.THROTTLED, 0) for found in stats))
