"""Puts the questions of one run to the ledger, in batches; what fails begins an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import TypeVar

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import CLAIM_NUMBERS
from scrapy_valkey_dedup.model import Answer, DedupError, Key, Token
from scrapy_valkey_dedup.session.batching import Batcher
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.heartbeat import Heartbeat
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.stats import StatNames, Stats

_Found = TypeVar("_Found")


class Questions:
    """Each is answered once. Futures raise what the ledger raises, or that there is an outage."""

    def __init__(  # noqa: PLR0913 (all but the last are what an answer depends on)
        self,
        ledger: Ledger,
        stats: Stats,
        names: StatNames,
        outage: Outage,
        heartbeat: Heartbeat,
        *,
        calls_at_once: int = 1,
    ) -> None:
        """``heartbeat`` is the run's own: while it lasts, no other run takes its claims over.

        ``calls_at_once``: so many calls of a kind may be on their way to Valkey at once.
        """
        self._ledger = ledger
        self._stats = stats
        self._names = names
        self._outage = outage
        self._heartbeat = heartbeat
        self._numbers = count(1)
        self._claims = Batcher(self._claim_many, at_once=calls_at_once)
        self._looks = Batcher(self._look_many, at_once=calls_at_once)
        self._seen = Batcher(self._seen_many)

    def claim(self, claim: Claim, dead: Token = b"") -> asyncio.Future[Answer]:
        """Asks for a claim; the claim ``dead`` of another run is taken over."""
        return self._claims.ask((claim, dead))

    def look(self, key: Key) -> asyncio.Future[Answer]:
        """Asks what the answer to a claim would be, and claims nothing."""
        return self._looks.ask(key)

    def is_remembered(self, key: Key) -> asyncio.Future[bool]:
        """Asks whether a post is remembered, and claims nothing."""
        return self._seen.ask(key)

    def after_call(self, action: Callable[[], None]) -> None:
        """Does it when no question for a claim is on its way to Valkey any more."""
        self._claims.after_call(action)

    async def given_up(self, patience: float) -> None:
        """Returns when nothing waits for :meth:`after_call`, or after ``patience`` seconds."""
        await self._claims.given_up(patience)

    async def _claim_many(self, questions: Sequence[tuple[Claim, Token]]) -> list[Answer]:
        self._outage.check()
        self._stats.batch(len(questions))

        number = next(self._numbers) % CLAIM_NUMBERS
        for claim, _ in questions:
            claim.number = number

        def lost() -> None:
            for claim, _ in questions:
                claim.in_doubt = True

        try:
            await self._heartbeat.ensure_alive()
            answers = await self._ledger.claim_many(
                [claim.key for claim, _ in questions],
                {dead for _, dead in questions if dead},
                number,
                lost,
            )
        except DedupError as error:
            self._outage.failed(error)
            raise
        taken_over = sum(answer.taken_over for answer in answers)
        self._stats.count_nonzero(self._names.taken_over, taken_over)
        return answers

    async def _look_many(self, keys: Sequence[Key]) -> list[Answer]:
        return await self._read(self._ledger.look_many, keys)

    async def _seen_many(self, keys: Sequence[Key]) -> list[bool]:
        return await self._read(self._ledger.seen_many, keys)

    async def _read(
        self, read: Callable[[Sequence[Key]], Awaitable[list[_Found]]], keys: Sequence[Key]
    ) -> list[_Found]:
        self._outage.check()
        self._stats.batch(len(keys))
        try:
            return await read(keys)
        except DedupError as error:
            self._outage.failed(error)
            raise
