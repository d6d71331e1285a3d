"""The access of one run to the ledger: opens it, keeps it through outages, closes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from time import time

from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.session.connection import Connection
from scrapy_valkey_dedup.session.handshake import Handshake, recover
from scrapy_valkey_dedup.session.heartbeat import Heartbeat
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.run_history import RunHistory
from scrapy_valkey_dedup.session.shelves import Shelves
from scrapy_valkey_dedup.session.upkeep import RunNotes, Upkeep
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import Stats


class LedgerAccess:
    """Puts the parts together: server, heartbeat, outage, shelves."""

    shelves: Shelves
    """Made by :meth:`open`."""
    _handshake: Handshake
    _notes: RunNotes
    _upkeep: Upkeep
    _history: RunHistory

    def __init__(
        self,
        settings: DedupSettings,
        stats: Stats,
        *,
        run: str,
        close_spider: Callable[[str], None],
        is_closing: Callable[[], bool],
    ) -> None:
        """``close_spider`` gets a reason; ``is_closing``: whether the spider is about to end."""
        self._settings = settings
        self._stats = stats
        self._run = run
        self._close_spider = close_spider
        self._start = time()
        self.connection = Connection(settings, stats)
        self.outage = Outage(
            stats,
            settings.on_outage,
            pause_limit=settings.pause_limit,
            calm=2 * settings.timeout,
            probe=self._recover,
            close_spider=close_spider,
            is_closing=is_closing,
            has_answered=lambda: self._handshake.has_answer,
        )
        self.heartbeat = Heartbeat(
            self.outage,
            lease=settings.lease,
            wait=settings.wait,
            timeout=settings.timeout,
            chores=self._do_chores,
        )

    async def open(self, make_shelves: Iterable[Callable[[], None]], spider: str) -> None:
        """Connects, has the other shelves made, and begins the heartbeat.

        Raises:
            EmbeddedServerError, LedgerRefusedError: there is no ledger, and waiting will not help.

        """
        self.shelves = shelves = Shelves(
            server=await self.connection.open(),
            place=self.connection.place,
            settings=self._settings,
            run=self._run,
            stats=self._stats,
            outage=self.outage,
            heartbeat=self.heartbeat,
        )
        for make in make_shelves:
            make()
        self._handshake = Handshake(shelves, self.heartbeat, self.outage, self._close_spider)
        await self._handshake.at_start()
        lifetime = 2 * self.heartbeat.lifetime
        self._notes = RunNotes(shelves.ledger, self._stats, spider, self._start, lifetime)
        self._history = RunHistory(shelves.ledger, self._stats, spider)
        self._upkeep = Upkeep(shelves, self.outage, self._notes, self._history)
        self.heartbeat.start(shelves.ledger)

    async def _recover(self) -> None:
        await recover(self._handshake, self.shelves, self.outage)

    async def _do_chores(self) -> None:
        await self._upkeep.once()

    async def give_up(self) -> None:
        """Closes what :meth:`open` had opened before it failed."""
        await self.outage.close()
        await self.connection.close()

    async def close(self, *, spider_has_ended: bool) -> None:
        """Leaves the ledger. All that is settled has been delivered, or is saved now.

        Raises:
            EmbeddedServerError: the embedded server could not be left.

        """
        with contextlib.suppress(DedupError):
            self.outage.check()
            leave = [self._notes.sign_off()] if spider_has_ended else []
            await asyncio.gather(self._history.add(), *leave)
        await self.outage.close()
        await self.shelves.close()
        await self.connection.close()
