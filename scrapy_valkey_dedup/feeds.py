"""What Scrapy's feed exporter has stored: it does not say so itself, its slots and stats do."""

from __future__ import annotations

from typing import Any

from scrapy.crawler import Crawler
from scrapy.extensions.feedexport import FeedExporter

from scrapy_valkey_dedup.stats import Stats


class FeedWatch:
    """Watches the feeds of one crawl, from ``item_scraped`` to ``feed_exporter_closed``.

    Source: ``FeedExporter`` of Scrapy 2.14 to 2.19. There an item that cannot be exported is only
    logged, a file that cannot be finished is not even counted, and a feed that cannot be opened is
    missing from the slots.
    """

    def __init__(self, crawler: Crawler, stats: Stats) -> None:
        self._crawler = crawler
        self._stats = stats
        self._last: list[tuple[int, int]] = []
        self._closed = 0

    def begin(self) -> None:
        """Call it before the spider is opened: from then on the filters' answers are noted."""
        exporter = self._exporter
        if exporter is not None:
            exporter.filters = {uri: _Noted(inner) for uri, inner in exporter.filters.items()}

    def took(self) -> bool | None:
        """Whether every feed that accepts the item has written it; None if none accepts it.

        Call it once for each item, in a handler of ``item_scraped`` that was connected after the
        exporter's: Scrapy then runs the two one after the other, with no other item in between.
        """
        if not self._all_open:
            return False
        slots = self._slots
        counts = [(slot.batch_id, slot.itemcount) for slot in slots]
        before = self._last or [(1, 0)] * len(slots)
        self._last = counts
        wanted = [slot.filter.accepted for slot in slots]
        if not any(wanted):
            return None
        written = [now != then for now, then in zip(counts, before, strict=True)]
        return written == wanted

    def slot_closed(self, slot: Any) -> None:
        """A file was given to its storage: for ``feed_slot_closed``."""
        self._closed += slot.itemcount > 0

    def all_stored(self) -> bool:
        """Whether every file that holds an item was stored. Call it at ``feed_exporter_closed``."""
        files = sum(slot.batch_id - 1 + (slot.itemcount > 0) for slot in self._slots)
        return self._all_open and self._closed == files and self._stats.feeds_failed() == 0

    @property
    def _exporter(self) -> Any:
        return self._crawler.get_extension(FeedExporter)

    @property
    def _slots(self) -> list[Any]:
        return self._exporter.slots if self._exporter is not None else []

    @property
    def _all_open(self) -> bool:
        return bool(self._slots) and len(self._slots) == len(self._exporter.feeds)


class _Noted:
    """A feed's filter that notes its last answer: to ask it twice could change what it says."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.accepted = False

    def accepts(self, item: Any) -> bool:
        """As the filter says; yes, if it fails."""
        self.accepted = True
        self.accepted = bool(self._inner.accepts(item))
        return self.accepted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
