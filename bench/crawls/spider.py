"""One spider process of the crawl benchmark: ``python -m bench.crawls.spider PORT PAGES SETTINGS``.

Prints its stats as JSON on the last line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.http import JsonResponse, Response


@dataclass
class Post:
    """A post of the benchmark's site."""

    post_id: int
    platform: str
    author: str
    text: str


class Store:
    """A storage that costs nothing: the plugin's share of the time is at its largest."""

    def process_item(self, item: Any) -> Any:
        """Scrapy's call for each item."""
        return item


class Posts(scrapy.Spider):
    """Reads all pages, which it knows beforehand."""

    name = "posts"

    def __init__(self, port: int, pages: int) -> None:
        super().__init__()
        self.port, self.pages = port, pages

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """A request for each page."""
        for number in range(self.pages):
            yield scrapy.Request(f"http://127.0.0.1:{self.port}/{number}", self.parse)

    def parse(self, response: Response) -> Iterator[Post]:
        """The page's posts."""
        assert isinstance(response, JsonResponse)
        for entry in response.json():
            yield Post(**entry)


def main(port: int, pages: int, settings: dict[str, Any]) -> None:
    """Crawls, and prints the stats."""
    settings = {
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
        "DOWNLOAD_DELAY": 0,
        "ITEM_PIPELINES": {Store: 300},
        **settings,
    }
    process = AsyncCrawlerProcess(settings)
    crawler = process.create_crawler(Posts)
    process.crawl(crawler, port=port, pages=pages)
    process.start()
    stats = crawler.stats.get_stats() | {"processor_seconds": time.process_time()}
    print(json.dumps(stats, default=str))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
