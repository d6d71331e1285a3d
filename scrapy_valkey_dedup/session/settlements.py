"""Tells Valkey what became of the posts, stored or not, in batches that nothing waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError, Key, ReleasedClaim
from scrapy_valkey_dedup.session.backlog import Backlog
from scrapy_valkey_dedup.session.batching import Batcher
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.in_flight import InFlightClaims
from scrapy_valkey_dedup.session.keyset import RecentKeys
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.session.spooling import Spooler
from scrapy_valkey_dedup.stats import StatNames, Stats

IN_MEMORY = 10_000
"""Confirmations that an outage keeps in memory before they go to disk: 16 bytes each."""
_FEW = 10_000


class Settlements:
    """Sends settlements to Valkey. What cannot be delivered is kept, and tried again.

    Confirmations go to the spool when they are many, once a minute, and at the end: a process that
    is killed in a long outage loses few. This run or another one delivers them from there.
    """

    def __init__(  # noqa: PLR0913 (all are keywords)
        self,
        *,
        ledger: Ledger,
        in_flight: InFlightClaims,
        known: RecentKeys,
        stats: Stats,
        names: StatNames,
        outage: Outage,
        spool: Spool,
        calls_at_once: int = 1,
    ) -> None:
        """``calls_at_once``: so many deliveries may be on their way to Valkey at once.

        Their order does not matter: a release gives back one claim, which it names by its number.
        """
        self._ledger = ledger
        self._in_flight = in_flight
        self._known = known
        self._stats = stats
        self._names = names
        self._outage = outage
        self._batcher: Batcher[tuple[ReleasedClaim, bool], None] = Batcher(
            self._deliver, at_once=calls_at_once
        )
        self._backlog = Backlog()
        self._spooler = Spooler(spool, ledger, stats, names)
        self._is_closed = False
        self._acknowledged = 0
        self._unconfirmed = 0

    @property
    def acknowledged(self) -> int:
        """How many settlements Valkey has acknowledged: shows whether a delivery goes on."""
        return self._acknowledged + self._spooler.delivered

    @property
    def unconfirmed(self) -> int:
        """Posts of this run that were stored and that Valkey has not acknowledged yet."""
        return self._unconfirmed - self._spooler.confirmed

    def tell(self, claim: Claim, *, stored: bool) -> None:
        """Sends that the post was stored; or that it was not, which gives its claim back."""
        if self._is_closed:
            if stored:
                self._spooler.save_late(claim.key)
            return
        self._in_flight.settle(claim.key, stored=stored)
        self._unconfirmed += stored
        if stored:
            self._known.add(claim.key)
        self._batcher.tell((ReleasedClaim(claim.key, claim.number, claim.in_doubt), stored))

    def give_back(self, claim: Claim) -> None:
        """Sends that no item of this run has the post, though Valkey may have granted the claim."""
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
        self._backlog.add_stored(b"".join(self._in_flight.stored_unacknowledged()))
        await self._spooler.save(self._backlog)
        self.count()

    def count(self) -> None:
        """Writes into the stats what Valkey has not acknowledged so far."""
        self._stats.set_nonzero(self._names.unconfirmed, self.unconfirmed)
        self._stats.set_nonzero(self._names.spooled, self._spooler.spooled)

    # -- delivering ------------------------------------------------------------------------------

    async def _deliver(self, news: Sequence[tuple[ReleasedClaim, bool]]) -> Sequence[None]:
        stored = [claim.key for claim, was_stored in news if was_stored]
        not_stored = [claim for claim, was_stored in news if not was_stored]
        try:
            self._outage.check()
            await self._settle(stored, not_stored)
            self._in_flight.acknowledge([claim.key for claim in not_stored], stored=False)
        except DedupError as error:
            self._outage.failed(error)
            await self._keep(stored, not_stored)
        return [None] * len(news)

    async def _settle(self, stored: Sequence[Key], not_stored: Sequence[ReleasedClaim]) -> None:
        self._stats.batch(len(stored) + len(not_stored))
        await self._ledger.settle_many(stored, not_stored)
        self._in_flight.acknowledge(stored, stored=True)
        self._acknowledged += len(stored) + len(not_stored)
        self._unconfirmed -= len(stored)
        self._stats.count_nonzero(self._names.confirmed, len(stored))
        self._stats.count_nonzero(self._names.released, len(not_stored))

    # -- what could not be delivered -------------------------------------------------------------

    async def _keep(self, stored: Sequence[Key], not_stored: Sequence[ReleasedClaim]) -> None:
        # What is kept is not in flight any more: the run knows its own posts by `known`.
        self._in_flight.acknowledge(stored, stored=True)
        self._in_flight.acknowledge([claim.key for claim in not_stored], stored=False)
        self._backlog.add(stored, not_stored)
        if self._backlog.stored_count >= IN_MEMORY and not self._outage.ends:
            await self._spooler.relieve(self._backlog)

    async def save(self) -> None:
        """Has what is kept written to disk."""
        await self._spooler.save(self._backlog)

    async def save_now_and_then(self) -> None:
        """Has what is kept written to disk once a minute."""
        if self._backlog.stored_count and self._spooler.is_due and not self._outage.ends:
            await self._spooler.relieve(self._backlog)

    async def deliver_backlog(self) -> None:
        """Delivers what was kept, but for a few that came while that was done.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: the rest is still kept.

        """
        few = 0
        while len(self._backlog) > few:
            few = _FEW  # a busy crawl always adds some
            stored, given = self._backlog.take_some()
            # A post that is asked for again, unchecked, is left to its new claim.
            settling = [
                claim.key
                for claim in given
                if self._in_flight.add_settlement(claim.key, stored=False)
            ]
            try:
                await self._settle(stored, given)
            except BaseException:
                self._backlog.put_back(stored, given)
                raise
            finally:
                self._in_flight.acknowledge(settling, stored=False)

    async def deliver_spool(self, ledger: str) -> None:
        """Delivers what earlier runs, or this one, have left in files. ``ledger``: its identity.

        Raises:
            LedgerUnavailableError, LedgerRefusedError: the rest is still in the files.

        """
        await self._spooler.deliver(ledger)

    @property
    def outage_may_end(self) -> bool:
        """Whether Valkey can be asked for posts again before it knows of those that are kept.

        Not while one of these is being asked for, or is on its way to a file that was not
        delivered: Valkey might take it for new.
        """
        return not self._spooler.has_unlisted and not any(
            map(self._in_flight.is_open, self._backlog.stored)
        )

    def send_backlog(self) -> None:
        """Sends what is kept the usual way: the outage is over. It is in flight again."""
        stored, not_stored = self._backlog.take_all()
        for key in stored:
            self._in_flight.add_settlement(key, stored=True)
            self._batcher.tell((ReleasedClaim(key), True))
        for claim in not_stored:
            self._in_flight.add_settlement(claim.key, stored=False)
            self._batcher.tell((claim, False))
