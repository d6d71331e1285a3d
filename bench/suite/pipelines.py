"""The pipelines of the blogs: a post is marked in Valkey before it is stored."""

from __future__ import annotations

from hashlib import sha1
from typing import Any

import valkey
import valkey.asyncio
from scrapy.crawler import Crawler
from scrapy.exceptions import DropItem

_DAYS_90 = 90 * 86400


def digest(item: Any) -> str:
    """What identifies a post."""
    return sha1(f"{item.platform}:{item.post_id}".encode(), usedforsecurity=False).hexdigest()


class SetPipeline:
    """``SET NX EX`` through ``valkey.asyncio``, one command for each post."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> SetPipeline:
        """Scrapy's constructor."""
        return cls(crawler.settings["BENCH_URL"], crawler.settings["BENCH_NAME"])

    async def open_spider(self) -> None:
        """Scrapy's call at the start."""
        self._client = valkey.asyncio.from_url(self._url)

    async def close_spider(self) -> None:
        """Scrapy's call at the end."""
        await self._client.aclose()

    async def process_item(self, item: Any) -> Any:
        """Scrapy's call for each item."""
        if not await self._client.set(f"{self._name}:{digest(item)}", 1, nx=True, ex=_DAYS_90):
            raise DropItem("known")
        return item


class SaddPipeline:
    """``SADD`` through the synchronous client, as scrapy-redis asks about pages."""

    def __init__(self, url: str, name: str) -> None:
        self._client = valkey.from_url(url)
        self._name = name

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> SaddPipeline:
        """Scrapy's constructor."""
        return cls(crawler.settings["BENCH_URL"], crawler.settings["BENCH_NAME"])

    def process_item(self, item: Any) -> Any:
        """Scrapy's call for each item."""
        if not self._client.sadd(self._name, digest(item)):
            raise DropItem("known")
        return item
