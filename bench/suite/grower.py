"""A spider whose memory is watched: ``python -m bench.suite.grower PORT POSTS SETTINGS``.

One page, whose callback yields all posts. Prints as JSON, at each tenth of the posts, the
megabytes of memory that the process has.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.http import Response

from bench.suite.spider import Post

_STEPS = 10


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
    posts = 0

    def parse(self, response: Response) -> Iterator[Post]:  # noqa: ARG002
        """All posts."""
        for number in range(self.posts):
            yield Post(10**15 + number, "bench", "someone", f"Post {number}")


def main(port: int, posts: int, settings: dict[str, Any]) -> None:
    """Crawls."""
    Watch.every, Grower.posts = posts // _STEPS, posts
    given = {
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "ITEM_PIPELINES": {Watch: 300},
        **settings,
    }
    process = AsyncCrawlerProcess(given)
    process.crawl(Grower, start_urls=[f"http://127.0.0.1:{port}/0"])
    process.start()
    assert Watch.stored == posts, Watch.stored
    print(json.dumps(Watch.taken))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
