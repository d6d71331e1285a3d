"""One for each crawler: joins the parts, keeps the heartbeat, and brings it all to an end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from secrets import token_bytes
from typing import TYPE_CHECKING

from scrapy_valkey_dedup.batching import Batcher
from scrapy_valkey_dedup.book import Book
from scrapy_valkey_dedup.client import Server
from scrapy_valkey_dedup.ledger import Ledger
from scrapy_valkey_dedup.model import (
    NO_CLAIM,
    Answer,
    Claim,
    DedupError,
    EmbeddedServerError,
    Key,
    LedgerUnavailableError,
    Verdict,
)
from scrapy_valkey_dedup.outage import Outage
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.settling import Settling
from scrapy_valkey_dedup.stats import Stats
from scrapy_valkey_dedup.urls import redacted

if TYPE_CHECKING:
    from scrapy_valkey_dedup.embedded import EmbeddedServer

logger = logging.getLogger(__name__)

_FIRST_LOOK, _LONGEST_LOOK = 0.05, 0.5  # seconds between two looks at a claim of another run
_AT_ONCE = 10_000


class Session:
    """What one run and the ledger have to say to each other."""

    def __init__(self, settings: DedupSettings, stats: Stats) -> None:
        self.settings = settings
        self.run = urlsafe_b64encode(token_bytes(9)).decode()
        self._stats = stats
        self._outage = Outage(stats)
        self._remembers_at_once = settings.confirm == "claimed"
        self._book = Book(settings.wait)
        self._claims = Batcher(self._ask_claims)
        self._beats = Batcher(self._ask_beats)
        self._embedded: EmbeddedServer | None = None
        self._server: Server | None = None
        self._heart: asyncio.Task[None] | None = None
        self._beat_number = 0
        self._engine_started = False
        self._opened: asyncio.Future[None] | None = None
        self._closed = False

    # -- the beginning ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects, and begins the heartbeat.

        Raises:
            EmbeddedServerError, LedgerRefusedError: there is no ledger, and waiting will not help.

        """
        settings = self.settings
        self._opened = asyncio.get_running_loop().create_future()
        try:
            url = settings.url or await self._start_embedded()
            revive = self._embedded.acquire if self._embedded is not None else None
            self._server = Server(
                url, redacted(url), settings.client_options, settings.timeout, revive
            )
            self._ledger = Ledger(
                self._server,
                settings.namespace,
                self.run,
                retention=settings.retention,
                refresh=settings.refresh,
                record=self._remembers_at_once,
            )
            self._settling = Settling(self._ledger, self._book, self._stats, self._outage)
            await self._greet()
            self._heart = asyncio.create_task(self._keep_beating())
        except BaseException:
            await self._disconnect()
            raise
        finally:
            self._opened.set_result(None)

    async def _start_embedded(self) -> str:
        try:
            # Here and not above: it needs fcntl, and with a URL the plugin runs on Windows too.
            from scrapy_valkey_dedup.embedded import EmbeddedServer  # noqa: PLC0415
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
            await self._ledger.open()
            await self._ledger.beat(self._beat_number, self.settings.lease)
        except LedgerUnavailableError as error:
            self._outage.failed(error)

    # -- claims ----------------------------------------------------------------------------------

    async def claim(self, key: Key) -> Claim | Verdict:
        """Asks for a post. Returns the claim on it; or, if it is to be dropped, why.

        ``SEEN``: it is remembered. ``HELD``: another run, or another item of this one, has been
        storing it for longer than ``WAIT``.
        """
        verdict = Verdict.NEW
        if key in self._book:
            verdict = await self._book.wait_for_twin(key)
        if verdict is Verdict.NEW:
            claim = Claim(key, self._settle)
            self._book.enter(claim)
            try:
                verdict = await self._ask(key)
            except DedupError:
                self._stats.count(Stats.UNCHECKED)
                return claim
            except BaseException:
                claim.release()  # cancelled: the question may have reached Valkey
                raise
            if verdict is Verdict.NEW and not self._remembers_at_once:
                self._stats.count(Stats.NEW)
                return claim
            self._book.strike(key, Verdict.SEEN if verdict is Verdict.NEW else verdict)
        self._stats.count(_STAT_OF[verdict])
        return NO_CLAIM if verdict is Verdict.NEW else verdict

    async def _ask(self, key: Key) -> Verdict:
        answer = await self._claims.ask((key, ""))
        if answer.verdict is Verdict.HELD:
            return await self._wait_for_holder(key)
        return answer.verdict

    async def _wait_for_holder(self, key: Key) -> Verdict:
        """Asks until the answer is final: waits for a live run, takes over from a dead one.

        Only a heartbeat that changes is a sign of life: a run that was killed a moment ago has one
        still, and what it held must not be dropped by all the others.
        """
        clock = asyncio.get_running_loop().time
        began, pause = clock(), _FIRST_LOOK
        holder, first_beat, dead = "", b"", ""
        while (answer := await self._claims.ask((key, dead))).verdict is Verdict.HELD:
            beat = await self._beats.ask(answer.holder)
            if answer.holder != holder:
                holder, first_beat = answer.holder, beat or b""
            waited = clock() - began
            alive = beat is not None and beat != first_beat
            if (alive and waited >= self.settings.wait) or waited >= self._longest_wait:
                break
            dead = holder if beat is None else ""
            if not dead:
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, _LONGEST_LOOK)
        return answer.verdict

    @property
    def _longest_wait(self) -> float:
        return self.settings.wait + 2 * self.settings.lease

    async def _ask_claims(self, questions: Sequence[tuple[Key, str]]) -> list[Answer]:
        self._outage.check()
        self._stats.batch(len(questions))
        dead = {run for _, run in questions if run}
        try:
            answers = await self._ledger.claim_many([key for key, _ in questions], dead)
        except DedupError as error:
            self._outage.failed(error)
            raise
        self._outage.answered()
        self._stats.count_some(Stats.TAKEN_OVER, sum(answer.taken_over for answer in answers))
        return answers

    async def _ask_beats(self, runs: Sequence[str]) -> list[bytes | None]:
        self._outage.check()
        distinct = list(dict.fromkeys(runs))
        try:
            found = dict(zip(distinct, await self._ledger.beats(distinct), strict=True))
        except DedupError as error:
            self._outage.failed(error)
            raise
        return [found[run] for run in runs]

    # -- settling --------------------------------------------------------------------------------

    def accept(self, claim: Claim) -> None:
        """Every pipeline has accepted the item, and its storing comes later."""
        self._book.accept(claim)

    async def settle_accepted(self, *, stored: bool) -> None:
        """Settles all claims that were accepted, and delivers the news."""
        accepted = [claim for claim in self._book.claims if claim.accepted]
        for number, claim in enumerate(accepted, 1):
            if stored:
                claim.confirm()
            else:
                claim.release()
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)  # a long crawl has millions of them
        await self.flush()

    def _settle(self, claim: Claim, stored: bool) -> None:  # noqa: FBT001 (the shape Claim calls)
        self._settling.tell(claim.key, stored=stored)

    def engine_started(self) -> None:
        """All components have started: ``engine_stopped`` will come."""
        self._engine_started = True

    async def spider_closed(self) -> None:
        """Before Scrapy dumps its stats. Of an engine that never started no other end comes."""
        if self._engine_started:
            await self.flush()
            self._stats.set_some(Stats.UNCONFIRMED, self._settling.unconfirmed)
        else:
            await self.close()

    async def flush(self) -> None:
        """Delivers what is settled so far; gives up when Valkey takes nothing any more."""
        if self._heart is not None:
            await self._beat()
            await self._settling.flush(2 * self.settings.timeout)

    # -- heartbeat -------------------------------------------------------------------------------

    async def _keep_beating(self) -> None:
        """Beats thrice a lease, and often enough to be seen alive within the others' ``WAIT``."""
        interval = min(self.settings.lease / 3, max(self.settings.wait, 1) / 2)
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            await asyncio.sleep(interval)
            await self._beat()
            if clock() - renewed >= self._ledger.claim_lifetime / 2:
                renewed = clock()
                await self._renew_claims()

    async def _beat(self) -> None:
        """Tells the others that this run lives; during an outage this finds out when it ends."""
        self._beat_number += 1
        try:
            if self._outage:
                await self._ledger.open()
            await self._ledger.beat(self._beat_number, self.settings.lease)
        except DedupError as error:
            self._outage.failed(error)
        except Exception:
            logger.exception("A heartbeat failed; the next is tried.")
        else:
            self._outage.answered()
            self._settling.retry()

    async def _renew_claims(self) -> None:
        """Claims have a lifetime of their own; a feed may be stored days after its posts came."""
        keys = [claim.key for claim in self._book.claims]
        try:
            for start in range(0, len(keys), _AT_ONCE):
                await self._ledger.claim_many(keys[start : start + _AT_ONCE])
        except DedupError as error:
            self._outage.failed(error)

    # -- the end ---------------------------------------------------------------------------------

    async def close(self) -> None:
        """Releases what was never settled, delivers all news, leaves, and sums the run up."""
        if self._opened is None or self._closed:
            return
        self._closed = True
        await asyncio.wait([self._opened])  # another component may fail while this one connects
        if self._heart is None:
            return
        self._heart.cancel()
        await asyncio.wait([self._heart])
        unsettled = self._book.claims
        if unsettled:
            logger.warning(
                "%d posts were claimed but neither confirmed nor released; they are free again.",
                len(unsettled),
            )
        for claim in unsettled:
            claim.release()
        await self.flush()
        self._heart = None
        await self._settling.close()
        self._stats.set_some(Stats.UNCONFIRMED, self._settling.unconfirmed)
        with contextlib.suppress(DedupError):
            self._outage.check()
            await self._ledger.leave()
        try:
            await self._disconnect()
        except EmbeddedServerError as error:
            logger.error("%s", error)  # noqa: TRY400 (its message says all)
        logger.info("Deduplication: %s", self._stats.summary())

    async def _disconnect(self) -> None:
        if self._server is not None:
            await self._server.close()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.release)


_STAT_OF = {
    Verdict.NEW: Stats.NEW,
    Verdict.SEEN: Stats.DUPLICATE,
    Verdict.HELD: Stats.IN_FLIGHT,
}
