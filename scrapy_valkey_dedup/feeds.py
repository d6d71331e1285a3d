"""What Scrapy's feed exporter has stored: it does not say so itself, its slots and stats do."""

from __future__ import annotations

from typing import Any

from scrapy.crawler import Crawler
from scrapy.extensions.feedexport import FeedExporter

from scrapy_valkey_dedup.stats import Stats


class FeedWatch:
    """Watches the feeds of one crawl, from ``item_scraped`` to ``feed_exporter_closed``.

    Source: ``FeedExporter.item_scraped`` and ``_close_slot`` of Scrapy 2.14 to 2.19. An item that
    cannot be exported is only logged there; a file that cannot be finished is not even counted.
    """

    def __init__(self, crawler: Crawler, stats: Stats) -> None:
        self._crawler = crawler
        self._stats = stats
        self._last: list[tuple[int, int]] = []

    def took(self, item: Any) -> bool | None:
        """Whether every feed that accepts the item has written it; None if none accepts it.

        Call it once for each item, in a handler of ``item_scraped`` that was connected after the
        exporter's: Scrapy then runs the two one after the other, with no other item in between.
        """
        slots = self._slots()
        counts = [(slot.batch_id, slot.itemcount) for slot in slots]
        before = self._last or [(1, 0)] * len(slots)
        self._last = counts
        wanted = [slot.filter.accepts(item) for slot in slots]
        if slots and not any(wanted):
            return None
        written = [now != then for now, then in zip(counts, before, strict=True)]
        return bool(slots) and written == wanted

    def all_stored(self) -> bool:
        """Whether every file that holds an item was stored. Call it at ``feed_exporter_closed``."""
        files = sum(slot.batch_id - 1 + (slot.itemcount > 0) for slot in self._slots())
        return self._stats.feeds("failed") == 0 and self._stats.feeds("success") >= files

    def _slots(self) -> list[Any]:
        exporter = self._crawler.get_extension(FeedExporter)
        return exporter.slots if exporter is not None else []
