"""A fleet for pictures: ``python -m bench.screenshots.fleet URL`` crawls until it is killed.

Spiders of several sites run on several hosts, each in a process. Posts come at rates that rise and
fall, and most have been stored before, as in a fleet that reads its sites every day. One spider
ends, and one is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import scrapy
from scrapy.crawler import AsyncCrawlerProcess


@dataclass(frozen=True)
class Part:
    """A spider of the fleet."""

    spider: str
    host: str
    rate: float
    """Posts a second, on average."""
    known: float
    """The share of posts that are stored already."""
    swing: float
    """Seconds in which its rate rises and falls once."""
    ends: float = math.inf
    """Seconds after which it has read all there is."""
    dies: float = math.inf
    """Seconds after which it is killed."""


FLEET = (
    Part("mastodon", "crawler-1", 84, 0.82, 170),
    Part("mastodon", "crawler-2", 61, 0.80, 130),
    Part("lemmy", "crawler-1", 38, 0.91, 210),
    Part("forum", "crawler-3", 22, 0.35, 260),
    Part("forum", "crawler-2", 17, 0.38, 150),
    Part("news", "crawler-3", 9, 0.97, 90),
    Part("reviews", "crawler-2", 4, 0.55, 120),
    Part("blogs", "crawler-3", 7, 0.60, 100, ends=130),
    Part("comments", "crawler-1", 12, 0.70, 80, dies=170),
)


class Store:
    """A storage that takes a while, as those over a network do."""

    async def process_item(self, item: Any) -> Any:
        """Scrapy's call for each item."""
        await asyncio.sleep(random.uniform(0.1, 0.9))
        return item


class Posts(scrapy.Spider):
    """Yields posts of a part of the fleet."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.spider)
        self._part = part
        self._chance = random.Random(f"{part.spider} {part.host}")
        self._next = 0
        self._parent = os.getppid()

    async def start(self) -> AsyncIterator[dict[str, Any]]:
        """Posts as they come; a few at a time."""
        began = time.monotonic()
        while (age := time.monotonic() - began) < self._part.ends:
            wave = 1 + 0.75 * math.sin(2 * math.pi * age / self._part.swing)
            due = self._part.rate * wave * self._chance.uniform(0.4, 1.6)
            for _ in range(round(due * 0.5)):
                yield self._post()
            await asyncio.sleep(0.5)
            if age >= self._part.dies or os.getppid() != self._parent:
                os.kill(os.getpid(), signal.SIGKILL)

    def _post(self) -> dict[str, Any]:
        if self._next and self._chance.random() < self._part.known:
            number = self._chance.randrange(self._next)
        else:
            number, self._next = self._next, self._next + 1
        return {"host": self._part.host, "post_id": number}


def crawl(part: Part, url: str) -> None:
    """Runs one spider to its end."""
    with contextlib.suppress(OSError, AttributeError):  # it needs Linux, root and Python 3.12
        os.unshare(os.CLONE_NEWUTS)
        socket.sethostname(part.host)
    settings = {
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "ITEM_PIPELINES": {Store: 300},
        "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
        "VALKEY_DEDUP_URL": url,
        "VALKEY_DEDUP_FIELDS": ["host", "post_id"],
        "VALKEY_DEDUP_NAMESPACE": "posts",
    }
    process = AsyncCrawlerProcess(settings)
    process.crawl(Posts, part=part)
    process.start()


def main(url: str) -> None:
    """Starts all of them, and waits."""
    spawning = multiprocessing.get_context("spawn")
    fleet = [spawning.Process(target=crawl, args=(part, url), daemon=True) for part in FLEET]
    for process in fleet:
        process.start()
    print("ready", flush=True)
    for process in fleet:
        process.join()


if __name__ == "__main__":
    main(sys.argv[1])
