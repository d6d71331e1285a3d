"""What runs in the processes of the fleet tests: a spider that follows links, and notes them."""

from __future__ import annotations

import os
from pathlib import Path

import scrapy
from scrapy.core.engine import ExecutionEngine
from scrapy.crawler import AsyncCrawlerProcess

from scrapy_valkey_dedup.session.registry import session_of
from tests.support.spiders.items import settings_of
from tests.support.spiders.jobs import Job, leave_result
from tests.support.spiders.posts import Post
from tests.support.spiders.storages import FileStore, SettledByHand

HERE = __name__


class Links(scrapy.Spider):
    """Stores the posts of each page and follows its links, of which it keeps a list.

    It begins, as Scrapy itself does, with ``start_urls``: ``options["starts"]``.
    """

    name = "links"

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self.options = job.options
        self.start_urls = [job.site + path for path in job.options["starts"]]
        # Without a buffer: what a process that is killed has heard of is known.
        self.heard = (Path(job.directory) / "heard").open("ab", buffering=0)

    async def start(self):
        (Path(self.job.directory) / "run").write_text(session_of(self.crawler).run)
        async for request in super().start():
            yield request

    async def parse(self, response):
        content = response.json()
        links = content["links"]
        self.heard.write("".join(f"{link}\n" for link in links).encode())
        for post in content["posts"]:
            yield Post(**post)
        for link in links:
            yield scrapy.Request(link if ":" in link else self.job.site + link)


class Store(FileStore):
    """The file of all workers, ``options["posts"]``; ``options["refuse"]``: ids that it refuses."""

    @property
    def path(self):
        return self.crawler.spider.options["posts"]

    def refuses(self, item):
        return item.post_id in self.crawler.spider.options.get("refuse", ())


class LateStore(SettledByHand, Store):
    """Stores all at the very end, and settles each claim itself."""


def crawl(job: Job) -> None:
    """Runs the crawl in this process and leaves ``result.json`` with its stats."""
    os.chdir(job.directory)
    # Nothing here may wait for the look that the engine takes every five seconds.
    ExecutionEngine._SLOT_HEARTBEAT_INTERVAL = 3600.0
    process = AsyncCrawlerProcess(settings_of(job))
    crawler = process.create_crawler(Links)
    process.crawl(crawler, job=job)
    process.start()
    leave_result(job.directory, stats=crawler.stats.get_stats())
