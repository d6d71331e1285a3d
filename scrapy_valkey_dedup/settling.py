"""Tells Valkey what became of the posts, stored or not, in batches that nobody waits for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from scrapy_valkey_dedup.batching import Batcher
from scrapy_valkey_dedup.book import Book
from scrapy_valkey_dedup.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError, Key
from scrapy_valkey_dedup.outage import Outage
from scrapy_valkey_dedup.stats import Names, Stats

_KEPT = 1_000_000  # settlements kept through an outage, about 200 MB


class Settling:
    """The way of settlements to Valkey. What cannot be delivered is kept and tried again."""

    def __init__(
        self, ledger: Ledger, book: Book, stats: Stats, names: Names, outage: Outage
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._stats = stats
        self._names = names
        self._outage = outage
        self._batcher: Batcher[tuple[Key, bool], None] = Batcher(self._deliver)
        self._kept: deque[tuple[Key, bool]] = deque()
        self._delivered = 0
        self.unconfirmed = 0
        """Posts that were stored and that Valkey has not acknowledged yet."""

    def tell(self, key: Key, *, stored: bool) -> None:
        """The post was stored, or it was not and its claim is to be given back."""
        self._book.settle(key, stored=stored)
        self.unconfirmed += stored
        self._batcher.tell((key, stored))

    def retry(self) -> None:
        """Puts what could not be delivered on its way again."""
        kept, self._kept = self._kept, deque()
        for key, stored in kept:
            if stored or self._book.tell_again(key):
                self._batcher.tell((key, stored))

    async def flush(self, patience: float) -> None:
        """Returns when all is delivered, or when nothing was for ``patience`` seconds."""
        self.retry()
        while True:
            before = self._delivered
            try:
                return await asyncio.wait_for(self._batcher.drain(), patience)
            except asyncio.TimeoutError:
                if self._delivered == before:
                    return None

    async def close(self) -> None:
        """Ends the work; what is not delivered by now is not."""
        await self._batcher.close()
        self.count_unconfirmed()

    def count_unconfirmed(self) -> None:
        """Writes into the stats how many Valkey has not acknowledged so far."""
        self._stats.set_some(self._names.unconfirmed, self.unconfirmed)

    async def _deliver(self, news: Sequence[tuple[Key, bool]]) -> Sequence[None]:
        stored = [key for key, was_stored in news if was_stored]
        not_stored = [key for key, was_stored in news if not was_stored]
        try:
            self._outage.check()
            self._stats.batch(len(news))
            await self._ledger.settle_many(stored, not_stored)
        except DedupError as error:
            self._outage.failed(error)
            self._keep(news)
        else:
            self._outage.answered()
            self._book.acknowledge(key for key, _ in news)
            self._delivered += len(news)
            self.unconfirmed -= len(stored)
            self._stats.count_some(self._names.confirmed, len(stored))
            self._stats.count_some(self._names.released, len(not_stored))
        return [None] * len(news)

    def _keep(self, news: Sequence[tuple[Key, bool]]) -> None:
        """Keeps them for the next try; the oldest go where there are too many."""
        self._book.acknowledge(key for key, was_stored in news if not was_stored)
        self._kept.extend(news)
        while len(self._kept) > _KEPT:
            self._book.acknowledge([self._kept.popleft()[0]])
