"""The program of the crawl tests: reads a site's pages and stores their posts.

A crawl is described by a :class:`Job`, which a process receives, and answered by a ``result.json``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from scrapy import signals
from scrapy.crawler import AsyncCrawlerProcess, Crawler
from scrapy.settings import Settings

from scrapy_valkey_dedup.items import feeds, processor
from scrapy_valkey_dedup.session import ending
from tests.support.patience import LOOP
from tests.support.spiders.jobs import QUIET, Job, leave_result
from tests.support.spiders.posts import Posts
from tests.support.spiders.storages import STORAGES


def settings_of(job: Job) -> Settings:
    """The project's settings: the plugin is enabled as README says."""
    return Settings(
        {
            **QUIET,
            "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
            "ASYNCIO_EVENT_LOOP": LOOP,
            "FEED_TEMPDIR": job.directory,  # a crawl that is killed leaves there what it uploads
            "ITEM_PIPELINES": {f"{STORAGES}.Store": 300},
            "LOG_FILE": str(Path(job.directory) / "log"),
            "RETRY_ENABLED": False,
            # One kind: of whatever spider and class of the tests, a post is known by its id.
            "VALKEY_DEDUP_FIELDS": {"*": {"fields": ["post_id"], "kind": "Post"}},
            **job.settings,
        }
    )


def break_the_client(crawler: Crawler) -> None:
    """Once an item is stored, valkey-py fails as it does in a cluster in trouble."""
    from scrapy_valkey_dedup.valkey.connections import NodeConnections

    async def broken(self, packed, count):
        raise AttributeError("a bare one")

    def item_scraped() -> None:
        NodeConnections._send_and_read = broken

    crawler.signals.connect(item_scraped, signals.item_scraped, weak=False)


def crawl(job: Job) -> None:
    """Runs the crawl in this process and leaves ``result.json``: stats, or the error."""
    os.chdir(job.directory)
    if "longest_end" in job.options:
        ending.LONGEST_END = processor.LONGEST_END = job.options["longest_end"]
    if "sync_interval" in job.options:
        feeds.SYNC_INTERVAL = job.options["sync_interval"]
    process = AsyncCrawlerProcess(settings_of(job))
    crawler = process.create_crawler(Posts)
    if job.options.get("faulty_client"):
        break_the_client(crawler)
    crawler.spider_directory = job.directory  # after its end a crawler has no spider
    process.crawl(crawler, job=job)
    process.start()
    leave_result(job.directory, stats=crawler.stats.get_stats(), failed=process.bootstrap_failed)


if __name__ == "__main__":
    crawl(Job(**json.loads(sys.argv[1])))
