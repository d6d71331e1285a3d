"""One spider process of the soak: ``python -m bench.soak.spider JOB``, a ``Job`` as JSON.

It writes down what must survive SIGKILL: each post that it stores with one ``write``, when outages
begin and end, and how many posts Valkey has acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scrapy
from scrapy.crawler import AsyncCrawlerProcess, Crawler
from scrapy.http import JsonResponse, Response
from scrapy.statscollectors import MemoryStatsCollector
from twisted.python.failure import Failure

from scrapy_valkey_dedup.stats import ITEMS, Stats

RECORD = struct.Struct("<dI?")
"""One stored post: when (by ``time.monotonic``), its number, and whether it passed unchecked."""
COUNT = struct.Struct("<Q")
STORED, ACKNOWLEDGED, OUTAGES, RESULT, LOG = "stored", "acknowledged", "outages", "result", "log"
_LONGEST_STORE = 0.01  # seconds
_CATCH_UP = 1.0  # seconds of delay that a spider makes up for, at most
_AT_ONCE = 16  # requests: a slow spider must not fill its scheduler

_unchecked: ContextVar[bool] = ContextVar("unchecked", default=False)


@dataclass
class Job:
    """What a process has to do."""

    directory: str
    site: str
    pages: int
    until: float
    """The moment, by ``time.monotonic``, to end at; 0: after one pass over the site."""
    rate: float
    """Pages a second; 0: as fast as it goes."""
    seed: int
    settings: dict[str, Any]

    def path(self, name: str) -> Path:
        """A file of the process's."""
        return Path(self.directory) / name


class Diary(MemoryStatsCollector):
    """Stats of which some are also in files.

    Knows the posts that pass unchecked: the plugin counts them in the context of their item.
    """

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        directory = Path(crawler.settings["SOAK_DIRECTORY"])
        path = directory / ACKNOWLEDGED
        path.write_bytes(COUNT.pack(0))
        with path.open("r+b") as file:
            self._acknowledged = mmap.mmap(file.fileno(), COUNT.size)
        self._outages = (directory / OUTAGES).open("ab", buffering=0)

    def inc_value(self, key: str, count: int = 1, start: int = 0, spider: Any = None) -> None:
        """Scrapy's call to count."""
        super().inc_value(key, count, start, spider)
        if key == ITEMS.unchecked:
            _unchecked.set(True)
        elif key == ITEMS.confirmed:
            COUNT.pack_into(self._acknowledged, 0, self._stats[key])
        elif key == Stats.OUTAGES:
            self._note(0)

    def set_value(self, key: str, value: Any, spider: Any = None) -> None:
        """Scrapy's call to set."""
        super().set_value(key, value, spider)
        if key == Stats.OUTAGE_SECONDS:
            self._note(value)

    def _note(self, seconds: float) -> None:
        """An outage begins, or one has ended, and this is how long all were."""
        self._outages.write(b"%f %f\n" % (time.monotonic(), seconds))


@dataclass
class Post:
    """A post of the site's."""

    post_id: int
    text: str


class Store:
    """An append-only file, in which a second copy shows. What is written survives the process."""

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Store:
        """Scrapy's constructor."""
        store = cls()
        path = Path(crawler.settings["SOAK_DIRECTORY"]) / STORED
        store.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return store

    file: int

    async def process_item(self, item: Post) -> Post:
        """Scrapy's call for each item."""
        unchecked = _unchecked.get()
        _unchecked.set(False)  # the context may be that of the next item, too
        await asyncio.sleep(random.random() * _LONGEST_STORE)
        os.write(self.file, RECORD.pack(time.monotonic(), item.post_id, unchecked))
        return item


class Timelines(scrapy.Spider):
    """Reads all pages of the site in a random order, again and again."""

    name = "timelines"

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """The pages, at their rate."""
        chance, due = random.Random(self.job.seed), time.monotonic()
        while True:
            for number in chance.sample(range(self.job.pages), self.job.pages):
                if self.job.rate:
                    due = max(due + 1 / self.job.rate, time.monotonic() - _CATCH_UP)
                    await asyncio.sleep(due - time.monotonic())
                await self._free.acquire()
                if self.job.until and time.monotonic() > self.job.until:
                    return
                yield scrapy.Request(
                    f"{self.job.site}/{number}", self.parse, errback=self.failed, dont_filter=True
                )
            if not self.job.until:
                return

    def parse(self, response: Response) -> Iterator[Post]:
        """The page's posts."""
        self._free.release()
        assert isinstance(response, JsonResponse)
        for entry in response.json():
            yield Post(**entry)

    def failed(self, failure: Failure) -> None:
        """A page that could not be downloaded."""
        self._free.release()
        self.logger.error("A page is missing: %s", failure.value)


def main(job: Job) -> None:
    """Crawls, and leaves its stats in a file."""
    settings = {
        "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
        "ITEM_PIPELINES": {Store: 300},
        "STATS_CLASS": Diary,
        "SOAK_DIRECTORY": job.directory,
        "LOG_FILE": str(job.path(LOG)),
        "LOG_LEVEL": "INFO",
        "TELNETCONSOLE_ENABLED": False,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 4,
        "DOWNLOAD_DELAY": 0,
        "VALKEY_DEDUP_FIELDS": {"*": {"fields": ["post_id"], "kind": "Post"}},
        **job.settings,
    }
    process = AsyncCrawlerProcess(settings)
    crawler = process.create_crawler(Timelines)
    process.crawl(crawler, job=job)
    process.start()
    assert crawler.stats
    job.path(RESULT).write_text(json.dumps(crawler.stats.get_stats(), default=str))


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
