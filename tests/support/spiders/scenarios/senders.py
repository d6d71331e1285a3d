"""Requests from all who can send one: callbacks, pipelines, extensions, middlewares."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import scrapy
from scrapy import signals
from scrapy.exceptions import DontCloseSpider

from tests.support.servers.web import (
    Reply,
    posts,
)
from tests.support.spiders.component import Component
from tests.support.spiders.requests import STORE, Reader

HERE = __name__


class AsksMore(Component):
    """A pipeline that sends requests: through the scheduler, and past it."""

    async def process_item(self, item):
        engine, spider = self.crawler.engine, self.crawler.spider
        if item["post_id"] == "a":
            for path in ("/piped", "/piped", "/b"):
                engine.crawl(spider.get(path))
            for _ in range(2):
                response = await engine.download_async(scrapy.Request(spider.site + "/fetched"))
                spider.note("fetched", response)
        return item


class AsksWhenIdle:
    """An extension that sends requests when an item is scraped, and when nothing is left to do."""

    @classmethod
    def from_crawler(cls, crawler):
        extension = cls()
        extension.crawler, extension.done = crawler, False
        crawler.signals.connect(extension.item_scraped, signals.item_scraped)
        crawler.signals.connect(extension.idle, signals.spider_idle)
        return extension

    def item_scraped(self, item):
        spider = self.crawler.spider
        self.crawler.engine.crawl(spider.get("/scraped?" + item["post_id"], spider.seen))

    def idle(self):
        if not self.done:
            self.done = True
            self.crawler.engine.crawl(self.crawler.spider.get("/idle"))
            self.crawler.engine.crawl(self.crawler.spider.get("/a"))
            raise DontCloseSpider


class StartsMore(Component):
    """A spider middleware that adds to what start() yields."""

    async def process_start(self, start):
        async for sent in start:
            yield sent
        yield scrapy.Request(self.crawler.spider.site + "/added")


class Senders(Reader):
    """Requests from all who can send one."""

    name = "senders"
    custom_settings: ClassVar = {
        "ITEM_PIPELINES": {f"{HERE}.AsksMore": 200, STORE: 300},
        "EXTENSIONS": {f"{HERE}.AsksWhenIdle": 0},
        "SPIDER_MIDDLEWARES": {f"{HERE}.StartsMore": 543},
    }
    pages: ClassVar = {
        "/a": posts("a"),
        "/b": posts("b"),
        "/piped": posts("piped"),
        "/fetched": posts("fetched"),
        "/idle": posts("idle", links=["/a"]),
        "/added": posts("added"),
        **{
            f"/scraped?{post}": Reply(b"noted")
            for post in ("a", "b", "piped", "idle", "added", "started")
        },
    }

    async def start(self):
        yield {"post_id": "started"}
        yield self.get("/a")
        await asyncio.sleep(0.05)
        yield self.get("/a")

    def seen(self, response):
        self.note("seen", response)
