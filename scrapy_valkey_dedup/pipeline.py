"""The item pipeline: claims a post before it is stored, settles the claim when it is known how."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

from itemadapter import ItemAdapter
from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DropItem

from scrapy_valkey_dedup.feeds import FeedWatch
from scrapy_valkey_dedup.identity import Identifier
from scrapy_valkey_dedup.model import (
    NO_CLAIM,
    Claim,
    DuplicatePost,
    SettingsError,
    UnkeyedError,
    Verdict,
)
from scrapy_valkey_dedup.pages import Ending, Passage
from scrapy_valkey_dedup.registry import has_engine, session_of
from scrapy_valkey_dedup.stats import ITEMS, Stats

# Scrapy runs an item's pipelines and sends its item_scraped, item_dropped or item_error in one
# context: so the claim is found even if a later pipeline has replaced the item. The context may
# live on into the next item of the same worker, which may never come as far as this pipeline:
# therefore an object that remembers that its item's way has ended.
_current: ContextVar[Passage | None] = ContextVar("scrapy_valkey_dedup_passage", default=None)


def _passage() -> Passage | None:
    """The innermost that has not ended."""
    passage = _current.get()
    while passage is not None and passage.ended:
        passage = passage.outer
    return passage


def _begin_passage() -> Passage:
    passage = Passage(_passage())
    _current.set(passage)
    return passage


def _end_passage() -> Passage:
    """The innermost, which ends; a blank one for an item that did not come as far as here."""
    passage = _passage() or Passage()
    passage.ended = True
    return passage


def current_claim() -> Claim:
    """The claim on the item that is being processed.

    For storage pipelines under ``VALKEY_DEDUP_CONFIRM = "manual"``: call it in ``process_item``,
    keep what it returns, and call its ``confirm()`` or ``release()`` when the item is, or cannot
    be, stored. Where there is nothing to settle (an item without an identity) the claim that is
    returned ignores both.
    """
    passage = _passage()
    return NO_CLAIM if passage is None else passage.claim


class DedupPipeline:
    """Drops posts that some spider of the fleet has stored, in this run or an earlier one.

    A post is claimed when it arrives, and remembered only after every later pipeline accepted it
    (``VALKEY_DEDUP_CONFIRM`` says when exactly). If it was dropped or failed on the way, the claim
    is given back. Place it after what cleans the fields of the identity, before what stores.

    Raises :class:`~scrapy_valkey_dedup.DuplicatePost`, a ``DropItem``, for a duplicate. All
    settings are in ``docs/settings.md``.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._session = session_of(crawler)
        if self._session.has_pipeline:
            cure = "leave one of them, a subclass counts"
            raise SettingsError(
                [f"ITEM_PIPELINES enables the deduplication pipeline twice: {cure}"]
            )
        self._session.has_pipeline = True
        self._settings = self._session.settings
        self._stats = Stats(crawler.stats)
        self._identifier = Identifier(self._settings)
        crawler.signals.connect(self._item_scraped, signals.item_scraped)
        crawler.signals.connect(self._item_dropped, signals.item_dropped)
        crawler.signals.connect(self._item_failed, signals.item_error)
        if self._settings.confirm == "exported":
            self._feeds = FeedWatch(crawler, self._stats)
            crawler.signals.connect(self._feeds.slot_closed, signals.feed_slot_closed)
            crawler.signals.connect(self._feeds_closed, signals.feed_exporter_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> DedupPipeline:
        """Built by Scrapy."""
        return cls(crawler)

    async def open_spider(self) -> None:
        """Connects to Valkey."""
        if self._settings.confirm == "exported":
            self._feeds.begin()
        await self._session.open()

    def close_spider(self) -> Awaitable[None] | None:
        """The last moment at which Scrapy's scheduler takes requests back.

        Without an engine, as in a unit test, no signal comes after this: the session closes now,
        and returned is what can be awaited until it is closed.
        """
        for prepare in self._session.before_scheduler_closes:
            prepare()
        if has_engine(self._crawler):
            return None
        return asyncio.ensure_future(self._session.close())

    async def process_item(self, item: Any) -> Any:
        """Returns the item if it is to be stored."""
        passage = _begin_passage()
        key = self._identifier.key(item, self._crawler.spider)
        if key is None:
            return self._unkeyed(item)
        passage.key = key
        outcome = await self._session.claim(key)
        if isinstance(outcome, Verdict):
            passage.verdict = outcome
            passage.twin = self._session.open_claim(key)
            return self._duplicate(item, outcome)
        passage.verdict = Verdict.NEW
        passage.claim = outcome
        return item

    def _unkeyed(self, item: Any) -> Any:
        self._stats.count(ITEMS.unkeyed)
        if self._settings.on_unkeyed == "drop":
            raise DropItem("the post has no identity (VALKEY_DEDUP_ON_UNKEYED = 'drop')")
        if self._settings.on_unkeyed == "error":
            raise UnkeyedError("the post has no identity (VALKEY_DEDUP_ON_UNKEYED = 'error')")
        return item

    def _duplicate(self, item: Any, verdict: Verdict) -> Any:
        if self._settings.on_duplicate == "mark":
            self._mark(item)
            return item
        reason = "it is stored already" if verdict is Verdict.SEEN else "a live run is storing it"
        raise DuplicatePost(f"duplicate post: {reason}", log_level="DEBUG")

    def _mark(self, item: Any) -> None:
        name = self._settings.mark_field
        try:
            ItemAdapter(item)[name] = True
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            cure = f"add it to {type(item).__qualname__}, or name a field that it has"
            fault = f"VALKEY_DEDUP_MARK_FIELD = {name!r}: the item has no such field; {cure}"
            raise SettingsError([fault]) from error

    def _item_scraped(self, response: Any) -> None:
        passage = _end_passage()
        mode = self._settings.confirm
        if mode == "exported":
            self._await_feeds(passage.claim)
        elif mode != "manual":
            passage.claim.confirm()
        self._session.visits.add_item(response, Ending.SCRAPED, passage)

    def _await_feeds(self, claim: Claim) -> None:
        took = self._feeds.took()
        if not claim.is_open:
            return
        if took is None:  # no feed is meant for it: the pipelines were its only storage
            claim.confirm()
        elif took:
            self._session.accept(claim)
        else:
            claim.release()

    def _item_dropped(self, response: Any) -> None:
        self._end_without_storing(response, Ending.DROPPED)

    def _item_failed(self, response: Any) -> None:
        self._end_without_storing(response, Ending.FAILED)

    def _end_without_storing(self, response: Any, ending: Ending) -> None:
        passage = _end_passage()
        passage.claim.release()
        self._session.visits.add_item(response, ending, passage)

    async def _feeds_closed(self) -> None:
        await self._session.settle_accepted(stored=self._feeds.all_stored())
