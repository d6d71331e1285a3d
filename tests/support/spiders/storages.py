"""Storages that a second copy shows in: a table and a file that processes share, and what they do.

Written means stored. Some are slow, some refuse posts, some settle their claims by hand.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from math import inf
from pathlib import Path

from itemadapter import ItemAdapter
from scrapy.exceptions import DropItem

from scrapy_valkey_dedup import current_claim
from tests.support.spiders.component import Component, until_told
from tests.support.spiders.posts import Post, identifier

STORAGES = __name__
TABLES = {"posts": "id TEXT, class TEXT, marked INT, pid INT", "begun": "id TEXT"}


class SettledByHand:
    """Has a storage, which is the next base of the class, settle each claim itself.

    It stores ``size`` posts at a time, and the rest when the spider closes.
    """

    size: float = inf

    def open_spider(self):
        super().open_spider()
        self.batch = []

    async def process_item(self, item):
        self.batch.append((item, current_claim()))
        if len(self.batch) >= self.size:
            self.flush()
        return item

    def flush(self):
        for item, claim in self.batch:
            if self.refuses(item):
                claim.release()
            else:
                self.store(item)
                claim.confirm()
        self.batch = []

    def close_spider(self):
        self.flush()
        super().close_spider()


class FileStore(Component):
    """Appends a line for each post to a file that processes may share.

    There is no lock, which a process that is frozen could be holding.
    """

    def open_spider(self):
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @property
    def path(self):
        """By default a file of the crawl's own."""
        return Path(self.crawler.spider.job.directory) / "posts"

    def refuses(self, item):
        """Whether it fails to store an item."""
        return False

    def line(self, item):
        """What it writes."""
        return ItemAdapter(item)["post_id"]

    async def process_item(self, item):
        if self.refuses(item):
            raise OSError("the storage refuses it")
        self.store(item)
        return item

    def store(self, item):
        os.write(self.file, f"{self.line(item)}\n".encode())

    def close_spider(self):
        os.close(self.file)


class Store(Component):
    """A real table without a unique constraint: a duplicate would show. Stored means committed.

    ``options``: ``delay`` seconds before each insert; ``refuse``: ids that it fails to store.
    """

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
        if self.refuses(item):
            raise OSError(f"the storage refuses {identifier(item)}")
        self.store(item)
        return item

    def refuses(self, item):
        return identifier(item) in self.refuse

    def store(self, item):
        self.insert(identifier(item), item)

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


class ManualStore(SettledByHand, Store):
    """Stores in batches and settles each claim itself."""

    size = 10


class LateManualStore(SettledByHand, Store):
    """Stores all that it has when the spider closes, as soon as the test says go."""

    async def close_spider(self):
        await until_told(self.crawler.spider_directory, "go")
        super().close_spider()


class NeverSettles:
    """A storage that forgets its claims."""

    def process_item(self, item):
        self.claim = current_claim()
        return item


class MarkFirst(Component):
    """What the known plugins do, for comparison: a post is marked as seen before it is stored."""

    async def process_item(self, item):
        from valkey.asyncio import Valkey

        if not hasattr(self, "client"):
            self.client = Valkey.from_url(self.crawler.settings["VALKEY_DEDUP_URL"])
        if not await self.client.sadd(self.crawler.spider.options["marked"], identifier(item)):
            raise DropItem("seen")
        return item
