"""A spider process that is measured: ``python -m bench.suite.spider``, a ``Job`` as JSON on stdin.

Says ``ready`` when all is imported, begins when it gets another line, and prints an ``Outcome`` as
JSON. Runs in the environments of the peers, too: on Scrapy 2.11 and newer, with no other package.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import scrapy
from scrapy import signals
from scrapy.crawler import CrawlerProcess

PROBE_SECONDS = 0.001
_ALWAYS = {"crawl_once": False, "deltafetch_enabled": False}
"""The lists are read in each run: so the peers' docs say it for pages that change."""


@dataclass
class Job:
    """What to do."""

    port: int
    lists: int
    settings: dict[str, Any]
    html: bool = False
    store: str = ""
    """A file that gets a line for each stored post; none: nothing is stored."""
    store_seconds: float = 0.0
    """How long it takes to store a post."""
    fail_odd: bool = False
    """The storage fails for posts with odd numbers."""
    profile: str = ""
    """A file for what cProfile finds; none: it does not look."""


@dataclass
class Outcome:
    """What came of it."""

    stored: int = 0
    seconds: float = 0.0
    """From the making of the spider until all is closed."""
    cpu: float = 0.0
    """Processor time in this, user and system."""
    stalls: list[float] = field(default_factory=list)
    """How late the event loop woke a task that sleeps a millisecond: p99, and the longest."""
    peak: int = 0
    """The most memory that the process ever had, in kilobytes."""


@dataclass
class Post:
    """A post of the site."""

    post_id: int
    platform: str
    author: str
    text: str


class Store:
    """The storage."""

    job: Job
    stored = 0

    def __init__(self) -> None:
        path = self.job.store
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if path else -1

    def process_item(self, item: Any) -> Any:
        """Scrapy's call for each item: costs nothing."""
        Store.stored += 1
        return item


class FileStore(Store):
    """A storage that takes its time, may fail, and survives the process."""

    async def process_item(self, item: Any) -> Any:
        """Scrapy's call for each item."""
        await asyncio.sleep(self.job.store_seconds)
        if self.job.fail_odd and item.post_id % 2:
            raise OSError("the storage fails, as the benchmark wants it")
        os.write(self._file, b"%d\n" % item.post_id)
        Store.stored += 1
        return item


class OldStore(Store):
    """As Scrapy before 2.14 calls it."""

    def process_item(self, item: Any, spider: Any) -> Any:  # noqa: ARG002
        """Scrapy's call for each item."""
        Store.stored += 1
        return item


class OldFileStore(FileStore):
    """As Scrapy before 2.14 calls it."""

    async def process_item(self, item: Any, spider: Any) -> Any:  # noqa: ARG002
        """Scrapy's call for each item."""
        return await super().process_item(item)


class Posts(scrapy.Spider):
    """Reads the lists of a site, and all pages that they link to."""

    name = "posts"
    job: Job
    began = cpu = 0.0
    late: ClassVar[list[float]] = []

    @classmethod
    def from_crawler(cls, crawler: Any, *args: Any, **kwargs: Any) -> Posts:
        """Scrapy's constructor."""
        spider = super().from_crawler(crawler, *args, **kwargs)
        Posts.began, Posts.cpu = time.monotonic(), time.process_time()
        crawler.signals.connect(spider.opened, signals.spider_opened)
        return spider

    def opened(self) -> None:
        """Begins to probe the event loop."""
        # Scrapy 2.11 sends the signal before its reactor runs the loop.
        self._probe = asyncio.get_event_loop().create_task(self._look())

    async def _look(self) -> None:
        while True:
            due = time.monotonic() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            self.late.append(time.monotonic() - due)

    def closed(self, reason: str) -> None:  # noqa: ARG002
        """Scrapy's call at the end."""
        self._probe.cancel()

    def start_requests(self) -> Iterator[scrapy.Request]:
        """The lists, for Scrapy before 2.13."""
        for number in range(self.job.lists):
            url = f"http://127.0.0.1:{self.job.port}/list/{number}"
            yield scrapy.Request(url, self.parse_list, dont_filter=True, meta=dict(_ALWAYS))

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """The lists."""
        for request in self.start_requests():
            yield request

    def parse_list(self, response: Any) -> Iterator[scrapy.Request]:
        """Its pages."""
        parse = self.parse_html if self.job.html else self.parse
        for number in response.json()["links"]:
            yield scrapy.Request(f"http://127.0.0.1:{self.job.port}/{number}", parse)

    def parse(self, response: Any) -> Iterator[Post]:
        """The posts of a page of JSON."""
        for entry in response.json()["posts"]:
            yield Post(**entry)

    def parse_html(self, response: Any) -> Iterator[Post]:
        """The posts of a page of HTML, with five selectors for each."""
        for entry in response.css("article"):
            yield Post(
                int(entry.css("::attr(id)").get().removeprefix("post-")),
                entry.css(".platform::text").get(),
                entry.css("a.author::attr(href)").get(),
                f"{entry.css('h2::text').get()} {' '.join(entry.css('p::text').getall())}",
            )


def main(job: Job) -> Outcome:
    """Crawls."""
    old = scrapy.version_info < (2, 14)
    stores: dict[bool, type[Store]] = {False: OldStore if old else Store}
    stores[True] = OldFileStore if old else FileStore
    store = stores[bool(job.store)]
    Store.job = Posts.job = job
    settings = {
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
        "DOWNLOAD_DELAY": 0,
        "TWISTED_REACTOR": "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
        **job.settings,
    }
    settings["ITEM_PIPELINES"] = {store: 300, **settings.get("ITEM_PIPELINES", {})}
    process = CrawlerProcess(settings)
    process.crawl(Posts)
    if job.profile:
        profiler = cProfile.Profile(time.process_time)
        profiler.runcall(process.start)
        profiler.dump_stats(job.profile)
    else:
        process.start()
    late = sorted(Posts.late) or [0.0]
    return Outcome(
        Store.stored,
        time.monotonic() - Posts.began,
        time.process_time() - Posts.cpu,
        [late[int(len(late) * 0.99)], late[-1]],
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )


if __name__ == "__main__":
    given = Job(**json.loads(sys.stdin.readline()))
    print("ready", flush=True)
    sys.stdin.readline()
    print("\n" + json.dumps(asdict(main(given))), flush=True)
