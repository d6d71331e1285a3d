"""The item pipeline: claims a post before it is stored, settles the claim when it is known how."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from itemadapter import ItemAdapter
from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DropItem

from scrapy_valkey_dedup.identity.identifier import Identifier
from scrapy_valkey_dedup.items.feeds import FeedWatch
from scrapy_valkey_dedup.items.processor import (
    begin_item,
    current_item,
    end_item,
    tracks_items,
)
from scrapy_valkey_dedup.items.snapshot import Snapshot
from scrapy_valkey_dedup.items.storages import (
    EXPORTED,
    MANUAL,
    NOWHERE,
    SCRAPED,
    storages_of,
    when_stored,
)
from scrapy_valkey_dedup.items.variety import Variety
from scrapy_valkey_dedup.model import DedupError, DuplicatePost, Key, UnkeyedError, Verdict
from scrapy_valkey_dedup.session.advice import warn_of_closing
from scrapy_valkey_dedup.session.claim import NO_CLAIM, Claim
from scrapy_valkey_dedup.session.item_in_progress import ItemOutcome
from scrapy_valkey_dedup.session.refusals import refused
from scrapy_valkey_dedup.session.registry import has_engine, session_of
from scrapy_valkey_dedup.stats import ITEMS, Stats

logger = logging.getLogger(__name__)

MARK_REFUSED = "dedup_mark_field"
"""The reason with which a spider is closed whose items cannot be marked."""


def current_claim() -> Claim:
    """The claim on the item that is being processed.

    For storage pipelines under ``VALKEY_DEDUP_CONFIRM = "manual"``: call it in ``process_item``,
    keep what it returns, and call its ``confirm()`` or ``release()`` when the item is, or cannot
    be, stored. Where there is nothing to settle (an item without an identity) the claim that is
    returned ignores both.
    """
    current = current_item()
    return NO_CLAIM if current is None else current.claim


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
            fault = f"ITEM_PIPELINES enables the deduplication pipeline twice: {cure}"
            raise refused(crawler, [fault])
        self._session.has_pipeline = True
        self._settings = self._session.settings
        self._stats = Stats(crawler.stats)
        self._identifier = Identifier(self._settings)
        self._begins_items = True
        self._when_stored = self._settings.confirm or SCRAPED
        self._ask: Callable[[Key], Awaitable[Claim | Verdict]] = self._session.claim
        self._has_warned = False
        self._variety: Variety | None = Variety()
        """None: enough was seen."""
        self._marks = self._settings.on_duplicate == "mark"
        self._markable: set[type] = set()
        """The classes of items that have been looked at."""
        self._refuses = False
        if not self._marks:
            warn_of_closing(crawler.settings)
        crawler.signals.connect(self._item_scraped, signals.item_scraped)
        crawler.signals.connect(self._item_dropped, signals.item_dropped)
        crawler.signals.connect(self._item_failed, signals.item_error)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> DedupPipeline:
        """Built by Scrapy."""
        return cls(crawler)

    async def open_spider(self) -> None:
        """Connects to Valkey, and looks where the posts are stored."""
        storages = storages_of(self._crawler, self) if has_engine(self._crawler) else None
        if storages is not None:
            self._begins_items = not tracks_items(self._crawler)
            if self._begins_items and storages.before:
                _refuse_other_processors(self._crawler, storages.before[0])
            _refuse_old_processors(self._crawler)
        await self._session.open()
        self._identifier.announce()
        if storages is not None:
            is_fleet = self._settings.job is not None
            self._when_stored = when_stored(storages, self._settings.confirm, is_fleet=is_fleet)
            if self._when_stored == NOWHERE:
                # What earlier runs have stored is gone when feeds that overwrite are stored.
                only_own = bool(storages.feeds)
                self._ask = self._session.look_at_own if only_own else self._session.look
        self._session.describe(self._when_stored)
        if self._when_stored == EXPORTED:
            self._watch_feeds()

    def _watch_feeds(self) -> None:
        self._feeds = FeedWatch(self._crawler, self._session.accept)
        self._feeds.begin()
        self._crawler.signals.connect(self._feeds.spider_opened, signals.spider_opened)
        self._crawler.signals.connect(self._feeds_closed, signals.feed_exporter_closed)

    def close_spider(self) -> Awaitable[None] | None:
        """The last moment at which Scrapy's scheduler takes requests back.

        Without an engine, as in a unit test, no signal comes after this: the session closes now,
        and returned is what can be awaited until it is closed.
        """
        if self._variety is not None:
            self._variety.tell()
        for prepare in self._session.before_scheduler_closes:
            prepare()
        if has_engine(self._crawler):
            return None
        return asyncio.ensure_future(self._session.close())

    async def process_item(self, item: Any) -> Any:
        """Returns the item if it is to be stored."""
        current = begin_item() if self._begins_items else current_item() or begin_item()
        key = self._identifier.key(item, self._crawler.spider)
        if key is None:
            return self._unkeyed(item)
        if self._marks and type(item) not in self._markable:
            self._check_mark_field(item)
        current.key = key
        if self._variety is not None and not self._variety.add(key, item):
            self._variety = None
        came = Snapshot(item)
        outcome = await self._ask(key)
        if isinstance(outcome, Claim):
            current.verdict = Verdict.NEW
            current.claim = outcome
        else:
            current.verdict = outcome
        if not came.is_of(item):
            self._warn_of_change(item)
            item = came.of(item)
        if self._identifier.looks_inside(type(item)) and came.has_containers:
            self._check_inside(item, key)
        if current.verdict is not Verdict.NEW:
            current.duplicate_of = self._session.open_claim(key)
            return self._duplicate(item, current.verdict)
        if self._when_stored == NOWHERE:
            current.remembered = False
            self._stats.count(ITEMS.not_remembered)
        return item

    def _warn_of_change(self, item: Any) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "An item of class %s was changed after the spider had yielded it, while the "
                "ledger was asked for it: a copy of what was yielded is stored. Make a new item "
                "for each post. Further ones are not reported.",
                type(item).__qualname__,
            )

    def _check_inside(self, item: Any, key: Key) -> None:
        """What it held is gone, so it cannot be stored as it was."""
        if self._identifier.key(item, self._crawler.spider) != key:
            raise DedupError(
                f"an item of class {type(item).__qualname__} has become another post while the "
                "ledger was asked for it: a list or a dict inside it was changed after the spider "
                "had yielded it; make new ones for each post"
            )

    def _unkeyed(self, item: Any) -> Any:
        self._stats.count(ITEMS.unkeyed)
        if self._settings.on_unkeyed == "drop":
            raise DropItem("the post has no identity (VALKEY_DEDUP_ON_UNKEYED = 'drop')")
        if self._settings.on_unkeyed == "error":
            raise UnkeyedError("the post has no identity (VALKEY_DEDUP_ON_UNKEYED = 'error')")
        return item

    def _duplicate(self, item: Any, verdict: Verdict) -> Any:
        if self._marks and self._mark(item):
            return item
        reason = "it is stored already" if verdict is Verdict.SEEN else "a live run is storing it"
        raise DuplicatePost(f"duplicate post: {reason}", log_level="DEBUG")

    def _mark(self, item: Any) -> bool:
        """Whether the item could be marked. If not, the post is stored all the same: earlier."""
        try:
            ItemAdapter(item)[self._settings.mark_field] = True
        except (AttributeError, KeyError, TypeError, ValueError):
            self._refuse_class(type(item))
            return False
        return True

    def _check_mark_field(self, item: Any) -> None:
        """At the first item of a class, and not at the first duplicate, hours later."""
        kind = type(item)
        if not isinstance(item, dict) and (
            self._settings.mark_field not in ItemAdapter(item).field_names()
        ):
            self._refuse_class(kind)
        self._markable.add(kind)

    def _refuse_class(self, kind: type) -> None:
        if not self._refuses:
            self._refuses = True
            logger.error(
                "VALKEY_DEDUP_MARK_FIELD = %r: %s has no such field that can be set; add it, or "
                "name a field that it has. The spider is closed; new posts that come meanwhile are "
                "stored, duplicates are dropped.",
                self._settings.mark_field,
                kind.__qualname__,
            )
            self._session.close_spider(MARK_REFUSED)

    def _item_scraped(self, item: Any, response: Any) -> None:
        current = end_item()
        if self._when_stored == EXPORTED:
            self._feeds.item_scraped(current.claim, item)
        elif self._when_stored != MANUAL:
            current.claim.confirm()
        self._session.item_ended(response, ItemOutcome.SCRAPED, current)

    def _item_dropped(self, response: Any) -> None:
        self._end_without_storing(response, ItemOutcome.DROPPED)

    def _item_failed(self, response: Any) -> None:
        self._end_without_storing(response, ItemOutcome.FAILED)

    def _end_without_storing(self, response: Any, outcome: ItemOutcome) -> None:
        current = end_item()
        current.claim.release()
        self._session.item_ended(response, outcome, current)

    async def _feeds_closed(self) -> None:
        await self._feeds.close()
        await self._session.flush()


def _refuse_old_processors(crawler: Crawler) -> None:
    """One that overrides the deprecated process_item runs it in a context of its own."""
    engine = crawler.engine
    awaits = getattr(engine.scraper if engine is not None else None, "_itemproc_has_async", {})
    if awaits.get("process_item", True):
        return
    fault = (
        f"ITEM_PROCESSOR = {crawler.settings['ITEM_PROCESSOR']!r} has its own process_item, but "
        "not process_item_async: which posts are stored could not be told; override "
        "process_item_async instead, in a class that extends scrapy_valkey_dedup.DedupItemProcessor"
    )
    raise refused(crawler, [fault])


def _refuse_other_processors(crawler: Crawler, first: object) -> None:
    """Which item an end belongs to can only be told by one who sees every item first."""
    fault = (
        f"ITEM_PROCESSOR = {crawler.settings['ITEM_PROCESSOR']!r}, and {type(first).__qualname__} "
        "stands before the deduplication: which posts are stored could not be told for certain; "
        "set scrapy_valkey_dedup.DedupItemProcessor, or a class that extends it; or give the "
        "deduplication the lowest number in ITEM_PIPELINES"
    )
    raise refused(crawler, [fault])
