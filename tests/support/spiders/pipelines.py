"""A user's pipelines and item processors, well made and not, beside the storage and the plugin."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from scrapy import signals
from scrapy.exceptions import CloseSpider, DropItem
from scrapy.pipelines import ItemPipelineManager
from twisted.internet.defer import succeed

from scrapy_valkey_dedup import DedupItemProcessor, DedupPipeline
from tests.support.spiders.component import Component, until_told
from tests.support.spiders.posts import Post, StoredPost, identifier

PIPELINES = __name__


class HandsOn:
    """A pipeline as the project template has it."""

    def process_item(self, item):
        return item


class Dropper(Component):
    """A later pipeline that drops the ids in ``options["drop"]``."""

    def process_item(self, item):
        if identifier(item) in self.crawler.spider.options.get("drop", ()):
            raise DropItem("not wanted")
        return item


class DropFirst:
    """A later pipeline that drops the first item that it meets, after a while."""

    met = False

    async def process_item(self, item):
        if not self.met:
            self.met = True
            await asyncio.sleep(0.1)
            raise DropItem("the first")
        return item


class Parent(Component):
    """A later pipeline that sends another item for each, and waits until it is stored."""

    async def process_item(self, item):
        if not str(item.post_id).startswith("child"):
            child = Post(f"child of {item.post_id}")
            await self.crawler.engine.scraper.start_itemproc_async(child, response=None)
        return item


class Blocker:
    """A later pipeline that blocks the event loop now and then."""

    seen = 0

    def process_item(self, item):
        self.seen += 1
        if self.seen % 100 == 0:
            time.sleep(0.5)
        return item


class WaitsToDrop(Component):
    """A later pipeline that drops when the test says so."""

    async def process_item(self, item):
        await until_told(self.crawler.spider.job.directory, "drop")
        raise DropItem("when told")


class Replacer:
    """A later pipeline that hands on another object, of another type."""

    def process_item(self, item):
        return StoredPost(identifier(item), words=["replaced"])


class WithSpider:
    """A pipeline as old as the argument that it takes."""

    def process_item(self, item, spider):
        return replace(item, text=f"{item.text} of {spider.name}")


class GivesFuture:
    """A pipeline that returns what can be awaited, without being a coroutine function."""

    def process_item(self, item):
        made = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(made.set_result, replace(item, text=item.text + "!"))
        return made


class GivesDeferred:
    """A pipeline that returns a Deferred, which is deprecated."""

    def process_item(self, item):
        return succeed(replace(item, text=item.text + "?"))


class CountsTexts(Component):
    """Counts the texts that it meets, as stats."""

    def process_item(self, item):
        self.crawler.stats.inc_value(f"text/{item.text}")
        return item


class OwnPipeline(DedupPipeline):
    """A user's pipeline that extends the plugin's."""


class OwnProcessor(ItemPipelineManager):
    """A user's item processor."""


class OwnDedupProcessor(DedupItemProcessor):
    """One that extends the plugin's."""


class OldProcessor(ItemPipelineManager):
    """A user's item processor, as older versions of Scrapy want it."""

    def process_item(self, item, spider):
        return super().process_item(item, spider)


class FailsToOpen:
    """A pipeline that cannot start, some time after the others have."""

    delay = 0.3

    async def open_spider(self):
        await asyncio.sleep(self.delay)
        raise OSError("cannot open")


class FailsAtOnce(FailsToOpen):
    """A pipeline that cannot start, while the others are still at it."""

    delay = 0


class ClosesAtOpen:
    """A pipeline that closes the spider before it is open."""

    async def open_spider(self):
        await asyncio.sleep(0.3)
        raise CloseSpider("cannot open")


class FailsToClose:
    """A pipeline that cannot close."""

    def process_item(self, item):
        return item

    async def close_spider(self):
        raise OSError("cannot close")


class StaysAtTheEnd(Component):
    """An extension that keeps the process alive after the engine has stopped."""

    @classmethod
    def from_crawler(cls, crawler):
        extension = super().from_crawler(crawler)
        crawler.signals.connect(extension.engine_stopped, signals.engine_stopped)
        return extension

    async def engine_stopped(self):
        await until_told(self.crawler.spider_directory, "end")


def fingerprint(item, spider):
    """An identity function for VALKEY_DEDUP_IDENTITY."""
    return None if identifier(item) == "none" else ["by function", str(identifier(item))]
