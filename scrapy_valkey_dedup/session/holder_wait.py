"""How items wait for the claims of other runs: rules W3 and W4 of docs/ledger.md."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeAlias

from scrapy_valkey_dedup.ledger.tokens import run_of
from scrapy_valkey_dedup.model import Answer, Token, Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.failure_detector import UNKNOWN, number_of
from scrapy_valkey_dedup.session.heartbeat import Heartbeat
from scrapy_valkey_dedup.session.questions import Questions
from scrapy_valkey_dedup.session.wait_notice import WaitNotice

Ask: TypeAlias = Callable[[Claim, Answer | None], Awaitable[Answer]]
"""Asks for a post, or goes on after an answer that was not final."""

_FIRST_LOOK, _LONGEST_LOOK = 0.05, 0.5  # seconds between two looks at a claim of another run


class HolderWait:
    """What one item knows of the claim that it waits for. Outlasts outages."""

    def __init__(self, seconds: float, longest_step: float, began: float | None = None) -> None:
        """``seconds``: the setting. A freeze or an outage counts as ``longest_step`` at most.

        ``began``: when it was first asked, by the monotonic clock; None: now.
        """
        self._seconds = seconds
        self._longest_step = longest_step
        self._waited = 0.0
        self._last = monotonic() if began is None else began
        self._pause = _FIRST_LOOK
        self._holder: Token = b""
        self._is_late = False
        self._noted: int | None = None
        self._lives = False

    def is_over(self, holder: Token) -> bool:
        """Whether that claim is known to be a living run's, after the whole time to wait."""
        now = monotonic()
        self._waited += min(now - self._last, self._longest_step)
        self._last = now
        if holder != self._holder:
            # Its run may have been killed since then, or its question may have come late.
            self._holder, self._noted, self._lives = holder, None, False
        return self._lives

    def look(self, beat: bytes | None) -> Token:
        """Takes note of its holder's heartbeat. Returns the token if it is a dead run's."""
        if beat is None:
            return self._holder
        self._is_late = self._waited >= self._seconds
        if self._is_late and beat != UNKNOWN:
            number = number_of(beat)
            if self._noted is None or number < self._noted:
                self._noted = number  # one that went back, as at a failover, is no sign of life
            self._lives = number > self._noted
        return b""

    @property
    def waits(self) -> bool:
        """Whether another run held the claim."""
        return bool(self._holder)

    @property
    def lives(self) -> bool:
        """Whether its holder was seen alive after the whole time to wait: ask once more."""
        return self._lives

    def pause(self) -> float:
        """Seconds until the next look; one comes when the time to wait ends."""
        self._pause = min(1.5 * self._pause, _LONGEST_LOOK)
        left = self._seconds - self._waited
        return min(self._pause, left) if left > 0 else self._pause


class HeldPosts:
    """Asks for posts that other runs hold, until the answer is final."""

    def __init__(
        self, questions: Questions, heartbeat: Heartbeat, notice: WaitNotice, wait: float
    ) -> None:
        """``wait``: seconds, the setting."""
        self._questions, self._heartbeat, self._notice = questions, heartbeat, notice
        self._wait = wait

    def asker(self, began: float) -> Ask:
        """For one item, whose wait outlasts outages; ``began``: when it first asked.

        It waits for a live run, and takes over from a dead one. Only a heartbeat that goes on after
        the whole time to wait is a sign of life: a run that was killed a moment ago still has one,
        and no post of a dead run must be dropped.
        """
        wait = HolderWait(self._wait, longest_step=self._heartbeat.grace, began=began)

        async def ask(claim: Claim, answer: Answer | None) -> Answer:
            dead = b""
            while True:
                answer = answer or await self._questions.claim(claim, dead)
                if answer.verdict is not Verdict.HELD or wait.is_over(answer.holder):
                    break
                beat = await self._heartbeat.of(run_of(answer.holder))
                dead = wait.look(beat)
                if not dead and not wait.lives:
                    self._notice.note(claim.key, run_of(answer.holder), beat or b"")
                    await asyncio.sleep(wait.pause())
                answer = None
            if wait.waits:
                self._notice.end(claim.key)
            return answer

        return ask
