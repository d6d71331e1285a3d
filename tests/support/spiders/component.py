"""What the components of the tests have in common: they know their crawler, and wait for a test."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any


class Component:
    """A pipeline, a middleware, an extension or a feed storage that knows its crawler."""

    @classmethod
    def from_crawler(cls, crawler: Any, *_: Any, **__: Any) -> Component:
        """Scrapy's constructor."""
        component = cls()
        component.crawler = crawler
        return component

    crawler: Any


async def until_told(directory: str | Path, name: str) -> None:
    """Waits until the test has made a file of that name in the crawl's directory."""
    while not (Path(directory) / name).exists():
        await asyncio.sleep(0.01)
