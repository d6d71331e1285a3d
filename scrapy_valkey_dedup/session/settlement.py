"""Tells Valkey what became of the posts, stored or not, in batches that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from time import monotonic

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import KEY_BYTES, DedupError, Key, ReleasedClaim
from scrapy_valkey_dedup.session.batching import Batcher
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.in_flight import Book
from scrapy_valkey_dedup.session.keyset import RecentKeys
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.spool import MOST, Spool
from scrapy_valkey_dedup.stats import StatNames, Stats

logger = logging.getLogger(__name__)

IN_MEMORY = 10_000
"""Confirmations that an outage keeps in memory before they go to disk: 16 bytes each."""
KEPT = 1_000_000
"""As many are kept in memory where they cannot go to disk, and of releases in any case."""
_GIVEN = Struct(f">{KEY_BYTES}sI?")
_MINUTE = 60.0
_AT_ONCE = 10_000


class Settling:
    """The way of settlements to Valkey. What cannot be delivered is kept, and tried again.

    Confirmations go to the spool when they are many, once a minute, and at the end: what is killed
    in a long outage has lost few. This run or another one delivers them from there.
    """

    def __init__(  # noqa: PLR0913 (all are keywords)
        self,
        *,
        ledger: Ledger,
        book: Book,
        known: RecentKeys,
        stats: Stats,
        names: StatNames,
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
        self._batcher: Batcher[tuple[ReleasedClaim, bool], None] = Batcher(self._deliver)
        self._stored = bytearray()
        self._not_stored = bytearray()
        self._spilled: dict[Path, int] = {}
        self._saved = monotonic()
        self._disk_fails = False
        self._saving = 0
        self._unlisted = False
        self._is_closed = False
        self.delivered = 0
        self.unconfirmed = 0
        """Posts that were stored and that Valkey has not acknowledged yet."""

    def tell(self, claim: Claim, *, stored: bool) -> None:
        """The post was stored, or it was not and its claim is to be given back."""
        if self._is_closed:
            if stored:  # late, but it is known now: the next run confirms it
                self._spool.write(claim.key)
            return
        self._book.settle(claim.key, stored=stored)
        self.unconfirmed += stored
        if stored:
            self._known.add(claim.key)
        self._batcher.tell((ReleasedClaim(claim.key, claim.number, claim.in_doubt), stored))

    def give_back(self, claim: Claim) -> None:
        """Valkey may have granted it, and nobody is at the post."""
        self._batcher.tell((ReleasedClaim(claim.key, claim.number, claim.in_doubt), False))

    async def flush(self, patience: float) -> None:
        """Returns when all is delivered or kept, or when nothing was for ``patience`` seconds.

        A part counts: of what Valkey turns away, as it may not do more at once, parts come through.
        """
        while True:
            before = self._ledger.calls_answered
            try:
                return await asyncio.wait_for(self._batcher.drain(), patience)
            except asyncio.TimeoutError:
                if self._ledger.calls_answered == before:
                    return None

    async def close(self) -> None:
        """Ends the work. What is stored and not delivered by now is left to the next run."""
        self._is_closed = True
        await self._batcher.close()
        self._stored += b"".join(self._book.told_as_stored())
        await self._empty_into_spool()
        self.count()

    def count(self) -> None:
        """Writes into the stats what Valkey has not acknowledged so far."""
        self._stats.set_nonzero(self._names.unconfirmed, self.unconfirmed)
        self._stats.set_nonzero(self._names.spooled, sum(self._spilled.values()))

    # -- delivering ------------------------------------------------------------------------------

    async def _deliver(self, news: Sequence[tuple[ReleasedClaim, bool]]) -> Sequence[None]:
        stored = [claim.key for claim, was_stored in news if was_stored]
        not_stored = [claim for claim, was_stored in news if not was_stored]
        try:
            self._outage.check()
            await self._settle(stored, not_stored)
            self._book.acknowledge([claim.key for claim in not_stored], stored=False)
        except DedupError as error:
            self._outage.failed(error)
            await self._keep(stored, not_stored)
        return [None] * len(news)

    async def _settle(self, stored: Sequence[Key], not_stored: Sequence[ReleasedClaim]) -> None:
        self._stats.batch(len(stored) + len(not_stored))
        await self._ledger.settle_many(stored, not_stored)
        self._book.acknowledge(stored, stored=True)
        self.delivered += len(stored) + len(not_stored)
        self.unconfirmed -= len(stored)
        self._stats.count_nonzero(self._names.confirmed, len(stored))
        self._stats.count_nonzero(self._names.released, len(not_stored))

    # -- keeping ---------------------------------------------------------------------------------

    async def _keep(self, stored: Sequence[Key], not_stored: Sequence[ReleasedClaim]) -> None:
        # The book has room for what is on its way only; the run's duplicates are known elsewhere.
        self._book.acknowledge(stored, stored=True)
        self._book.acknowledge([claim.key for claim in not_stored], stored=False)
        self._stored += b"".join(stored)
        if len(self._not_stored) < KEPT * _GIVEN.size:  # else they are free when this run has ended
            self._not_stored += b"".join(_GIVEN.pack(*claim) for claim in not_stored)
        if len(self._stored) >= IN_MEMORY * KEY_BYTES and not self._outage.ends:
            await self._save()

    async def _save(self) -> None:
        if not self._disk_fails:
            await self._empty_into_spool()
        del self._stored[KEPT * KEY_BYTES :]  # these stay unconfirmed

    async def save(self) -> None:
        """Has what is kept written to disk."""
        await self._empty_into_spool()

    async def save_now_and_then(self) -> None:
        """Has what is kept written to disk once a minute."""
        if self._stored and monotonic() - self._saved >= _MINUTE and not self._outage.ends:
            await self._save()

    async def deliver_kept(self) -> None:
        """Delivers what was kept, but for a few that came meanwhile.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: the rest is still kept.

        """
        few = 0
        while len(self._stored) // KEY_BYTES + len(self._not_stored) // _GIVEN.size > few:
            few = _AT_ONCE  # of a busy crawl some always come meanwhile
            stored = _taken_from(self._stored, KEY_BYTES)
            not_stored = _taken_from(self._not_stored, _GIVEN.size)
            given = _given(not_stored)
            # A post that is asked for anew, unchecked, is left to its new claim in the book.
            told = [claim.key for claim in given if self._book.tell_again(claim.key, stored=False)]
            try:
                await self._settle(_split(stored), given)
            except BaseException:
                self._stored += stored
                self._not_stored += not_stored
                raise
            finally:
                self._book.acknowledge(told, stored=False)

    @property
    def can_tell_kept(self) -> bool:
        """Whether Valkey can be asked for posts again before it knows of those that are kept.

        Not while one of these is being asked for, or is on its way to a file that was not
        delivered: Valkey might take it for new.
        """
        return not self._unlisted and not any(
            self._book.is_asked_for(key) for key in _split(self._stored)
        )

    def tell_kept(self) -> None:
        """Sends what is kept the usual way: the outage is over. The book knows of it from now."""
        stored, not_stored = _split(self._stored), _given(self._not_stored)
        self._stored, self._not_stored = bytearray(), bytearray()
        for key in stored:
            self._book.tell_again(key, stored=True)
            self._batcher.tell((ReleasedClaim(key), True))
        for claim in not_stored:
            self._book.tell_again(claim.key, stored=False)
            self._batcher.tell((claim, False))

    # -- the spool -------------------------------------------------------------------------------

    async def _empty_into_spool(self) -> None:
        if not self._stored:
            return
        keys, self._stored = bytes(self._stored), bytearray()
        self._saved = monotonic()
        self._saving += 1
        self._unlisted = True
        try:
            written, left = await asyncio.to_thread(self._spill, keys)
        finally:
            self._saving -= 1
        self._spilled |= written
        self._disk_fails = bool(left)
        self._stored += left

    def _spill(self, keys: bytes) -> tuple[dict[Path, int], bytes]:
        """Writes keys to files; returns these, and what could not be written. Runs in a thread."""
        written: dict[Path, int] = {}
        size = MOST * KEY_BYTES
        for at in range(0, len(keys), size):
            some = keys[at : at + size]
            path = self._spool.write(some)
            if path is None:
                return written, keys[at:]
            written[path] = len(some) // KEY_BYTES
        return written, b""

    async def deliver_spool(self, ledger: str) -> None:
        """Delivers what earlier runs, or this one, could not. ``ledger``: its identity.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: the rest is still in the spool.

        """
        await asyncio.to_thread(self._spool.learn, ledger)
        self._unlisted = self._saving > 0  # what is being written is not among the files yet
        spilled = list(self._spilled)  # what is written meanwhile may be missing in the list
        paths = await asyncio.to_thread(self._spool.files)
        for path in paths:
            keys = bytearray(await asyncio.to_thread(self._spool.read, path))
            count = len(keys) // KEY_BYTES
            while keys:
                some = _split(_taken_from(keys, KEY_BYTES))
                await self._ledger.confirm_many(some)
                self.delivered += len(some)
            if count:
                await asyncio.to_thread(self._spool.remove, path)
                if path not in self._spilled:
                    self._stats.count(self._names.recovered, count)
                self._is_delivered(path)
        for path in [path for path in spilled if path not in paths]:
            self._is_delivered(path)  # by another run
        self._disk_fails = False

    def _is_delivered(self, path: Path) -> None:
        count = self._spilled.pop(path, 0)
        self.unconfirmed -= count
        self._stats.count_nonzero(self._names.confirmed, count)


def _taken_from(kept: bytearray, size: int) -> bytes:
    """Takes some entries of that size off the end."""
    some = bytes(kept[-_AT_ONCE * size :])
    del kept[-_AT_ONCE * size :]
    return some


def _split(keys: bytes | bytearray) -> list[Key]:
    return [bytes(keys[at : at + KEY_BYTES]) for at in range(0, len(keys), KEY_BYTES)]


def _given(kept: bytes | bytearray) -> list[ReleasedClaim]:
    return [ReleasedClaim(*entry) for entry in _GIVEN.iter_unpack(kept)]
