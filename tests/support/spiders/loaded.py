"""Crawls one after the other in one process, and what Python's collections of garbage leave out.

``python -m tests.support.spiders.loaded SETTINGS [frozen]`` prints as JSON how many objects were
left out while each crawl ran and after it, and what garbage of earlier crawls there was meanwhile.
With ``frozen`` the program itself has called ``gc.freeze()``.
"""

from __future__ import annotations

import gc
import json
import sys
import weakref
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import scrapy
from scrapy import signals
from scrapy.crawler import AsyncCrawlerRunner, Crawler
from scrapy.utils.defer import deferred_from_coro
from scrapy.utils.reactor import install_reactor
from twisted.internet.task import react

REACTOR = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"


class Cycle:
    """Garbage, as soon as nothing else refers to it."""

    def __init__(self) -> None:
        self.itself = self


class Counting(scrapy.Spider):
    """Yields one post; counts what is left out."""

    name = "counting"
    before: ClassVar[int] = 0
    found: ClassVar[dict[str, list[Any]]] = {"during": [], "after": [], "garbage": []}
    garbage: ClassVar[list[weakref.ref[Cycle]]] = []

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Counting:
        """Scrapy's constructor."""
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.item_scraped, signals.item_scraped)
        return spider

    async def start(self) -> AsyncIterator[dict[str, int]]:
        """A post."""
        yield {"post_id": 1}

    def item_scraped(self) -> None:
        """Scrapy's signal: the spider runs."""
        self.found["during"].append(gc.get_freeze_count() - self.before)
        self.found["garbage"].append([each() is not None for each in self.garbage])
        self.garbage.append(weakref.ref(Cycle()))


class Store:
    """A storage."""

    def process_item(self, item: Any) -> Any:
        """Scrapy's call for each item."""
        return item


async def crawls(settings: dict[str, Any]) -> None:
    """Three crawls, one after the other."""
    runner = AsyncCrawlerRunner({"ITEM_PIPELINES": {Store: 300}, **settings})
    for _ in range(3):
        await runner.crawl(Counting)
        Counting.found["after"].append(gc.get_freeze_count() - Counting.before)
    json.dump(Counting.found, sys.stdout)


def main(settings: dict[str, Any], *words: str) -> None:
    """Crawls."""
    if "frozen" in words:
        gc.freeze()
    Counting.before = gc.get_freeze_count()
    gc.disable()  # nothing is freed by chance
    install_reactor(REACTOR)
    react(lambda _: deferred_from_coro(crawls(settings)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), *sys.argv[2:])
