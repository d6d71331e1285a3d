"""What a user gives feeds: storages, filters, exporters and parameters, well made and not."""

from __future__ import annotations

from tempfile import NamedTemporaryFile, TemporaryFile

from scrapy.exporters import JsonLinesItemExporter
from scrapy.extensions.feedexport import FeedExporter

from tests.support.spiders.component import Component, until_told

FEEDS = __name__


class HeldStorage(Component):
    """A feed storage whose upload takes until the test says go."""

    def open(self, spider):
        return NamedTemporaryFile()

    async def store(self, file):
        await until_told(self.crawler.spider_directory, "go")
        file.close()


class BrokenStorage:
    """A feed storage that takes the file and fails to store it."""

    def __init__(self, uri, *, feed_options=None):
        pass

    def open(self, spider):
        return TemporaryFile()

    def store(self, file):
        file.close()
        raise OSError("the bucket is gone")


class FirstTen:
    """A feed's filter that counts."""

    def __init__(self, feed_options):
        self.seen = 0

    def accepts(self, item):
        self.seen += 1
        return self.seen <= 10


class Odd:
    """A feed's filter that takes the posts with odd ids."""

    rest = 1

    def __init__(self, feed_options):
        pass

    def accepts(self, item):
        return item.post_id % 2 == self.rest


class Even(Odd):
    """A feed's filter that takes the others."""

    rest = 0


class PickyExporter(JsonLinesItemExporter):
    """An exporter that cannot write some items."""

    def export_item(self, item):
        if item.text == "unexportable":
            raise ValueError("this one cannot be written")
        super().export_item(item)


class UnfinishedExporter(JsonLinesItemExporter):
    """An exporter that cannot write the last bytes."""

    def finish_exporting(self):
        raise OSError("the disk is full")


class LateFeeds(FeedExporter):
    """A user's feed exporter that keeps the items, and exports them when the spider closes."""

    def item_scraped(self, item, spider):
        self.kept = [*getattr(self, "kept", []), item]

    async def close_spider(self, spider):
        for item in self.kept[1:]:
            super().item_scraped(item, spider)
        await super().close_spider(spider)


def country(params, spider):
    """What a user's FEED_URI_PARAMS adds: the same in every run."""
    return {**params, "country": "nowhere"}
