"""What Scrapy's feed exporter has stored, seen from its slots and files: no signal says it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from scrapy.crawler import Crawler
from scrapy.extensions.feedexport import FeedExporter

from scrapy_valkey_dedup.items.exports import Export
from scrapy_valkey_dedup.items.feed_files import FeedFile
from scrapy_valkey_dedup.session.claim import Claim

logger = logging.getLogger(__name__)

_MANY = 10
"""After so many items that the exporter has not looked at, one line says so."""
SYNC_INTERVAL = 1.0
"""Seconds between two syncs of a file of lines: a kill stores the posts of the last one again."""


class FeedWatch:
    """Settles the claims on a crawl's posts when the feeds that took them are safe.

    Source: ``FeedExporter`` of Scrapy 2.14 to 2.19. There an item that cannot be exported is only
    logged, a file that cannot be finished is not even counted, and a feed that cannot be opened is
    missing from the slots.
    """

    def __init__(self, crawler: Crawler, accept: Callable[[Claim], None]) -> None:
        """``accept`` is told of each claim that is to be settled later."""
        self._crawler = crawler
        self._accept = accept
        self._exporter: Any = None
        self._unasked = 0
        self._files: list[FeedFile] = []
        """The file of each feed that takes items now."""
        self._unfinished: set[FeedFile] = set()
        """These, and the batches before them that are not stored yet."""
        self._syncing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Call it before the spider is opened: from then on the filters' answers are noted."""
        exporter = self._exporter = self._crawler.get_extension(FeedExporter)
        if exporter is not None:
            exporter.filters = {
                uri: _RecordedFilter(inner) for uri, inner in exporter.filters.items()
            }

    def spider_opened(self) -> None:
        """The exporter has made its slots, and has opened no file yet."""
        exporter = self._exporter
        if exporter is None or len(exporter.slots) != len(exporter.feeds):
            return  # a feed could not be opened
        self._files = [self._watched(slot) for slot in exporter.slots]
        if any(file.has_lines for file in self._files):
            self._syncing = asyncio.get_running_loop().create_task(self._keep_syncing())

    def _watched(self, slot: Any) -> FeedFile:
        file = FeedFile(slot, self._exporter.exporters)
        self._unfinished.add(file)
        return file

    def item_scraped(self, claim: Claim, item: Any) -> None:
        """Every pipeline has accepted an item: its claim is settled when its feeds are stored.

        Call it once for each item, in a handler of ``item_scraped`` that was connected after the
        exporter's: Scrapy then runs the two one after the other, with no other item in between.
        """
        if not self._files:
            claim.release()
            return
        wanted, taken, all_asked = 0, [], True
        for file in self._files:
            slot = file.slot
            answer = slot.filter.answer_to(item)
            all_asked &= answer is not None
            wanted += answer is True
            if slot.itemcount != file.items:
                file.items = slot.itemcount
                taken.append(file)
        if not all_asked:
            self._not_asked(claim)
        elif claim.is_open:
            self._await(claim, taken, wanted)
        for place, slot in enumerate(self._slots):
            if slot is not self._files[place].slot:
                self._follow_batch(place, slot)

    def _not_asked(self, claim: Claim) -> None:
        """The exporter has failed, or is one of the user's own that exports items later."""
        claim.release()
        self._unasked += 1
        if self._unasked == _MANY:
            logger.warning(
                "The feed exporter %s did not export %d items when they were scraped: whether such "
                "a post is stored cannot be seen, so it is not remembered. Further ones are not "
                "reported. If they are stored, set VALKEY_DEDUP_CONFIRM = 'scraped'.",
                type(self._exporter).__qualname__,
                _MANY,
            )

    def _await(self, claim: Claim, taken: list[FeedFile], wanted: int) -> None:
        if wanted == 0:  # no feed is meant for it: the pipelines were its only storage
            claim.confirm()
        elif len(taken) < wanted:  # a feed could not write it
            claim.release()
        else:
            self._accept(claim)
            export = Export(claim, len(taken))
            for file in taken:
                file.add(export)

    @property
    def _slots(self) -> list[Any]:
        slots: list[Any] = self._exporter.slots
        return slots

    def _follow_batch(self, place: int, slot: Any) -> None:
        """A full batch has given its place to the next one, which is empty as yet."""
        self._unfinished = {file for file in self._unfinished if not file.ended}
        self._files[place] = self._watched(slot)

    async def _keep_syncing(self) -> None:
        while True:
            await asyncio.sleep(SYNC_INTERVAL)
            for file in list(self._unfinished):
                try:
                    await file.sync()
                except Exception:
                    logger.exception("Syncing a feed failed; it is tried again.")

    async def close(self) -> None:
        """The exporter has closed all its files: what is not stored by now will not be."""
        if self._syncing is not None:
            self._syncing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._syncing
        for file in self._unfinished:
            await file.end(stored=False)


class _RecordedFilter:
    """A feed's filter whose last answer is kept: to ask it twice could change what it says."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._asked: Any = self
        self._accepted = False

    def answer_to(self, item: Any) -> bool | None:
        """What it last said, if that was about this item; then it is forgotten."""
        asked, self._asked = self._asked, self
        return self._accepted if asked is item else None

    def accepts(self, item: Any) -> bool:
        """As the filter says; yes, if it fails."""
        self._asked, self._accepted = item, True
        self._accepted = bool(self._inner.accepts(item))
        return self._accepted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
