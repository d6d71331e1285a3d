"""What runs in the processes of the request tests: a spider that notes all that Scrapy calls.

The spiders themselves, each with its site, are in :mod:`tests.support.spiders.scenarios`. The same
spider runs with plain Scrapy and with the plugin, and leaves a ``result.json``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import scrapy
from scrapy import signals
from scrapy.core.engine import ExecutionEngine
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.exceptions import DropItem
from scrapy.settings import Settings
from scrapy.spidermiddlewares.httperror import HttpError

from tests.support.servers.web import Route
from tests.support.spiders.jobs import QUIET, leave_result
from tests.support.spiders.storages import FileStore

STORE = f"{__name__}.Store"
REFUSED = "http://127.0.0.1:1"
"""Nothing listens on port 1."""


@dataclass
class Job:
    """One crawl: which spider reads which site, with which settings, writing into where."""

    spider: str
    """Import path of its class."""
    site: str
    directory: str
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    """For the spider."""


class Reader(scrapy.Spider):
    """Reads pages of posts and links. Its subclasses are the scenarios."""

    pages: ClassVar[Mapping[str, Route]] = {}
    """The site."""
    starts: ClassVar[Sequence[str]] = ()
    again: ClassVar[AbstractSet[str]] = frozenset()
    """What a second run of the job downloads again: what went wrong, and what is exempt."""
    either: ClassVar[AbstractSet[str]] = frozenset()
    """What it may download again."""
    unstored: ClassVar[AbstractSet[str]] = frozenset()
    """What, beside those, a second run in mode "stored" downloads again: pages without posts."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self.site = job.site
        self.notes: dict[str, list[str]] = {
            "callbacks": [], "errbacks": [], "dropped": [], "errors": []
        }  # fmt: skip

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.request_dropped, signals.request_dropped)
        crawler.signals.connect(spider.spider_error, signals.spider_error)
        return spider

    async def start(self):
        for path in self.starts:
            yield self.get(path)

    def get(self, path, callback=None, **more):
        """A request of a path, or of a whole URL."""
        url = path if ":" in path else self.site + path
        return scrapy.Request(url, callback or self.parse, **more)

    def parse(self, response):
        self.note("parse", response)
        yield from self.posts(response)
        for link in response.json()["links"]:
            yield self.get(link)

    def posts(self, response):
        return response.json()["posts"]

    def failed(self, failure):
        """An errback."""
        self.note_failure(failure)

    def place(self, url: str) -> str:
        """A URL without the site's address, which differs from crawl to crawl."""
        other = self.site.replace("127.0.0.1", "localhost")
        return url.removeprefix(self.site).replace(other, "other:")

    def note(self, name, response):
        self.notes["callbacks"].append(f"{name} {self.place(response.url)}")

    def note_failure(self, failure):
        what = failure.type.__name__
        if failure.check(HttpError):
            what = str(failure.value.response.status)
        self.notes["errbacks"].append(f"{what} {self.place(failure.request.url)}")

    def request_dropped(self, request):
        self.notes["dropped"].append(self.place(request.url))

    def spider_error(self, failure, response):
        self.notes["errors"].append(f"{failure.type.__name__} {self.place(response.url)}")


class Store(FileStore):
    """Writes with each post what a media pipeline has found."""

    def refuses(self, item):
        return item["post_id"].startswith("refused")

    def line(self, item):
        found = [*item.get("files", ()), *item.get("images", ())]
        return " ".join([item["post_id"], *(file["checksum"] for file in found)])

    async def process_item(self, item):
        if item["post_id"].startswith("dropped"):
            raise DropItem("not wanted")
        return await super().process_item(item)


def settings_of(job: Job) -> Settings:
    """Scrapy's defaults, but for the store and for what would disturb a test."""
    return Settings(
        {
            **QUIET,
            "CONCURRENT_ITEMS": 10,  # Scrapy makes as many tasks for each response
            "ITEM_PIPELINES": {STORE: 300},
            "LOG_FILE": str(Path(job.directory) / "log"),
            **job.settings,
        }
    )


def crawl(job: Job) -> None:
    """Runs the crawl in this process and leaves ``result.json``."""
    os.chdir(job.directory)
    if not job.options.get("looks", True):
        # A crawl that relies on Scrapy's check for idle spiders, every five seconds, hangs.
        ExecutionEngine._SLOT_HEARTBEAT_INTERVAL = 3600.0
    module, _, name = job.spider.rpartition(".")
    process = AsyncCrawlerProcess(settings_of(job))
    crawler = process.create_crawler(getattr(importlib.import_module(module), name))
    opened = []

    def spider_opened(spider: scrapy.Spider) -> None:
        opened.append(spider)

    crawler.signals.connect(spider_opened, signals.spider_opened)
    process.crawl(crawler, job=job)
    process.start()
    result = {"failed": not opened}
    if opened:
        result |= {"stats": crawler.stats.get_stats(), **crawler.spider.notes}
    leave_result(job.directory, **result)
