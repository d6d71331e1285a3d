"""Where the posts are stored."""

import asyncio
import json
import sqlite3
import time
from dataclasses import astuple, fields
from pathlib import Path

from scrapy.crawler import Crawler

from posts.items import Post

# How long one of several writers waits for its turn. Seconds.
BUSY_TIMEOUT = 30

COLUMNS = ("spider", "run_started", *(field.name for field in fields(Post)))
# No unique constraint: a post that was stored twice would show.
SCHEMA = f"""
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS posts ({", ".join(f"{name} TEXT" for name in COLUMNS)});
"""
INSERT = f"INSERT INTO posts VALUES ({', '.join('?' for _ in COLUMNS)})"  # noqa: S608 (no value)


class SQLitePipeline:
    """Stores posts in the SQLite file that the setting ``POSTS_DATABASE`` names.

    A post that left this pipeline is stored: its transaction has reached the disk. Any number of
    spider processes of a machine may write one file.

    All posts that wait at one moment share a transaction, in a thread. Measured with three
    processes on two cores: 75 microseconds a post, with the disk flushed each time. One transaction
    a post took 540 and stopped the event loop for 1.5 seconds when the processes met; without the
    flush (``synchronous = NORMAL``) 60, and still 80 milliseconds of standstill.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._path = Path(crawler.settings["POSTS_DATABASE"])
        self._waiting: list[tuple] = []
        self._commit: asyncio.Task | None = None
        self._turn = asyncio.Lock()
        self._database: sqlite3.Connection

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> "SQLitePipeline":
        """Read the settings."""
        return cls(crawler)

    async def open_spider(self) -> None:
        """Open the database, and make it if it is not there."""
        self._database = await asyncio.to_thread(_open, self._path)

    async def process_item(self, item: Post) -> Post:
        """Store the post, then pass it on."""
        self._waiting.append(self._row(item))
        if self._commit is None:
            self._commit = asyncio.create_task(self._commit_waiting())
        # The commit belongs to all of its posts: one that is given up does not end it.
        await asyncio.shield(self._commit)
        return item

    async def close_spider(self) -> None:
        """Close the database."""
        await asyncio.to_thread(self._database.close)

    def _row(self, post: Post) -> tuple:
        started = self._crawler.stats.get_value("start_time").isoformat()
        row = (self._crawler.spider.name, started, *astuple(post))
        row = tuple(
            json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
            for value in row
        )
        for value in row:
            if value is not None:
                # Text that UTF-8 cannot hold fails here, alone, not with its whole transaction.
                value.encode()
        return row

    async def _commit_waiting(self) -> None:
        async with self._turn:
            # Posts that arrive from here on wait for the next transaction.
            rows, self._waiting, self._commit = self._waiting, [], None
            await asyncio.to_thread(self._insert, rows)

    def _insert(self, rows: list[tuple]) -> None:
        with self._database:
            self._database.executemany(INSERT, rows)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        # Always one thread at a time, though not always the same.
        database = sqlite3.connect(path, timeout=BUSY_TIMEOUT, check_same_thread=False)
        try:
            database.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            database.close()
            # Processes that turn on the WAL at once fail without waiting for each other.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return database
