"""Pages that another run is at: set aside, and asked for again until it is known who does them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from scrapy.http import Request

from scrapy_valkey_dedup.ledger.runs import IDLE_MARK
from scrapy_valkey_dedup.ledger.tokens import run_of
from scrapy_valkey_dedup.model import DedupError, Key, Token, Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1  # seconds
_LONGEST_PAUSE = 1.0
_RATE = 500  # pages a second that one run asks for again, so that many of them are no burden


@dataclass
class _HeldPage:
    key: Key
    holder: Token
    """Empty: this run itself."""


class HeldPages:
    """The pages of one run that others are at. Takes over from the dead.

    A page is given up only when both runs have nothing left to do but to wait for one another: its
    holder has fetched it then, and its items are stored when that run closes.
    """

    def __init__(
        self,
        claims: Claims,
        beat_of: Callable[[str], Awaitable[bytes | None]],
        is_idle: Callable[[], bool],
        resolve: Callable[[Request, Claim | Verdict], None],
    ) -> None:
        """``resolve`` gets each page once: with the claim on it, or with why it is dropped."""
        self._claims = claims
        self._beat_of = beat_of
        self._is_idle = is_idle
        self._resolve = resolve
        self._held: dict[Request, _HeldPage] = {}
        """Several may be for one page: by redirects, or by the user's own keys."""
        self._worker: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, key: Key, request: Request, holder: Token) -> None:
        """Sets a page aside; ``holder`` is the claim that stands in its way."""
        self._held[request] = _HeldPage(key, holder)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def hurry(self) -> None:
        """The run has nothing else to do: all are asked for at once."""
        self._hurry.set()

    def take_all(self) -> list[Request]:
        """Gives all back, to be asked for by a later run."""
        requests = list(self._held)
        self._held.clear()
        return requests

    def close(self) -> None:
        """Ends the asking."""
        self._held.clear()
        if self._worker is not None:
            self._worker.cancel()

    async def _work(self) -> None:
        pause = _FIRST_PAUSE
        while self._held:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), max(pause, len(self._held) / _RATE))
            self._hurry.clear()
            before = len(self._held)
            try:
                await self._ask_again()
            except Exception:
                logger.exception("Asking for pages again failed; it is tried once more.")
            progress = len(self._held) < before
            pause = _FIRST_PAUSE if progress else min(1.5 * pause, _LONGEST_PAUSE)

    async def _ask_again(self) -> None:
        dead, idle = await self._look_at_holders()
        before = {request: held.holder for request, held in self._held.items()}
        await asyncio.gather(
            *(
                self._ask(request, held, held.holder if held.holder in dead else b"")
                for request, held in list(self._held.items())
            )
        )
        for request, held in list(self._held.items()):
            waits_for_us = held.holder in idle and held.holder == before.get(request)
            # One of this run's own that is settled will be told in a moment whether it is free.
            ours = not held.holder and self._claims.get(held.key).is_open
            if (waits_for_us or ours) and self._is_idle():
                self._drop(request, Verdict.HELD)

    async def _look_at_holders(self) -> tuple[set[Token], set[Token]]:
        """Which claims are of dead runs, and which of runs that have nothing left to do."""
        holders = list({held.holder for held in self._held.values() if held.holder})
        try:
            beats = await asyncio.gather(*(self._beat_of(run_of(holder)) for holder in holders))
        except DedupError:
            return set(), set()
        found = list(zip(holders, beats, strict=True))
        self._tell_of_waiting(dict(found))
        dead = {holder for holder, beat in found if beat is None}
        idle = {holder for holder, beat in found if beat and beat.endswith(IDLE_MARK.encode())}
        return dead, idle

    def _tell_of_waiting(self, beats: dict[Token, bytes | None]) -> None:
        for held in self._held.values():
            if beat := beats.get(held.holder):
                self._claims.wait_notice.note(held.key, run_of(held.holder), beat)

    async def _ask(self, request: Request, held: _HeldPage, dead: Token) -> None:
        outcome = await self._claims.attempt(held.key, dead)
        if isinstance(outcome, Claim):
            if request in self._held:
                self._drop(request, outcome)
            else:
                outcome.release()  # it was taken back meanwhile
        elif outcome.verdict is Verdict.HELD:
            held.holder = outcome.holder
        else:
            self._drop(request, outcome.verdict)

    def _drop(self, request: Request, outcome: Claim | Verdict) -> None:
        held = self._held.pop(request, None)
        if held is not None:
            self._claims.wait_notice.end(held.key)
            self._resolve(request, outcome)
