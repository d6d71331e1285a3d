"""What runs in the processes of the crawl tests: one real spider, storages good and bad.

A crawl is described by a :class:`Job`, which a process receives, and answered by a ``result.json``.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import random
import sqlite3
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import attrs
import pydantic
import scrapy
from itemadapter import ItemAdapter
from scrapy import signals
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.exceptions import CloseSpider, DropItem
from scrapy.exporters import JsonLinesItemExporter
from scrapy.extensions.feedexport import FeedExporter
from scrapy.pipelines import ItemPipelineManager
from scrapy.settings import Settings
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup import DedupItemProcessor, DedupPipeline, current_claim
from scrapy_valkey_dedup.items import feeds, processor
from scrapy_valkey_dedup.session import ending
from tests.patience import LOOP

HERE = "tests.crawl_process"


@dataclass
class Job:
    """One crawl: where, what, with which settings, into which directory it writes."""

    site: str
    pages: list[int]
    directory: str
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    """For the spider and the pipelines below: see where they read ``spider.options``."""
    seed: int | None = None
    """Shuffles the order of the pages."""

    @property
    def database(self) -> Path:
        """The SQLite file, which crawls may share."""
        return Path(self.options.get("database") or Path(self.directory) / "posts.db")


@dataclass
class Post:
    """A scraped post."""

    post_id: int | str
    text: str = ""
    duplicate: bool = False


@dataclass
class StoredPost:
    """What a later pipeline makes of a post."""

    identifier: int | str
    words: list[str] = field(default_factory=list)


class PostItem(scrapy.Item):
    """The same post as a Scrapy item."""

    post_id = scrapy.Field()
    text = scrapy.Field()


@attrs.define
class PostAttrs:
    """The same post as an attrs object, with slots."""

    post_id: int | str
    text: str = ""


class PostModel(pydantic.BaseModel):
    """The same post as a pydantic model."""

    post_id: int | str
    text: str = ""


TABLES = {"posts": "id TEXT, class TEXT, marked INT, pid INT", "begun": "id TEXT"}

KINDS = {
    "Post": Post,
    "dict": dict,
    "PostItem": PostItem,
    "PostAttrs": PostAttrs,
    "PostModel": PostModel,
}


class Posts(scrapy.Spider):
    """Reads the site's pages and yields their posts."""

    name = "posts"

    def __init__(self, job: Job) -> None:
        super().__init__(job.options.get("name"))
        self.job = job
        self.options = job.options

    async def parse_into_one(self, response):
        """Fills one object for all posts of a page, and fetches something for each in between."""
        item = self.item(response.json()[0])
        adapter = ItemAdapter(item)
        for values in response.json():
            await asyncio.sleep(0.002)
            adapter.update(values)
            yield item

    async def parse_with_one_author(self, response):
        """Fills one dict inside the items anew for each post."""
        author = {}
        for values in response.json():
            await asyncio.sleep(0.002)
            author["id"] = values["post_id"]
            yield {"post_id": values["post_id"], "author": author}

    async def start(self):
        if "items" in self.options:
            for values in self.options["items"]:
                yield self.item(values)
        pages = list(self.job.pages)
        if self.job.seed is not None:
            random.Random(self.job.seed).shuffle(pages)
        for number in pages:
            callback = getattr(self, self.options.get("callback", "parse"))
            yield scrapy.Request(f"{self.job.site}/{number}", callback)

    async def linger(self):
        """Keeps the spider open until the test says go."""
        while not (Path(self.job.directory) / "go").exists():
            await asyncio.sleep(0.02)

    async def parse(self, response):
        for values in response.json():
            yield self.item(values)
            if "pace" in self.options:
                await asyncio.sleep(self.options["pace"])
        if self.options.get("linger"):
            await self.linger()

    def item(self, values):
        kind = self.options.get("kind", "Post")
        return (KINDS.get(kind) or load_object(kind))(**values)


def identifier(item: Any) -> Any:
    """The post's id, whatever a pipeline has made of the item."""
    if isinstance(item, StoredPost):
        return item.identifier
    return ItemAdapter(item)["post_id"]


class Store:
    """A real table without a unique constraint: a duplicate would show. Stored means committed.

    ``options``: ``delay`` seconds before each insert; ``refuse``: ids that it fails to store.
    """

    @classmethod
    def from_crawler(cls, crawler):
        return cls(crawler)

    def __init__(self, crawler):
        self.crawler = crawler

    def open_spider(self):
        options = self.crawler.spider.options
        self.delay, self.refuse = options.get("delay", 0), set(options.get("refuse", ()))
        self.connection = sqlite3.connect(
            self.crawler.spider.job.database, timeout=30, isolation_level=None
        )
        self.connection.execute("PRAGMA synchronous = OFF")
        create_table(self.connection, self.crawler.spider.job.database)

    async def process_item(self, item):
        if self.delay:
            await asyncio.sleep(self.delay)
        post = identifier(item)
        if post in self.refuse:
            raise OSError(f"the storage refuses {post}")
        self.insert(post, item)
        return item

    def insert(self, post, item):
        marked = isinstance(item, Post) and item.duplicate
        row = (str(post), type(item).__name__, marked, os.getpid())
        self.connection.execute("INSERT INTO posts VALUES (?, ?, ?, ?)", row)

    def close_spider(self):
        self.connection.close()


def create_table(connection: sqlite3.Connection, database: Path, name: str = "posts") -> None:
    """Makes a table of posts, and lets processes write it at once."""
    # SQLite refuses processes that turn on the WAL at once, whatever its timeout is.
    with Path(f"{database}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({TABLES[name]})")


class NotingStore(Store):
    """Notes which posts it has begun to store."""

    def open_spider(self):
        super().open_spider()
        create_table(self.connection, self.crawler.spider.job.database, "begun")

    async def process_item(self, item):
        self.connection.execute("INSERT INTO begun VALUES (?)", (str(identifier(item)),))
        return await super().process_item(item)


class HeldStore(Store):
    """Takes ``delay`` seconds for each post until the test tells it to hurry."""

    async def process_item(self, item):
        hurry = Path(self.crawler.spider.job.directory) / "hurry"
        clock = asyncio.get_running_loop().time
        end, self.delay = clock() + self.crawler.spider.options["delay"], 0
        while clock() < end and not hurry.exists():
            await asyncio.sleep(0.02)
        return await super().process_item(item)


class ManualStore(Store):
    """Stores in batches and settles each claim itself."""

    def open_spider(self):
        super().open_spider()
        self.batch = []

    async def process_item(self, item):
        self.batch.append((identifier(item), item, current_claim()))
        if len(self.batch) >= 10:
            self.flush()
        return item

    def flush(self):
        for post, item, claim in self.batch:
            if post in self.refuse:
                claim.release()
            else:
                self.insert(post, item)
                claim.confirm()
        self.batch = []

    def close_spider(self):
        self.flush()
        super().close_spider()


class NeverSettles:
    """A storage that forgets its claims."""

    def process_item(self, item):
        self.claim = current_claim()
        return item


class LateManualStore(ManualStore):
    """Stores all that it has when the spider closes, as soon as the test says go."""

    async def process_item(self, item):
        self.batch.append((identifier(item), item, current_claim()))
        return item

    async def close_spider(self):
        await until_told(self.crawler, "go")
        super().close_spider()


class HandsOn:
    """A pipeline as the project template has it."""

    def process_item(self, item):
        return item


class FailsToClose:
    """A pipeline that cannot close."""

    def process_item(self, item):
        return item

    async def close_spider(self):
        raise OSError("cannot close")


class StaysAtTheEnd:
    """An extension that keeps the process alive after the engine has stopped."""

    @classmethod
    def from_crawler(cls, crawler):
        extension = cls()
        extension.crawler = crawler
        crawler.signals.connect(extension.engine_stopped, signals.engine_stopped)
        return extension

    async def engine_stopped(self):
        await until_told(self.crawler, "end")


async def until_told(crawler, name):
    """Waits until the test has made a file of that name in the crawl's directory."""
    while not (Path(crawler.spider_directory) / name).exists():
        await asyncio.sleep(0.02)


class HeldStorage:
    """A feed storage whose upload takes until the test says go."""

    @classmethod
    def from_crawler(cls, crawler, *_, **__):
        storage = cls()
        storage.crawler = crawler
        return storage

    def open(self, spider):
        from tempfile import NamedTemporaryFile

        return NamedTemporaryFile()

    async def store(self, file):
        await until_told(self.crawler, "go")
        file.close()


class Dropper:
    """A later pipeline that drops the ids in ``options["drop"]``."""

    @classmethod
    def from_crawler(cls, crawler):
        pipeline = cls()
        pipeline.crawler = crawler
        return pipeline

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


class Parent:
    """A later pipeline that sends an item of its own for each, and waits until it is stored."""

    @classmethod
    def from_crawler(cls, crawler):
        pipeline = cls()
        pipeline.crawler = crawler
        return pipeline

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


class WaitsToDrop:
    """A later pipeline that drops when the test says so."""

    @classmethod
    def from_crawler(cls, crawler):
        pipeline = cls()
        pipeline.crawler = crawler
        return pipeline

    async def process_item(self, item):
        while not (Path(self.crawler.spider.job.directory) / "drop").exists():
            await asyncio.sleep(0.02)
        raise DropItem("when told")


class Replacer:
    """A later pipeline that hands on another object, of another type."""

    def process_item(self, item):
        return StoredPost(identifier(item), words=["replaced"])


class MarkFirst:
    """What the known plugins do, for comparison: a post is marked as seen before it is stored."""

    @classmethod
    def from_crawler(cls, crawler):
        pipeline = cls()
        pipeline.url, pipeline.crawler = crawler.settings["VALKEY_DEDUP_URL"], crawler
        return pipeline

    async def process_item(self, item):
        from valkey.asyncio import Valkey

        if not hasattr(self, "client"):
            self.client = Valkey.from_url(self.url)
        if not await self.client.sadd(self.crawler.spider.options["marked"], identifier(item)):
            raise DropItem("seen")
        return item


class OwnPipeline(DedupPipeline):
    """A user's pipeline that extends the plugin's."""


class OwnProcessor(ItemPipelineManager):
    """A user's item processor."""


class OwnDedupProcessor(DedupItemProcessor):
    """One that extends the plugin's."""


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


class BrokenStorage:
    """A feed storage that takes the file and fails to store it."""

    def __init__(self, uri, *, feed_options=None):
        pass

    def open(self, spider):
        from tempfile import TemporaryFile

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


class OldProcessor(ItemPipelineManager):
    """A user's item processor, as older versions of Scrapy want it."""

    def process_item(self, item, spider):
        return super().process_item(item, spider)


class UnfinishedExporter(JsonLinesItemExporter):
    """An exporter that cannot write the last bytes."""

    def finish_exporting(self):
        raise OSError("the disk is full")


def fingerprint(item, spider):
    """An identity function for VALKEY_DEDUP_IDENTITY."""
    return None if identifier(item) == "none" else ["by function", str(identifier(item))]


def settings_of(job: Job) -> Settings:
    """The project's settings: the plugin is enabled as README says."""
    return Settings(
        {
            "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
            "ASYNCIO_EVENT_LOOP": LOOP,
            "BOT_NAME": "tests",
            "FEED_TEMPDIR": job.directory,  # a crawl that is killed leaves there what it uploads
            "ITEM_PIPELINES": {f"{HERE}.Store": 300},
            "LOG_FILE": str(Path(job.directory) / "log"),
            "LOG_LEVEL": "INFO",
            "TELNETCONSOLE_ENABLED": False,
            "RETRY_ENABLED": False,
            "HTTPPROXY_ENABLED": False,
            "DOWNLOAD_DELAY": 0,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
            # One kind: of whatever spider and class of the tests, a post is known by its id.
            "VALKEY_DEDUP_FIELDS": {"*": {"fields": ["post_id"], "kind": "Post"}},
            **job.settings,
        }
    )


def break_the_client() -> None:
    """From the sixth exchange on valkey-py fails as it does in a cluster in trouble."""
    from scrapy_valkey_dedup.valkey.connections import NodeConnections

    exchange, exchanges = NodeConnections._send_and_read, []

    async def broken(self, packed, count):
        exchanges.append(packed)
        if len(exchanges) > 5:
            raise AttributeError("a bare one")
        return await exchange(self, packed, count)

    NodeConnections._send_and_read = broken


def crawl(job: Job) -> None:
    """Runs the crawl in this process and leaves ``result.json``: stats, or the error."""
    os.chdir(job.directory)
    if job.options.get("faulty_client"):
        break_the_client()
    if "longest_end" in job.options:
        ending.LONGEST_END = processor.LONGEST_END = job.options["longest_end"]
    if "sync_interval" in job.options:
        feeds.SYNC_INTERVAL = job.options["sync_interval"]
    process = AsyncCrawlerProcess(settings_of(job))
    crawler = process.create_crawler(Posts)
    crawler.spider_directory = job.directory  # after its end a crawler has no spider
    process.crawl(crawler, job=job)
    process.start()
    logging.shutdown()
    result = {"stats": crawler.stats.get_stats(), "failed": process.bootstrap_failed}
    path = Path(job.directory) / "result.json"
    path.with_suffix(".new").write_text(json.dumps(result, default=str))
    path.with_suffix(".new").replace(path)


if __name__ == "__main__":
    crawl(Job(**json.loads(sys.argv[1])))

__all__ = ["Job", "asdict", "crawl"]
