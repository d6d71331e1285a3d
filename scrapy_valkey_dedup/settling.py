"""Tells Valkey what became of the posts, stored or not, in batches that nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

from scrapy_valkey_dedup.batching import Batcher
from scrapy_valkey_dedup.book import Book
from scrapy_valkey_dedup.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError, Key
from scrapy_valkey_dedup.outage import Outage
from scrapy_valkey_dedup.stats import Stats

_KEPT = 1_000_000  # confirmations kept through an outage, about 200 MB


class Settling:
    """The way of settlements to Valkey. Confirmations that cannot be delivered are tried again."""

    def __init__(self, ledger: Ledger, book: Book, stats: Stats, outage: Outage) -> None:
        self._ledger = ledger
        self._book = book
        self._stats = stats
        self._outage = outage
        self._batcher: Batcher[tuple[Key, bool], None] = Batcher(self._deliver)
        self._kept: deque[Key] = deque()
        self.unconfirmed = 0
        """Posts that were stored and that Valkey has not acknowledged yet."""

    def tell(self, key: Key, *, stored: bool) -> None:
        """The post was stored, or it was not and its claim is to be given back."""
        self._book.settle(key, stored=stored)
        self.unconfirmed += stored
        self._batcher.tell((key, stored))

    def retry(self) -> None:
        """Puts what could not be delivered on its way again."""
        while self._kept:
            self._batcher.tell((self._kept.popleft(), True))

    async def flush(self, within: float) -> None:
        """Returns when all is delivered that can be, or after so many seconds."""
        self.retry()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._batcher.drain(), within)

    async def close(self) -> None:
        """Ends the work; what is not delivered by now is not."""
        await self._batcher.close()

    async def _deliver(self, news: Sequence[tuple[Key, bool]]) -> Sequence[None]:
        stored = [key for key, was_stored in news if was_stored]
        not_stored = [key for key, was_stored in news if not was_stored]
        self._stats.batch(len(news))
        try:
            self._outage.check()
            await self._ledger.settle_many(stored, not_stored)
        except DedupError as error:
            self._outage.failed(error)
            # A claim that is not given back dies with this run; who waits for it need not.
            self._book.acknowledge(not_stored)
            self._keep(stored)
        else:
            self._outage.answered()
            self._book.acknowledge(key for key, _ in news)
            self.unconfirmed -= len(stored)
            self._stats.settled(len(stored), len(not_stored))
        return [None] * len(news)

    def _keep(self, stored: Sequence[Key]) -> None:
        """Keeps them for the next try; the oldest go where there are too many."""
        self._kept.extend(stored)
        while len(self._kept) > _KEPT:
            self._book.acknowledge([self._kept.popleft()])
