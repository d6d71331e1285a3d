"""Tells Valkey what became of the posts, stored or not, in batches that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from scrapy_valkey_dedup.batching import Batcher
from scrapy_valkey_dedup.book import Book
from scrapy_valkey_dedup.keyset import RecentKeys
from scrapy_valkey_dedup.ledger import Ledger
from scrapy_valkey_dedup.model import KEY_BYTES, DedupError, Key
from scrapy_valkey_dedup.outage import Outage
from scrapy_valkey_dedup.spool import Spool
from scrapy_valkey_dedup.stats import Names, Stats

logger = logging.getLogger(__name__)

KEPT = 1_000_000
"""Settlements of each kind that are kept in memory during an outage: 16 bytes each."""
_AT_ONCE = 10_000


class Settling:
    """The way of settlements to Valkey. What cannot be delivered is kept, and tried again.

    Confirmations that find no room, or that are left at the end, go to the spool, from which this
    run or the next one delivers them.
    """

    def __init__(  # noqa: PLR0913 (all are keywords)
        self,
        *,
        ledger: Ledger,
        book: Book,
        known: RecentKeys,
        stats: Stats,
        names: Names,
        outage: Outage,
        spool: Spool,
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._known = known
        self._stats = stats
        self._names = names
        self._outage = outage
        self._spool = spool
        self._batcher: Batcher[tuple[Key, bool], None] = Batcher(self._deliver)
        self._stored = bytearray()
        self._not_stored = bytearray()
        self._spilled: set[Path] = set()
        self.delivered = 0
        self.unconfirmed = 0
        """Posts that were stored and that Valkey has not acknowledged yet."""

    def tell(self, key: Key, *, stored: bool) -> None:
        """The post was stored, or it was not and its claim is to be given back."""
        self._book.settle(key, stored=stored)
        self.unconfirmed += stored
        if stored:
            self._known.add(key)
        self._batcher.tell((key, stored))

    async def flush(self, patience: float) -> None:
        """Returns when all is delivered or kept, or when nothing was for ``patience`` seconds."""
        while True:
            before = self.delivered
            try:
                return await asyncio.wait_for(self._batcher.drain(), patience)
            except asyncio.TimeoutError:
                if self.delivered == before:
                    return None

    async def close(self) -> None:
        """Ends the work. What is stored and not delivered by now is left to the next run."""
        await self._batcher.close()
        self._stored += b"".join(self._book.told_as_stored())
        await self._empty_into_spool()
        self.count_unconfirmed()

    def count_unconfirmed(self) -> None:
        """Writes into the stats how many Valkey has not acknowledged so far."""
        self._stats.set_some(self._names.unconfirmed, self.unconfirmed)

    # -- delivering ------------------------------------------------------------------------------

    async def _deliver(self, news: Sequence[tuple[Key, bool]]) -> Sequence[None]:
        stored = [key for key, was_stored in news if was_stored]
        not_stored = [key for key, was_stored in news if not was_stored]
        try:
            self._outage.check()
            await self._settle(stored, not_stored)
        except DedupError as error:
            self._outage.failed(error)
            await self._keep(stored, not_stored)
        return [None] * len(news)

    async def _settle(self, stored: Sequence[Key], not_stored: Sequence[Key]) -> None:
        self._stats.batch(len(stored) + len(not_stored))
        await self._ledger.settle_many(stored, not_stored)
        self._book.acknowledge(stored)
        self._book.acknowledge(not_stored)
        self.delivered += len(stored) + len(not_stored)
        self.unconfirmed -= len(stored)
        self._stats.count_some(self._names.confirmed, len(stored))
        self._stats.count_some(self._names.released, len(not_stored))

    # -- keeping ---------------------------------------------------------------------------------

    @property
    def keeps(self) -> bool:
        """Whether there is something that could not be delivered."""
        return bool(self._stored or self._not_stored)

    async def _keep(self, stored: Sequence[Key], not_stored: Sequence[Key]) -> None:
        # The book has room for what is on its way only; the run's duplicates are known elsewhere.
        self._book.acknowledge(stored)
        self._book.acknowledge(not_stored)
        self._stored += b"".join(stored)
        if len(self._not_stored) < KEPT * KEY_BYTES:  # else they are free when this run has ended
            self._not_stored += b"".join(not_stored)
        if len(self._stored) >= KEPT * KEY_BYTES:
            await self._empty_into_spool()

    async def deliver_kept(self) -> None:
        """Delivers what was kept.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: the rest is still kept.

        """
        while self.keeps:
            stored, not_stored = _taken_from(self._stored), _taken_from(self._not_stored)
            # A post that is asked for anew, unchecked, must not lose the claim of its own.
            free = [key for key in not_stored if self._book.tell_again(key)]
            try:
                await self._settle(stored, free)
            except BaseException:
                self._book.acknowledge(free)
                self._stored += b"".join(stored)
                self._not_stored += b"".join(not_stored)
                raise

    # -- the spool -------------------------------------------------------------------------------

    async def _empty_into_spool(self) -> None:
        keys, self._stored = bytes(self._stored), bytearray()
        path = await asyncio.to_thread(self._spool.write, keys) if keys else None
        if path is not None:
            self._spilled.add(path)
            self._stats.count(self._names.spooled, len(keys) // KEY_BYTES)

    async def deliver_spool(self) -> None:
        """Delivers what earlier runs, or this one, could not.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: the rest is still in the spool.

        """
        for path in await asyncio.to_thread(self._spool.files):
            keys = bytearray(await asyncio.to_thread(self._spool.read, path))
            count = len(keys) // KEY_BYTES
            while keys:
                some = _taken_from(keys)
                await self._ledger.confirm_many(some)
                self.delivered += len(some)
            if not count:
                continue
            await asyncio.to_thread(self._spool.remove, path)
            if path in self._spilled:
                self._spilled.discard(path)
                self.unconfirmed -= count
                self._stats.count(self._names.confirmed, count)
            else:
                self._stats.count(self._names.recovered, count)


def _taken_from(kept: bytearray) -> list[Key]:
    """Takes some keys off the end."""
    some = bytes(kept[-_AT_ONCE * KEY_BYTES :])
    del kept[-_AT_ONCE * KEY_BYTES :]
    return [some[at : at + KEY_BYTES] for at in range(0, len(some), KEY_BYTES)]
