"""A spider process that follows the links of a site.

``python -m bench.crawls.worker PORT LISTS SETTINGS`` says ``ready`` when all is
imported, crawls when it gets a line, and prints a ``Report`` as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from secrets import token_hex
from typing import Any

import scrapy
from scrapy import signals
from scrapy.crawler import AsyncCrawlerProcess, Crawler
from scrapy.http import JsonResponse, Response

from bench.crawls.spider import Post

PROBE_SECONDS = 0.001
BUSY = 0.5  # processes that want to run, on average over the last minute


@dataclass
class Report:
    """What a worker found and how long it took."""

    opened: float
    """When the engine began to open the spider, before any component connects to a server; by the
    clock that all processes of the machine share."""
    closed: float
    """When all was closed, the plugin's session too."""
    cpu: float
    """Seconds of processor time that this took."""
    longest_stall: float
    """The longest time for which the event loop kept something waiting, in seconds."""
    stored: list[int]
    stats: dict[str, Any]

    @property
    def seconds(self) -> float:
        """How long the crawl took."""
        return self.closed - self.opened

    @property
    def pages(self) -> int:
        """How many pages this worker downloaded; the lists are not counted."""
        return int(self.stats.get("bench/pages", 0))


class Probe:
    """A Scrapy extension: from when the spider is open, notes how late the loop wakes a task."""

    def __init__(self, crawler: Crawler) -> None:
        self.longest_stall = 0.0
        crawler.signals.connect(self._open, signals.spider_opened)
        crawler.signals.connect(self._close, signals.engine_stopped)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Probe:
        """Scrapy's constructor."""
        return cls(crawler)

    def _open(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._look())

    def _close(self) -> None:
        self._watch.cancel()

    async def _look(self) -> None:
        while True:
            due = time.monotonic() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            self.longest_stall = max(self.longest_stall, time.monotonic() - due)


class Store:
    """A storage that costs nothing and remembers what it was given."""

    def __init__(self) -> None:
        self.stored: list[int] = []

    def process_item(self, item: Any) -> Any:
        """Scrapy's call for each item."""
        self.stored.append(item.post_id)
        return item


class Links(scrapy.Spider):
    """Reads the lists, and every page that a list or a page links to."""

    name = "links"

    def __init__(self, port: int, lists: int) -> None:
        super().__init__()
        self._site = f"http://127.0.0.1:{port}"
        # Scrapy sends these with dont_filter: each worker of a fleet reads all lists.
        self.start_urls = [f"{self._site}/list/{number}" for number in range(lists)]

    def start(self) -> AsyncIterator[Any]:
        """Scrapy's call when it begins to open the spider."""
        self.opened, self.cpu_before = time.monotonic(), time.process_time()
        return super().start()

    def parse(self, response: Response) -> Iterator[Post | scrapy.Request]:
        """The posts of a list, which has none, and its links."""
        assert isinstance(response, JsonResponse)
        content = response.json()
        for entry in content["posts"]:
            yield Post(**entry)
        for number in content["links"]:
            yield scrapy.Request(f"{self._site}/{number}", self.parse_page)

    def parse_page(self, response: Response) -> Iterator[Post | scrapy.Request]:
        """The posts and the links of a page."""
        assert self.crawler.stats
        self.crawler.stats.inc_value("bench/pages")
        yield from self.parse(response)


def with_plugin(url: str) -> dict[str, object]:
    """Settings for a job in a fresh ledger: workers with the same settings share it."""
    return {
        "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
        "VALKEY_DEDUP_URL": url,
        "VALKEY_DEDUP_FIELDS": ["platform", "post_id"],
        "VALKEY_DEDUP_NAMESPACE": f"bench-{token_hex(4)}",
        "VALKEY_DEDUP_JOB": "bench",
    }


def warn_if_busy() -> None:
    """Says so if other processes use the processors: the times then include theirs."""
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"This machine is busy, its load is {load:.1f}: the times are unsure.")


class Worker:
    """Such a process, for the benchmark that starts it."""

    def __init__(self, port: int, lists: int, settings: dict[str, object]) -> None:
        command = [sys.executable, "-m", "bench.crawls.worker", str(port), str(lists)]
        self._process = subprocess.Popen(
            [*command, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Returns when all is imported."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line == "ready\n", line

    def start(self) -> None:
        """Lets it crawl."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def report(self, timeout: float = 300) -> Report:
        """Waits for its end."""
        output, _ = self._process.communicate(timeout=timeout)
        assert self._process.returncode == 0, self._process.returncode
        return Report(**json.loads(output))

    def kill(self) -> None:
        """Ends it if it still runs."""
        self._process.kill()
        self._process.wait()


def main(port: int, lists: int, settings: dict[str, Any]) -> None:
    """Crawls, and prints the report."""
    settings = {
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "DOWNLOAD_DELAY": 0,
        "ITEM_PIPELINES": {Store: 300},
        "EXTENSIONS": {Probe: 0},
        **settings,
    }
    process = AsyncCrawlerProcess(settings)
    crawler = process.create_crawler(Links)
    print("ready", flush=True)
    sys.stdin.readline()
    process.crawl(crawler, port=port, lists=lists)
    process.start()
    closed, cpu_after = time.monotonic(), time.process_time()
    probe, store = crawler.get_extension(Probe), crawler.get_item_pipeline(Store)
    spider = crawler.spider
    assert isinstance(spider, Links)
    assert probe
    assert store
    assert crawler.stats
    stats = crawler.stats.get_stats()
    cpu = cpu_after - spider.cpu_before
    report = Report(spider.opened, closed, cpu, probe.longest_stall, store.stored, stats)
    print(json.dumps(asdict(report), default=str))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
