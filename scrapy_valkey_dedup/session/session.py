"""One for each crawler: joins the parts, keeps the heartbeat, and brings it all to an end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from secrets import token_bytes
from socket import gethostname
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import RUN_NAME_BYTES
from scrapy_valkey_dedup.model import (
    DedupError,
    EmbeddedServerError,
    Key,
    LedgerRefusedError,
    LedgerUnavailableError,
    SettingsError,
    UnknownReplyError,
    Verdict,
)
from scrapy_valkey_dedup.session.advice import describe
from scrapy_valkey_dedup.session.claim import NO_CLAIM, Claim
from scrapy_valkey_dedup.session.claims import Claims
from scrapy_valkey_dedup.session.heartbeat import Heartbeat
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.outcomes import Ending, Passage
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import ITEMS, StatNames, Stats, quantity
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.urls import database, redacted

if TYPE_CHECKING:
    from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer

logger = logging.getLogger(__name__)

LONGEST_END = 60.0
"""Seconds for which the session waits for a spider that is being closed when the engine stops."""
_BEATS_BETWEEN_NOTES = 4
"""The run writes what it is doing every ten seconds or so: `scrapy dedup status` shows it."""
_LOOK = 0.02  # seconds between two looks at what ends without telling

REFUSED = "valkey_refused"
"""The reason with which a spider is closed that Valkey refuses when it is first reached."""

_UNKNOWN_RULE = (
    "It answers other questions: this may be a rule of its own that the plugin does not know. Look "
    "these words up in its documentation, allow it there, or let VALKEY_DEDUP_URL name another "
    "server; python -m scrapy_valkey_dedup.selftest shows what else it refuses"
)


def no_asyncio(found: str) -> SettingsError:
    """The refusal to run without asyncio; ``found`` says instead of what."""
    cure = "remove it, or set 'twisted.internet.asyncioreactor.AsyncioSelectorReactor'"
    return SettingsError([f"{found}: the plugin needs asyncio; {cure}"])


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # installed after the components were built
        raise no_asyncio("TWISTED_REACTOR names a reactor without it") from None


class Session:
    """What one run and the ledger have to say to each other."""

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
        self.item_watchers: list[Callable[[Any, Ending, Passage], None]] = []
        """They are told of the end of each item, with the response that it came from."""
        self.flushers: list[Callable[[float], Awaitable[None]]] = []
        """They deliver what else is to be remembered, each for at most so many seconds."""
        self.before_scheduler_closes: list[Callable[[], None]] = []
        """What is to be done when the spider closes and the scheduler still takes requests."""
        self._stats = stats
        self._close_spider = close_spider
        self._is_closing = is_closing
        self._refused = refused
        self._spider = spider
        self._close_reason = ""
        self._outage = Outage(
            stats,
            settings.on_outage,
            pause_limit=settings.pause_limit,
            calm=2 * settings.timeout,
            probe=self._probe,
            close_spider=self._close_as_soon_as_possible,
            is_closing=is_closing,
        )
        self._heartbeat = Heartbeat(
            self._outage,
            lease=settings.lease,
            wait=settings.wait,
            timeout=settings.timeout,
            meanwhile=self._look_after_claims,
        )
        self._welcome = False
        """Valkey has taken this run for one that may use the ledger."""
        self._make_shelves: list[Callable[[], None]] = []
        self._claims: list[Claims] = []
        self._shelves: list[Ledger] = []
        self._embedded: EmbeddedServer | None = None
        self._server: Client | None = None
        self._is_open = False
        self._renewed = 0.0
        self._beats = 0
        self._start, self._host = time(), gethostname()
        self._engine_started = False
        self._opened: asyncio.Future[None] | None = None
        self._refusal: DedupError | None = None
        self._closed = False

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
        self._opened = _running_loop().create_future()
        try:
            url = self.settings.url or await self._start_embedded()
            revive = self._embedded.acquire if self._embedded is not None else None
            self._server = Client(
                url,
                redacted(url),
                self.settings.client_options,
                self.settings.timeout,
                revive,
                credentials=self.settings.credentials,
                on_throttled=self._throttled,
            )
            self._open_ledgers(self._server)
            await self._greet()
            self._heartbeat.start(self._ledger)
            self._renewed = monotonic()
            self._is_open = True
            if self.settings.reset:
                logger.warning(
                    "VALKEY_DEDUP_RESET = True: what earlier runs have stored is fetched and "
                    "stored once more, and remembered anew. Remove it after this run."
                )
        except BaseException as error:
            await self._outage.close()
            await self._disconnect()
            if isinstance(error, DedupError):
                self._refusal = error
                self._refused(error)
            raise
        finally:
            self._opened.set_result(None)

    def describe(self, when_stored: str) -> None:
        """Says at DEBUG how the run is set up; ``when_stored``: when its posts count as stored."""
        describe(self._spider, self.run, self._place, self.settings, when_stored)

    def _open_ledgers(self, server: Client) -> None:
        settings = self.settings
        at_once = settings.confirm == "claimed"
        if settings.url:
            self._place = (
                f"{redacted(settings.url)} {database(settings.url, settings.client_options)}"
            )
        else:
            self._place = str(settings.data_dir.resolve())
        self._ledger = Ledger(
            server,
            settings.namespace,
            self.run,
            retention=settings.retention,
            refresh=settings.refresh,
            record=at_once,
            reset=settings.reset,
        )
        self._posts = self._claims_in(self._ledger, "", ITEMS, remembers_at_once=at_once)
        for make in self._make_shelves:
            make()

    def when_ledger_opens(self, make_shelves: Callable[[], None]) -> None:
        """Has a component make its shelves of the ledger: now, if the session is open already."""
        if self._is_open:
            make_shelves()
        else:
            self._make_shelves.append(make_shelves)

    def shelf(self, name: str, *, retention: float | None) -> Ledger:
        """A part of the ledger for other things than posts. See :meth:`when_ledger_opens`."""
        assert self._server is not None  # noqa: S101 (the ledger opens)
        made = Ledger(
            self._server,
            self.settings.namespace,
            self.run,
            retention=retention,
            refresh=False,
            reset=self.settings.reset,
            shelf=name,
        )
        self._shelves.append(made)
        return made

    def shelf_claims(self, name: str, names: StatNames, *, retention: float | None) -> Claims:
        """The claims of the run on what such a shelf remembers."""
        return self._claims_in(self.shelf(name, retention=retention), name, names)

    def _claims_in(
        self, ledger: Ledger, shelf: str, names: StatNames, *, remembers_at_once: bool = False
    ) -> Claims:
        place = f"{self._place}\n{self.settings.namespace}"
        spool = Spool(self.settings.data_dir / "spool", place, shelf)
        claims = Claims(
            ledger,
            self._stats,
            names,
            outage=self._outage,
            spool=spool,
            heartbeat=self._heartbeat,
            wait=self.settings.wait,
            lease=self.settings.lease,
            remembers_at_once=remembers_at_once,
            reset=self.settings.reset,
        )
        self._claims.append(claims)
        return claims

    async def _start_embedded(self) -> str:
        try:
            # Here and not above: it needs fcntl, and with a URL the plugin runs on Windows too.
            from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer  # noqa: PLC0415
        except ImportError:
            raise EmbeddedServerError(
                "VALKEY_DEDUP_URL is not set, and the embedded server cannot run here: set it"
            ) from None
        self._embedded = EmbeddedServer(self.settings.data_dir)
        url = await asyncio.to_thread(self._embedded.acquire)
        logger.info(
            "No VALKEY_DEDUP_URL: the ledger is an embedded Valkey in %s, shared by the spiders of "
            "this machine only.",
            self.settings.data_dir,
        )
        return url

    async def _greet(self) -> None:
        try:
            await self._introduce()
            await self._deliver_spools()
        except LedgerUnavailableError as error:
            self._outage.failed(error)

    async def _introduce(self) -> None:
        """Finds out whether Valkey takes everything from this run, and shows that it lives."""
        try:
            try:
                await self._come_in()
            except UnknownReplyError as error:
                if self._welcome or not await self._ledger.ping():
                    raise
                raise LedgerRefusedError(f"{error}. {_UNKNOWN_RULE}") from error
        except LedgerRefusedError as error:
            if self._outage and not self._welcome:
                logger.error("%s. The spider is closed.", error)  # noqa: TRY400 (it says all)
                self._close_as_soon_as_possible(REFUSED)
                self._welcome = True
            raise
        self._welcome = True

    async def _come_in(self) -> None:
        """The first time, and after a refusal, all is tried; else what an outage may have changed.

        A fleet that starts at once, or waits for the same server, asks for little.
        """
        is_known = self._welcome and not self._outage.is_refusal
        await self._ledger.open(again=is_known)
        # Before the rest, which takes its time: others may wait to see whether this run lives.
        await self._heartbeat.beat(self._ledger)
        await asyncio.gather(
            self._ledger.probe.check_partitions(permissions_checked=not is_known),
            *(shelf.probe.check_partitions(everywhere=False) for shelf in self._shelves),
            # A user may be allowed the keys of posts and not those of pages: docs/security.md.
            *(shelf.probe.check_keys() for shelf in self._shelves if not is_known),
        )

    def _throttled(self, commands: int, words: str) -> None:
        """Valkey has turned commands away, as they are too many."""
        if not self._stats.number(Stats.THROTTLED):
            logger.warning(
                "Valkey turns questions away (%s): this run asks more slowly, and waits. Raise its "
                "limit (ElastiCache Serverless: ECPUs a second), or run fewer spiders at once. %s "
                "counts them.",
                words,
                Stats.THROTTLED,
            )
        self._stats.count(Stats.THROTTLED, commands)

    async def _deliver_spools(self) -> None:
        for claims in self._claims:
            await claims.deliver_spool(self._ledger.identity)

    # -- outages ---------------------------------------------------------------------------------

    @property
    def outage(self) -> Outage:
        """Whether Valkey answers: who asks it in a way of their own reports there."""
        return self._outage

    async def resumed(self) -> None:
        """Returns when nothing has to wait for Valkey: see ``VALKEY_DEDUP_ON_OUTAGE``."""
        if self._outage.holds:
            await self._outage.over()

    async def _probe(self) -> None:
        """During an outage: ends it if Valkey takes everything again.

        What was kept is delivered first: else Valkey would not know a post that this run has
        stored meanwhile, and a twin of it would be stored, too. A busy crawl goes on storing while
        that is done: of these last ones the run itself knows until Valkey has been told.
        """
        await self._introduce()
        with self._outage.ending():
            while True:
                await self._deliver_spools()
                for claims in self._claims:
                    await claims.deliver_kept()
                if all(claims.can_tell_kept for claims in self._claims):
                    break
            # No await since the last look at what is kept: the two belong together.
            self._outage.answered()
            for claims in self._claims:
                claims.tell_kept()

    def close_spider(self, reason: str) -> None:
        """Has the spider closed."""
        self._close_as_soon_as_possible(reason)

    def _close_as_soon_as_possible(self, reason: str) -> None:
        self._close_reason = reason
        if self._engine_started:
            self._close_spider(reason)

    # -- claims ----------------------------------------------------------------------------------

    async def claim(self, key: Key) -> Claim | Verdict:
        """Asks for a post. Returns the claim on it; or, if it is to be dropped, why.

        ``SEEN``: it is remembered. ``HELD``: another run, or another item of this one, has been
        storing it for longer than ``WAIT``.
        """
        outcome = await self._posts.claim(key)
        return NO_CLAIM if outcome is Verdict.NEW else outcome

    async def look(self, key: Key) -> Verdict:
        """Asks for a post that nothing will store: ``SEEN`` if it is remembered, else ``NEW``.

        It is not claimed. What this run has looked for before is ``SEEN``, too.
        """
        return await self._posts.look(key)

    async def look_at_own(self, key: Key) -> Verdict:
        """``SEEN`` if this run has looked for the post before, whatever the ledger remembers."""
        return self._posts.look_at_own(key)

    def open_claim(self, key: Key) -> Claim:
        """The claim of this run on a post, as long as it is not settled."""
        return self._posts.find(key)

    def accept(self, claim: Claim) -> None:
        """Every pipeline has accepted the item, and its storing comes later."""
        self._posts.accept(claim)

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

    async def _look_after_claims(self) -> None:
        """At each heartbeat: claims have a lifetime, and what is kept is safer on disk."""
        if self._outage:
            for claims in self._claims:
                await claims.save_now_and_then()
            return
        if monotonic() - self._renewed >= self._ledger.claim_lifetime / 2:
            self._renewed = monotonic()
            for claims in self._claims:
                await claims.renew()
        self._beats += 1
        if self._beats % _BEATS_BETWEEN_NOTES == 1:
            claimed = sum(claims.held for claims in self._claims)
            note = self._stats.run_info(self._spider, self._host, self._start, claimed)
            with contextlib.suppress(LedgerRefusedError):  # a crawl does not need it
                await self._ledger.runs.write_info(note.to_json(), 2 * self._heartbeat.lifetime)

    def item_ended(self, response: Any, ending: Ending, passage: Passage) -> None:
        """An item's way through the pipelines has ended; it came from this response, if any."""
        for tell in self.item_watchers:
            tell(response, ending, passage)

    def engine_started(self) -> None:
        """All components have started: ``engine_stopped`` will come."""
        self._engine_started = True
        if self._close_reason:
            self._close_spider(self._close_reason)

    async def spider_closed(self) -> None:
        """Before Scrapy dumps its stats. Of an engine that never started no other end comes."""
        if self._engine_started:
            await self.flush()
            self._outage.count()
            for claims in self._claims:
                claims.count()
        else:
            await self.close()

    async def flush(self) -> None:
        """Delivers what is settled so far; gives up when Valkey takes nothing any more."""
        if not self._is_open:
            return
        patience = 2 * self.settings.timeout
        await asyncio.gather(*(claims.flush(patience) for claims in self._claims))
        if self._outage:  # whoever sends Ctrl-C twice, or kills, takes nothing of it away
            for claims in self._claims:
                await claims.save()
        while self._outage:  # what could not be delivered is kept: the probe delivers it
            before = self._delivered
            await self._outage.last_chance(patience)
            if self._outage and self._delivered == before:
                break
            await asyncio.gather(*(claims.flush(patience) for claims in self._claims))
        for flush in self.flushers:
            await flush(patience)

    @property
    def _delivered(self) -> int:
        return sum(claims.delivered for claims in self._claims)

    # -- the end ---------------------------------------------------------------------------------

    async def engine_stopped(self) -> None:
        """The last that Scrapy tells of a crawl."""
        await self.close(spider_has_ended=await self._until_spider_closed())

    async def close(self, *, spider_has_ended: bool = True) -> None:
        """Releases what was never settled, delivers all news, leaves, and sums the run up."""
        if self._opened is None or self._closed:
            return
        self._closed = True
        await asyncio.wait([self._opened])  # another component may fail while this one connects
        if not self._is_open:
            return
        await self._heartbeat.stop()
        if spider_has_ended:
            self._release_all()
        await self.flush()
        self._is_open = False
        with contextlib.suppress(DedupError):
            self._outage.check()
            if spider_has_ended:
                await self._ledger.runs.sign_off()
        await self._outage.close(reached=self._welcome)
        for claims in self._claims:
            await claims.close()
        try:
            await self._disconnect()
        except EmbeddedServerError as error:
            logger.error("%s", error)  # noqa: TRY400 (its message says all)
        logger.info("Deduplication of spider %r: %s", self._spider, self._stats.summary())

    async def _until_spider_closed(self) -> bool:
        """Waits for a spider that is still being closed, and returns whether it has been.

        Scrapy stops its engine at once when it is told to while the spider closes already, by a
        signal for instance; but the last posts may be on their way to their storage.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + LONGEST_END
        if self._is_closing():
            logger.info(
                "The engine stops while the spider is being closed: waiting for its feeds and "
                "pipelines, up to %.0f seconds.",
                LONGEST_END,
            )
        while self._is_closing():
            if clock() >= deadline:
                logger.warning(
                    "The spider is still being closed. What it has claimed and may still be "
                    "storing (%s) stays claimed for VALKEY_DEDUP_LEASE (%.0f seconds), and is free "
                    "after that.",
                    quantity(len(self._posts.open), "post"),
                    self.settings.lease,
                )
                return False
            await asyncio.sleep(_LOOK)
        return True

    def _release_all(self) -> None:
        unsettled = self._posts.open
        if unsettled:
            logger.warning(
                "Claimed but neither confirmed nor released, so free again: %s.",
                quantity(len(unsettled), "post"),
            )
        for claim in unsettled:
            claim.release()
        # Their pages went with them. Left are those whose retry or redirect was not sent any more.
        for claims in self._claims:
            for claim in claims.open:
                claim.release()

    async def _disconnect(self) -> None:
        if self._server is not None:
            await self._server.close()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.release)
