"""The one object of a crawler that items and requests speak to: of its run, from first to last."""

from __future__ import annotations

import asyncio
import logging
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from secrets import token_bytes
from typing import Any

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import RUN_NAME_BYTES
from scrapy_valkey_dedup.model import DedupError, EmbeddedServerError, Key, Verdict
from scrapy_valkey_dedup.session.access import LedgerAccess
from scrapy_valkey_dedup.session.advice import describe, warn_of_special_runs
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims
from scrapy_valkey_dedup.session.ending import deliver_settled, release_all, until_spider_closed
from scrapy_valkey_dedup.session.event_loop import running_loop
from scrapy_valkey_dedup.session.garbage import LOADED
from scrapy_valkey_dedup.session.item_in_progress import ItemInProgress, ItemOutcome
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.summary import summary
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import StatNames, Stats

logger = logging.getLogger(__name__)


class Session:
    """One run: opens the ledger, passes claims on, keeps the heartbeat, and ends in order."""

    _posts: Claims

    def __init__(  # noqa: PLR0913 (all but two are keywords)
        self,
        settings: DedupSettings,
        stats: Stats,
        *,
        close_spider: Callable[[str], None],
        is_closing: Callable[[], bool],
        refused: Callable[[DedupError], None] = lambda _: None,
        spider: str = "",
    ) -> None:
        """``close_spider`` gets a reason; ``is_closing``: whether the spider is about to end.

        ``refused`` is told why the crawl cannot start, before that is raised. ``spider`` is the
        name that messages have.
        """
        self.settings = settings
        self.run = urlsafe_b64encode(token_bytes(RUN_NAME_BYTES)).decode()[:RUN_NAME_BYTES]
        self.has_pipeline = False
        """Whether the item pipeline is enabled."""
        self.item_watchers: list[Callable[[Any, ItemOutcome, ItemInProgress], None]] = []
        """They are called at the end of each item, with the response that it came from."""
        self.flushers: list[Callable[[float], Awaitable[None]]] = []
        """They deliver what components have to be remembered, each within so many seconds."""
        self.before_scheduler_closes: list[Callable[[], None]] = []
        """What is to be done when the spider closes and the scheduler still takes requests."""
        self._stats = stats
        self._close_spider = close_spider
        self._is_closing = is_closing
        self._refused = refused
        self._spider = spider
        self._close_reason = ""
        self._access = LedgerAccess(
            settings, stats, run=self.run, close_spider=self.close_spider, is_closing=is_closing
        )
        self._outage, self._heartbeat = self._access.outage, self._access.heartbeat
        self._make_shelves: list[Callable[[], None]] = []
        self._is_open = self._engine_started = self._closed = False
        self._opened: asyncio.Future[None] | None = None
        self._refusal: DedupError | None = None

    # -- the beginning ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects, and begins the heartbeat. Every component that needs the ledger calls it.

        Raises:
            EmbeddedServerError, LedgerRefusedError: there is no ledger, and waiting will not help.
            SettingsError: no event loop of asyncio is running.

        """
        if self._opened is not None:
            await asyncio.wait([self._opened])
            if self._refusal is not None:
                raise self._refusal
            return
        self._opened = running_loop().create_future()
        try:
            await self._access.open(self._make_shelves, self._spider)
            self._posts = self._access.shelves.posts
            self._is_open = True
        except BaseException as error:
            await self._access.give_up()
            if isinstance(error, DedupError):
                self._refusal = error
                self._refused(error)
            raise
        finally:
            self._opened.set_result(None)
        warn_of_special_runs(self.settings)

    def describe(self, when_stored: str) -> None:
        """Says at DEBUG how the run is set up; ``when_stored``: when its posts count as stored."""
        describe(
            self._spider, self.run, self._access.connection.description, self.settings, when_stored
        )

    def when_ledger_opens(self, make_shelves: Callable[[], None]) -> None:
        """Has a component make its shelves of the ledger: now, if the session is open already."""
        if self._is_open:
            make_shelves()
        else:
            self._make_shelves.append(make_shelves)

    def shelf(self, name: str, *, retention: float | None) -> Ledger:
        """A part of the ledger for other things than posts. See :meth:`when_ledger_opens`."""
        return self._access.shelves.shelf(name, retention=retention)

    def shelf_claims(self, name: str, names: StatNames, *, retention: float | None) -> Claims:
        """The claims of the run on what such a shelf remembers."""
        return self._access.shelves.claims(name, names, retention=retention)

    # -- outages ---------------------------------------------------------------------------------

    @property
    def outage(self) -> Outage:
        """Whether Valkey answers: a component that asks it by itself reports there."""
        return self._outage

    async def resumed(self) -> None:
        """Returns when nothing has to wait for Valkey: see ``VALKEY_DEDUP_ON_OUTAGE``."""
        if self._outage.holds:
            await self._outage.over()

    def close_spider(self, reason: str) -> None:
        """Has the spider closed, as soon as Scrapy can close one."""
        self._close_reason = reason
        if self._engine_started:
            self._close_spider(reason)

    # -- claims ----------------------------------------------------------------------------------

    def claim(self, key: Key) -> Awaitable[Claim | Verdict]:
        """Asks for a post. Returns the claim on it, or why there is none: see `Claims.claim`."""
        return self._posts.claim(key)

    async def look(self, key: Key) -> Verdict:
        """Asks for a post that nothing will store: ``SEEN`` if it is remembered, else ``NEW``.

        It is not claimed. What this run has looked for before is ``SEEN``, too.
        """
        return await self._posts.lookups.look(key)

    async def look_at_own(self, key: Key) -> Verdict:
        """``SEEN`` if this run has looked for the post before, whatever the ledger remembers."""
        return self._posts.lookups.look_at_own(key)

    def open_claim(self, key: Key) -> Claim:
        """The claim of this run on a post, as long as it is not settled."""
        return self._posts.get(key)

    def accept(self, claim: Claim) -> None:
        """Every pipeline has accepted the item, and it will be stored later."""
        self._posts.accept(claim)

    def item_ended(self, response: Any, outcome: ItemOutcome, item: ItemInProgress) -> None:
        """An item has left the pipelines; it came from this response, if any."""
        for tell in self.item_watchers:
            tell(response, outcome, item)

    # -- other runs ------------------------------------------------------------------------------

    @property
    def round_trip(self) -> float:
        """Seconds that Valkey took to answer the last heartbeat; 0 if it never has."""
        return self._heartbeat.round_trip

    async def beat_of(self, run: str) -> bytes | None:
        """The last heartbeat of a run, None for a dead one: see :meth:`Heartbeat.of`."""
        return await self._heartbeat.of(run)

    @property
    def idle(self) -> bool:
        """Whether this run has nothing left to do but to wait for other runs; they are told."""
        return self._heartbeat.idle

    @idle.setter
    def idle(self, idle: bool) -> None:
        self._heartbeat.idle = idle

    # -- the end ---------------------------------------------------------------------------------

    def engine_started(self) -> None:
        """All components have started: ``engine_stopped`` will come."""
        self._engine_started = True
        if self._is_open:
            LOADED.leave_out(self.run)
        if self._close_reason:
            self._close_spider(self._close_reason)

    async def spider_closed(self) -> None:
        """Before Scrapy dumps its stats. An engine that never started sends no later signal."""
        if not self._engine_started:
            await self.close()
            return
        await self.flush()
        self._stats.settle()
        self._outage.count()
        if self._is_open:
            self._access.shelves.count()

    async def engine_stopped(self) -> None:
        """The last signal of a crawl."""
        shelves = self._access.shelves if self._is_open else None
        has_ended = await until_spider_closed(self._is_closing, shelves, self.settings.lease)
        await self.close(spider_has_ended=has_ended)

    async def flush(self) -> None:
        """Delivers what is settled so far; gives up when Valkey takes nothing any more."""
        if not self._is_open:
            return
        patience = 2 * self.settings.timeout
        await deliver_settled(self._access.shelves, self._outage, patience)
        for flush in self.flushers:
            await flush(patience)

    async def close(self, *, spider_has_ended: bool = True) -> None:
        """Releases what was never settled, delivers settlements, leaves, and logs the summary."""
        if self._opened is None or self._closed:
            return
        self._closed = True
        LOADED.take_back(self.run)
        await asyncio.wait([self._opened])  # another component may fail while this one connects
        if not self._is_open:
            return
        await self._heartbeat.stop()
        if spider_has_ended:
            release_all(self._access.shelves)
        await self.flush()
        self._is_open = False
        try:
            await self._access.close(spider_has_ended=spider_has_ended)
        except EmbeddedServerError as error:
            logger.error("%s", error)  # noqa: TRY400 (its message says all)
        logger.info("Deduplication of spider %r: %s", self._spider, summary(self._stats))
