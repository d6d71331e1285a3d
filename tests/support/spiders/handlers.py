"""Handlers of ``item_scraped``: one that stores the items, and what looks at the others."""

from __future__ import annotations

import asyncio
import os
import signal

from pydispatch.dispatcher import getAllReceivers, liveReceivers
from scrapy import signals

from tests.support.spiders.component import Component
from tests.support.spiders.posts import identifier
from tests.support.spiders.storages import Store

HANDLERS = __name__


class StoringHandler(Store):
    """An extension that stores the items, as on Scrapy Cloud.

    ``options``: ``awaits`` before it does; then ``kill_at``, an id, ends the process, and
    ``fails_at``, an id, cannot be stored.
    """

    @classmethod
    def from_crawler(cls, crawler):
        extension = super().from_crawler(crawler)
        crawler.signals.connect(extension.open_spider, signals.spider_opened)
        awaits = crawler.spider.options.get("awaits")
        receiver = extension.scraped_later if awaits else extension.scraped
        crawler.signals.connect(receiver, signals.item_scraped)
        return extension

    def scraped(self, item):
        if identifier(item) == self.crawler.spider.options.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if identifier(item) == self.crawler.spider.options.get("fails_at"):
            raise OSError("no space left")
        self.store(item)

    async def scraped_later(self, item):
        await asyncio.sleep(0.2)
        self.scraped(item)


class CountsReceivers(Component):
    """Counts, as ``receivers``, the plugin's receivers of an item's end when the spider closes."""

    @classmethod
    def from_crawler(cls, crawler):
        extension = super().from_crawler(crawler)
        crawler.signals.connect(extension.closed, signals.spider_closed)
        return extension

    def closed(self):
        ends = signals.item_scraped, signals.item_dropped, signals.item_error
        found = [
            receiver
            for end in ends
            for receiver in liveReceivers(getAllReceivers(self.crawler, end))
            if receiver.__module__.startswith("scrapy_valkey_dedup")
        ]
        self.crawler.stats.set_value("receivers", len(found))


class SendsOtherwise(CountsReceivers):
    """Has Scrapy's scraper send its signals in another way than the plugin knows."""

    @classmethod
    def from_crawler(cls, crawler):
        extension = super().from_crawler(crawler)
        crawler.signals.connect(extension.opened, signals.spider_opened)
        return extension

    def opened(self):
        self.crawler.engine.scraper.signals = self.crawler.signals
