"""Introduces a run to Valkey: whether Valkey takes all that the run will ask, and that it lives."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from scrapy_valkey_dedup.model import (
    DedupError,
    LedgerRefusedError,
    LedgerUnavailableError,
    UnknownReplyError,
)
from scrapy_valkey_dedup.session.heartbeat import Heartbeat
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.shelves import Shelves

logger = logging.getLogger(__name__)

REFUSED = "valkey_refused"
"""The reason with which a spider is closed that Valkey refuses when it is first reached."""

_UNKNOWN_RULE = (
    "It answers other questions: this may be a rule of its own that the plugin does not know. Look "
    "these words up in its documentation, allow it there, or let VALKEY_DEDUP_URL name another "
    "server; python -m scrapy_valkey_dedup.selftest shows what else it refuses"
)


class Handshake:
    """At the start of a run, and again before each end of an outage."""

    def __init__(
        self,
        shelves: Shelves,
        heartbeat: Heartbeat,
        outage: Outage,
        close_spider: Callable[[str], None],
    ) -> None:
        self._shelves = shelves
        self._heartbeat = heartbeat
        self._outage = outage
        self._close_spider = close_spider
        self.has_answer = False
        """Valkey has taken this run, or refused it."""

    async def at_start(self) -> None:
        """Introduces the run, and delivers what earlier runs left. A failure begins an outage.

        Raises:
            LedgerRefusedError: waiting will not help.

        """
        try:
            await self.introduce()
            await self._shelves.deliver_spools()
        except LedgerUnavailableError as error:
            self._outage.failed(error)

    async def introduce(self) -> None:
        """Raises what the ledger raises; a refusal that ends the run is logged here."""
        try:
            try:
                await self._try_out()
            except UnknownReplyError as error:
                if self.has_answer or not await self._shelves.ledger.ping():
                    raise
                raise LedgerRefusedError(f"{error}. {_UNKNOWN_RULE}") from error
        except LedgerRefusedError as error:
            if self._outage and not self.has_answer:
                logger.error("%s. The spider is closed.", error)  # noqa: TRY400 (it says all)
                self._close_spider(REFUSED)
                self.has_answer = True
            raise
        self.has_answer = True

    async def _try_out(self) -> None:
        """The first time, and after a refusal, tries all; else what an outage may have changed.

        A fleet that starts at once, or waits for the same server, asks for little.
        """
        is_known = self.has_answer and not self._outage.is_refusal
        ledger = self._shelves.ledger
        try:
            await ledger.open(
                again=is_known,
                also=[
                    lambda: self._heartbeat.beat(ledger),
                    lambda: self._shelves.try_out(is_known=is_known),
                ],
            )
        except LedgerRefusedError:
            if not self.has_answer:
                with contextlib.suppress(DedupError):
                    await ledger.runs.sign_off()  # it has no claim yet
            raise


async def recover(handshake: Handshake, shelves: Shelves, outage: Outage) -> None:
    """Ends an outage if Valkey takes everything again; else raises what the ledger raises.

    What was kept is delivered first: else Valkey would not know a post that this run has stored
    during the outage, and a second copy of it would be stored. A busy crawl goes on storing while
    that is done: of these last posts the run itself knows until Valkey has been told.
    """
    await handshake.introduce()
    with outage.ending():
        while True:
            await shelves.deliver_spools()
            await shelves.deliver_backlogs()
            if shelves.outage_may_end:
                break
        # No await since the last look at what is kept: the two belong together.
        outage.answered()
        shelves.send_backlogs()
