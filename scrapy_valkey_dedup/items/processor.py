"""The item processor: tracks every item from before the first pipeline to its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.pipelines import ItemPipelineManager
from scrapy.utils.defer import ensure_awaitable
from scrapy.utils.python import global_object_name

from scrapy_valkey_dedup.items.current_item import begin_item
from scrapy_valkey_dedup.items.last_items import LastItems
from scrapy_valkey_dedup.session.item_in_progress import ItemInProgress
from scrapy_valkey_dedup.session.refusals import refused
from scrapy_valkey_dedup.session.registry import session_of
from scrapy_valkey_dedup.stats import quantity

logger = logging.getLogger(__name__)

LONGEST_END = 60.0
"""Seconds for which the end of a crawl waits for items that are still in its pipelines."""
_LOOK = 0.02  # seconds


def tracks_items(crawler: Crawler) -> bool:
    """Whether the crawl's item processor tracks its items."""
    engine = crawler.engine
    processor = engine.scraper.itemproc if engine is not None else None
    return isinstance(processor, DedupItemProcessor)


class DedupItemProcessor(ItemPipelineManager):
    """Scrapy's item processor, for ``ITEM_PROCESSOR``; the add-on sets it.

    An item may be dropped by a pipeline that stands before the deduplication, and the contexts of
    items are inherited by unrelated work: whose end Scrapy tells is certain only if every item is
    seen here first.
    At the end of the crawl it waits for the items that are still in the pipelines, which Scrapy
    2.14 to 2.17 does not do for those that the spider's ``start()`` has sent.
    """

    def __init__(self, *pipelines: Any, crawler: Crawler | None = None) -> None:
        super().__init__(*pipelines, crawler=crawler)
        self._session = None
        if crawler is not None:
            with contextlib.suppress(NotConfigured):
                self._session = session_of(crawler)
        self._under_way: set[ItemInProgress] = set()
        self._closing = 0
        """How many pipelines are closing at this moment."""
        closers = self.methods["close_spider"]
        closers.extend([self._counted(closers.popleft()) for _ in range(len(closers))])
        self._last_items = LastItems(crawler)
        self._is_used = self._session is not None and self._session.has_pipeline
        scrapys = ItemPipelineManager
        self._passes_as_scrapy = (
            getattr(super().process_item_async, "__func__", None) is scrapys.process_item_async
            and getattr(type(self), "_process_chain", None) is scrapys._process_chain  # noqa: SLF001
        )

    async def process_item_async(self, item: Any) -> Any:
        """Scrapy's call for each item."""
        if not self._is_used:
            return await super().process_item_async(item)
        if not self._last_items.watched:
            self._last_items.watch()
        current = begin_item()
        current.keep_in(self._under_way)
        try:
            if not self._passes_as_scrapy:
                item = await super().process_item_async(item)
            else:
                # What Scrapy's does, without a coroutine for what needs none.
                with_spider = self._mw_methods_requiring_spider
                processes: Any = self.methods["process_item"]
                for process in processes:
                    is_given = with_spider and process in with_spider
                    made = process(item, self._spider) if is_given else process(item)
                    if type(made) is CoroutineType:
                        item = await made
                    elif made is not item:
                        item = await ensure_awaitable(made, _warn=global_object_name(process))
        except Exception:
            raise
        except BaseException:  # cancelled: Scrapy tells of no end
            current.claim.release()
            current.end()
            raise
        return item

    def _counted(self, close: Any) -> Any:
        """Wraps a pipeline's ``close_spider``, so that it is known when it has ended."""

        @functools.wraps(close)
        async def counted(*spider: Any) -> None:
            self._closing += 1
            try:
                await ensure_awaitable(close(*spider), _warn=global_object_name(close))
            finally:
                self._closing -= 1

        if close in self._mw_methods_requiring_spider:
            self._mw_methods_requiring_spider.add(counted)
        return counted

    async def close_spider_async(self) -> None:
        """Closes the pipelines when they have no more items."""
        await self._until(lambda: not self._under_way or self._is_idle)
        if self._under_way and not self._is_idle:
            logger.warning(
                "Still in the item pipelines %.0f seconds after the spider began to close: %s. The "
                "pipelines are closed now.",
                LONGEST_END,
                quantity(len(self._under_way), "item"),
            )
        try:
            await super().close_spider_async()
        except Exception as error:
            # Scrapy goes on without waiting for the other pipelines: one may be storing its last.
            await self._until(lambda: not self._closing)
            if self._session is not None and self._session.settings.confirm != "manual":
                logger.error(  # noqa: TRY400 (Scrapy logs the traceback)
                    "A pipeline could not be closed (%s). If it stores what it has gathered then, "
                    "posts are remembered that are not stored: with VALKEY_DEDUP_CONFIRM = "
                    "'manual' such a pipeline says itself which posts it has stored.",
                    type(error).__name__,
                )
            raise

    @property
    def _is_idle(self) -> bool:
        """Whether Scrapy has no item in the pipelines, even if no signal has come for some."""
        engine = self.crawler.engine if self.crawler is not None else None
        slot = engine.scraper.slot if engine is not None else None
        return slot is not None and slot.itemproc_size == 0

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition, up to the longest end of a crawl."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + LONGEST_END
        while not condition() and clock() < deadline:  # noqa: ASYNC110 (rare, and short)
            await asyncio.sleep(_LOOK)


def refuse_old_processors(crawler: Crawler) -> None:
    """Scrapy runs an overridden process_item, which is deprecated, in another context."""
    engine = crawler.engine
    awaits = getattr(engine.scraper if engine is not None else None, "_itemproc_has_async", {})
    if awaits.get("process_item", True):
        return
    fault = (
        f"ITEM_PROCESSOR = {crawler.settings['ITEM_PROCESSOR']!r} has its own process_item, but "
        "not process_item_async: it would be unknown which posts are stored; override "
        "process_item_async instead, in a class that extends scrapy_valkey_dedup.DedupItemProcessor"
    )
    raise refused(crawler, [fault])


def refuse_other_processors(crawler: Crawler, first: object) -> None:
    """Only a processor that sees every item first knows which item has ended."""
    fault = (
        f"ITEM_PROCESSOR = {crawler.settings['ITEM_PROCESSOR']!r}, and {type(first).__qualname__} "
        "stands before the deduplication: it would be uncertain which posts are stored; "
        "set scrapy_valkey_dedup.DedupItemProcessor, or a class that extends it; or give the "
        "deduplication the lowest number in ITEM_PIPELINES"
    )
    raise refused(crawler, [fault])
