"""What runs in the processes of the fleet tests: a spider that follows links, and notes them."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import scrapy
from scrapy.core.engine import ExecutionEngine
from scrapy.crawler import AsyncCrawlerProcess

from scrapy_valkey_dedup import current_claim
from scrapy_valkey_dedup.session.registry import session_of
from tests.support.spiders.items import Job, Post, settings_of

HERE = "tests.support.spiders.fleet"


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


class Store:
    """A file that all workers append to: no lock, which one that is frozen could be holding.

    ``options``: ``posts``, its path; ``refuse``: ids that it fails to store.
    """

    @classmethod
    def from_crawler(cls, crawler):
        pipeline = cls()
        pipeline.crawler = crawler
        return pipeline

    def open_spider(self):
        options = self.crawler.spider.options
        self.refuse = options.get("refuse", ())
        self.file = os.open(options["posts"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def process_item(self, item):
        if item.post_id in self.refuse:
            raise OSError(f"the storage refuses {item.post_id}")
        self.store(item)
        return item

    def store(self, item):
        os.write(self.file, f"{item.post_id}\n".encode())

    def close_spider(self):
        os.close(self.file)


class LateStore(Store):
    """Stores all at the very end, and settles each claim itself."""

    def open_spider(self):
        super().open_spider()
        self.batch = []

    async def process_item(self, item):
        self.batch.append((item, current_claim()))
        return item

    def close_spider(self):
        for item, claim in self.batch:
            self.store(item)
            claim.confirm()
        super().close_spider()


def crawl(job: Job) -> None:
    """Runs the crawl in this process and leaves ``result.json`` with its stats."""
    os.chdir(job.directory)
    # Nothing here may wait for the look that the engine takes every five seconds.
    ExecutionEngine._SLOT_HEARTBEAT_INTERVAL = 3600.0
    process = AsyncCrawlerProcess(settings_of(job))
    crawler = process.create_crawler(Links)
    process.crawl(crawler, job=job)
    process.start()
    logging.shutdown()
    path = Path(job.directory) / "result.json"
    path.with_suffix(".new").write_text(
        json.dumps({"stats": crawler.stats.get_stats()}, default=str)
    )
    path.with_suffix(".new").replace(path)
