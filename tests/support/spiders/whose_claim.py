"""What runs in the processes of test_whose_claim: a FilesPipeline between cleaning and storing.

While an item waits for its files, Scrapy starts the next requests in that item's context.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.exceptions import DropItem

from tests.support.patience import LOOP
from tests.support.spiders.component import Component
from tests.support.spiders.jobs import QUIET
from tests.support.spiders.storages import FileStore

HERE = __name__


class Validation(Component):
    """Before the deduplication: drops what ``invalid`` names."""

    def process_item(self, item):
        if item["id"] in self.crawler.spidercls.job["invalid"]:
            raise DropItem("not valid")
        return item


class Storage(FileStore):
    """Behind it: takes a while, and refuses what ``refused`` names."""

    @property
    def path(self):
        return self.crawler.spidercls.job["stored"]

    def refuses(self, item):
        return item["id"] in self.crawler.spidercls.job["refused"]

    def line(self, item):
        return item["id"]

    async def process_item(self, item):
        await asyncio.sleep(self.crawler.spidercls.job["seconds"].get(item["id"], 0.01))
        return await super().process_item(item)


class Chain(scrapy.Spider):
    """Three pages, each asked for by the one before it while its item waits for its files."""

    name = "chain"

    async def start(self):
        yield scrapy.Request(f"{self.job['site']}/page/0", self.first)

    async def first(self, response):
        yield {"id": "P", "file_urls": self.files("p1", "slow")}
        await asyncio.sleep(0.2)
        yield scrapy.Request(f"{self.job['site']}/page/1", self.second)

    async def second(self, response):
        yield {"id": "Q", "file_urls": self.files("q1", "q2")}
        await asyncio.sleep(0.2)
        yield scrapy.Request(f"{self.job['site']}/page/2", self.third)

    async def third(self, response):
        yield {"id": "R"}

    def files(self, *names):
        return [f"{self.job['site']}/file/{name}" for name in names]


class Many(scrapy.Spider):
    """Many pages with posts that have files, some of them slow."""

    name = "many"

    async def start(self):
        for page in range(self.job["pages"]):
            url = f"{self.job['site']}/page/{page}"
            yield scrapy.Request(url, self.parse, cb_kwargs={"page": page})

    def parse(self, response, page):
        for number in (2 * page, 2 * page + 1):
            files = [f"{self.job['site']}/file/{number}-{which}" for which in "ab"]
            yield {"id": str(number), "file_urls": files}


class FromStart(scrapy.Spider):
    """Sends its posts from ``start()``: Scrapy 2.14 to 2.17 does not wait for them at its end."""

    name = "from_start"

    async def start(self):
        for number in range(self.job["posts"]):
            yield {"id": str(number)}


SPIDERS = {spider.name: spider for spider in (Chain, Many, FromStart)}


def crawl(name: str, job: dict[str, Any], settings: dict[str, Any]) -> None:
    """Runs a crawl in this process; leaves its stats."""
    os.chdir(job["directory"])
    random.seed(7)
    spider = type(name, (SPIDERS[name],), {"job": job})
    process = AsyncCrawlerProcess(
        {
            **QUIET,
            "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
            "ASYNCIO_EVENT_LOOP": LOOP,
            "LOG_FILE": "log",
            "RETRY_ENABLED": False,
            "FILES_STORE": "files",
            "ITEM_PIPELINES": {
                f"{HERE}.Validation": 50,
                "scrapy.pipelines.files.FilesPipeline": 200,
                f"{HERE}.Storage": 300,
            },
            "VALKEY_DEDUP_FIELDS": {"*": {"fields": ["id"], "kind": "Post"}},
            **settings,
        }
    )
    crawler = process.create_crawler(spider)
    process.crawl(crawler)
    process.start()
    Path("stats.json").write_text(json.dumps(crawler.stats.get_stats(), default=str))
