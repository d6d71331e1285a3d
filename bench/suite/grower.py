"""A spider whose memory is watched: ``python -m bench.suite.grower PORT POSTS SETTINGS``.

Each page's callback yields 200 posts. Prints as JSON, at each tenth of the posts, the megabytes of
memory that the process has.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.http import Response

from bench.suite.spider import Post

_STEPS = 10
_PAGE = 200  # posts: while a page is scraped, its posts are kept


def megabytes() -> float:
    """The memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Watch:
    """A storage that keeps nothing, and notes the memory."""

    every = 0
    stored = 0
    taken: ClassVar[dict[int, float]] = {}

    def process_item(self, item: Any) -> Any:
        """Scrapy's call for each item."""
        Watch.stored += 1
        if Watch.stored % Watch.every == 0:
            gc.collect()
            Watch.taken[Watch.stored] = megabytes()
        return item


class Grower(scrapy.Spider):
    """Yields posts."""

    name = "grower"
    posts = port = 0

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """The same page, again and again."""
        for first in range(0, self.posts, _PAGE):
            url = f"http://127.0.0.1:{self.port}/0"
            yield scrapy.Request(url, dont_filter=True, cb_kwargs={"first": first})

    def parse(self, response: Response, first: int) -> Iterator[Post]:  # noqa: ARG002
        """The posts of this time."""
        for number in range(first, min(first + _PAGE, self.posts)):
            yield Post(10**15 + number, "bench", "someone", f"Post {number}")


def main(port: int, posts: int, settings: dict[str, Any]) -> None:
    """Crawls."""
    Watch.every, Grower.posts, Grower.port = posts // _STEPS, posts, port
    given = {
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "ITEM_PIPELINES": {Watch: 300},
        **settings,
    }
    process = AsyncCrawlerProcess(given)
    process.crawl(Grower)
    process.start()
    assert Watch.stored == posts, Watch.stored
    print(json.dumps(Watch.taken))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
