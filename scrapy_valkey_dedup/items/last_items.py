"""Lets a spider close whose last items came from ``start()``: Scrapy may wait for them forever."""

from __future__ import annotations

import asyncio

from scrapy.crawler import Crawler

_EVERY = 0.2  # seconds between two looks


class LastItems:
    """Has Scrapy look, now and then, whether the items that it waits for at its end have ended.

    From 2.18 on a spider that is being closed waits for the items of ``start()``, too. But Scrapy
    looks only when a response has been scraped, and after these items none may come: even a plain
    ``CLOSESPIDER_ITEMCOUNT`` never ends then. The closing may begin in a handler of
    ``item_scraped``, after the last item has left the pipelines: so no item can tell.
    """

    def __init__(self, crawler: Crawler | None) -> None:
        self._crawler = crawler
        self.watched = False

    def watch(self) -> None:
        """An item has come: looks from now on until the spider is closed."""
        self.watched = True
        engine = self._crawler.engine if self._crawler is not None else None
        slot = engine.scraper.slot if engine is not None else None
        if engine is None or slot is None:
            return
        if slot.closing is not None:
            if slot.closing.called:
                return
            engine.scraper._check_if_closing()  # noqa: SLF001 (no public way)
        asyncio.get_running_loop().call_later(_EVERY, self.watch)
