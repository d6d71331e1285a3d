"""Crawls inside the tests' own reactor: ``pytest --reactor=asyncio tests/in_reactor``."""

from __future__ import annotations

import asyncio

import pytest_twisted
from scrapy.crawler import AsyncCrawlerRunner
from scrapy.utils.defer import deferred_from_coro

from tests.support.crawls.items import stored
from tests.support.crawls.world import World
from tests.support.patience import PATIENCE
from tests.support.servers.site import pages_of
from tests.support.spiders.items import settings_of
from tests.support.spiders.jobs import Job
from tests.support.spiders.posts import Posts


@pytest_twisted.ensureDeferred
async def test_two_crawls_in_one_process(world: World) -> None:
    """Two crawlers of one process are two runs: they share the ledger, and nothing else."""
    site = world.site(pages_of(range(200)))
    settings = {
        "VALKEY_DEDUP_URL": world.url,
        "VALKEY_DEDUP_NAMESPACE": world.namespace,
        "LOG_ENABLED": False,
        "ASYNCIO_EVENT_LOOP": None,  # the reactor is there already, with a loop of its own
    }
    directory, pages, options = str(world.directory), sorted(site.pages), {"delay": 0.001}
    jobs = [Job(site.url, pages, directory, settings, options, seed) for seed in (1, 2)]

    async def crawl(job: Job) -> int:
        runner = AsyncCrawlerRunner(settings_of(job))
        crawler = runner.create_crawler(Posts)
        await runner.crawl(crawler, job=job)
        return crawler.stats.get_value("dedup/items/confirmed", 0)

    confirmed = await deferred_from_coro(
        asyncio.wait_for(asyncio.gather(*map(crawl, jobs)), PATIENCE)
    )
    assert stored(jobs[0]) == {str(post): 1 for post in range(200)}
    assert sum(confirmed) == 200
