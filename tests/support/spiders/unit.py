"""What a user's unit test does with the components, in a process without a reactor."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from scrapy import Spider, version_info
from scrapy.crawler import Crawler
from scrapy.utils.test import get_crawler

from scrapy_valkey_dedup import DedupPipeline, DupeFilter, RequestDedupMiddleware
from scrapy_valkey_dedup.model import SettingsError


def crawler(settings: dict[str, Any]) -> Crawler:
    """What ``get_crawler`` makes, also of Scrapy 2.14, where that needs a reactor itself."""
    if version_info >= (2, 15):
        return get_crawler(settings_dict=settings)
    made = Crawler(Spider, {**settings, "TWISTED_REACTOR": None})
    made._apply_settings()
    return made


def refused(pipeline: DedupPipeline) -> str:
    """What comes of opening it where no event loop of asyncio runs."""
    try:
        pipeline.open_spider().send(None)
    except SettingsError as error:
        return str(error)
    return "not refused"


async def use(pipeline: DedupPipeline, *, awaits: bool) -> dict[str, Any]:
    """Opens it, sends posts and closes it; returns what it said, and what it left in the loop."""
    await pipeline.open_spider()
    first = await pipeline.process_item({"post_id": "1"})
    closed = pipeline.close_spider()
    if awaits:
        await closed
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)  # of a task that never ends the test's deadline tells
    return first


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    built = [
        kind.from_crawler(crawler(settings))
        for kind in (
            DupeFilter,
            RequestDedupMiddleware,
            DedupPipeline,
            DedupPipeline,
            DedupPipeline,
        )
    ]
    message = refused(built[-3])
    posts = [
        asyncio.run(use(pipeline, awaits=awaits))
        for pipeline, awaits in zip(built[-2:], (True, False), strict=True)
    ]
    reactor = "twisted.internet.reactor" in sys.modules
    json.dump({"refused": message, "posts": posts, "reactor": reactor}, sys.stdout)
