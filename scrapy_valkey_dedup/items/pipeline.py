"""The item pipeline: claims a post before it is stored, and settles the claim afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from scrapy import signals
from scrapy.crawler import Crawler

from scrapy_valkey_dedup.identity.identifier import Identifier
from scrapy_valkey_dedup.items.changes import ChangeGuard
from scrapy_valkey_dedup.items.coarse_identity import CoarseIdentityCheck
from scrapy_valkey_dedup.items.current_item import begin_item, current_item, end_item
from scrapy_valkey_dedup.items.feeds import FeedWatch
from scrapy_valkey_dedup.items.item_ends import ItemEnds
from scrapy_valkey_dedup.items.marking import Marker
from scrapy_valkey_dedup.items.processor import (
    refuse_old_processors,
    refuse_other_processors,
    tracks_items,
)
from scrapy_valkey_dedup.items.snapshot import Snapshot
from scrapy_valkey_dedup.items.storage_advice import tell_of_failed_handler, when_stored
from scrapy_valkey_dedup.items.storages import EXPORTED, MANUAL, NOWHERE, SCRAPED, storages_of
from scrapy_valkey_dedup.items.unkeyed import UnkeyedPosts
from scrapy_valkey_dedup.model import DuplicatePost, Key, Verdict
from scrapy_valkey_dedup.session.advice import warn_of_closing
from scrapy_valkey_dedup.session.claim import NO_CLAIM, Claim
from scrapy_valkey_dedup.session.item_in_progress import ItemOutcome
from scrapy_valkey_dedup.session.refusals import refused
from scrapy_valkey_dedup.session.registry import has_engine, session_of
from scrapy_valkey_dedup.stats import ITEMS, Stats


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
        self._handler_has_failed = False
        self._when_stored = self._settings.confirm or SCRAPED
        self._ask: Callable[[Key], Awaitable[Claim | Verdict]] = self._session.claim
        self._changes = ChangeGuard(self._identifier)
        self._unkeyed = UnkeyedPosts(
            self._settings.on_unkeyed,
            self._stats,
            by_function=self._settings.identity is not None,
        )
        self._coarse_check: CoarseIdentityCheck | None = CoarseIdentityCheck()
        """None: enough was seen."""
        self._marker: Marker | None = None
        if self._settings.on_duplicate == "mark":
            self._marker = Marker(self._settings.mark_field, self._session.close_spider)
        else:
            warn_of_closing(crawler.settings)
        self._item_ends = ItemEnds(
            crawler,
            {
                signals.item_scraped: self._item_scraped,
                signals.item_dropped: self._item_dropped,
                signals.item_error: self._item_failed,
            },
        )

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
                refuse_other_processors(self._crawler, storages.before[0])
            refuse_old_processors(self._crawler)
        await self._session.open()
        self._identifier.announce()
        if storages is not None:
            is_fleet = self._settings.job is not None
            self._when_stored = when_stored(storages, self._settings.confirm, is_fleet=is_fleet)
            if self._when_stored == NOWHERE:
                # A feed that overwrites replaces what earlier runs have stored there.
                only_own = bool(storages.feeds)
                self._ask = self._session.look_at_own if only_own else self._session.look
        self._session.describe(self._when_stored)
        is_watched = self._when_stored == EXPORTED
        if is_watched:
            self._watch_feeds()
        if has_engine(self._crawler):
            self._item_ends.listen(but_for=signals.item_scraped if is_watched else None)

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
        if self._coarse_check is not None:
            self._coarse_check.tell()
        self._unkeyed.warn_if_all()
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
            return self._unkeyed.handle(item)
        if self._marker is not None:
            self._marker.check(item)
        current.key = key
        if self._coarse_check is not None and not self._coarse_check.add(key, item):
            self._coarse_check = None
        came = Snapshot(item)
        outcome = await self._ask(key)
        if isinstance(outcome, Claim):
            current.verdict = Verdict.NEW
            current.claim = outcome
        else:
            current.verdict = outcome
        item = self._changes.unchanged(item, came, key, self._crawler.spider)
        if current.verdict is not Verdict.NEW:
            current.duplicate_of = self._session.open_claim(key)
            return self._duplicate(item, current.verdict)
        if self._when_stored == NOWHERE:
            current.remembered = False
            self._stats.count(ITEMS.not_remembered)
        return item

    def _duplicate(self, item: Any, verdict: Verdict) -> Any:
        if self._marker is not None and self._marker.mark(item):
            return item
        reason = "it is stored already" if verdict is Verdict.SEEN else "a live run is storing it"
        raise DuplicatePost(f"duplicate post: {reason}", log_level="DEBUG")

    def _item_scraped(
        self,
        item: Any,
        response: Any,
        handler_failed: bool,  # noqa: FBT001 (the shape of a Handler)
    ) -> None:
        if handler_failed and self._settings.confirm == SCRAPED:
            # The user has said so: the handler may be the storage.
            if not self._handler_has_failed:
                self._handler_has_failed = True
                tell_of_failed_handler()
            self._end_without_storing(response, ItemOutcome.FAILED)
            return
        current = end_item()
        if self._when_stored == EXPORTED:
            self._feeds.item_scraped(current.claim, item)
        elif self._when_stored != MANUAL:
            current.claim.confirm()
        self._session.item_ended(response, ItemOutcome.SCRAPED, current)

    def _item_dropped(self, _: Any, response: Any, __: bool) -> None:  # noqa: FBT001
        self._end_without_storing(response, ItemOutcome.DROPPED)

    def _item_failed(self, _: Any, response: Any, __: bool) -> None:  # noqa: FBT001
        self._end_without_storing(response, ItemOutcome.FAILED)

    def _end_without_storing(self, response: Any, outcome: ItemOutcome) -> None:
        current = end_item()
        current.claim.release()
        self._session.item_ended(response, outcome, current)

    async def _feeds_closed(self) -> None:
        await self._feeds.close()
        await self._session.flush()
