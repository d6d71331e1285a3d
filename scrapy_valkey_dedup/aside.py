"""Pages that another run is at: set aside, and asked for again until it is known who does them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from scrapy.http import Request

from scrapy_valkey_dedup.claims import Claims
from scrapy_valkey_dedup.ledger import IDLE, run_of
from scrapy_valkey_dedup.model import Claim, DedupError, Key, Token, Verdict

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1  # seconds
_LONGEST_PAUSE = 1.0
_RATE = 500  # pages a second that one run asks for again, so that many of them are no burden


@dataclass
class _Held:
    request: Request
    holder: Token
    """Empty: this run itself."""


class SetAside:
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
        self._held: dict[Key, _Held] = {}
        self._worker: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, key: Key, request: Request, holder: Token) -> None:
        """Sets a page aside; ``holder`` is the claim that stands in its way."""
        self._held[key] = _Held(request, holder)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def hurry(self) -> None:
        """The run has nothing else to do: all are asked for at once."""
        self._hurry.set()

    def take_all(self) -> list[Request]:
        """Gives all back, to be asked for by a later run."""
        requests = [held.request for held in self._held.values()]
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
        before = {key: held.holder for key, held in self._held.items()}
        await asyncio.gather(
            *(
                self._ask(key, held, held.holder if held.holder in dead else b"")
                for key, held in list(self._held.items())
            )
        )
        for key, held in list(self._held.items()):
            waits_for_us = held.holder in idle and held.holder == before.get(key)
            if (waits_for_us or not held.holder) and self._is_idle():
                self._drop(key, Verdict.HELD)

    async def _look_at_holders(self) -> tuple[set[Token], set[Token]]:
        """Which claims are of dead runs, and which of runs that have nothing left to do."""
        holders = list({held.holder for held in self._held.values() if held.holder})
        try:
            beats = await asyncio.gather(*(self._beat_of(run_of(holder)) for holder in holders))
        except DedupError:
            return set(), set()
        found = list(zip(holders, beats, strict=True))
        dead = {holder for holder, beat in found if beat is None}
        idle = {holder for holder, beat in found if beat and beat.endswith(IDLE.encode())}
        return dead, idle

    async def _ask(self, key: Key, held: _Held, dead: Token) -> None:
        outcome = await self._claims.attempt(key, dead)
        if isinstance(outcome, Claim):
            if key in self._held:
                self._drop(key, outcome)
            else:
                outcome.release()  # it was taken back meanwhile
        elif outcome.verdict is Verdict.HELD:
            held.holder = outcome.holder
        else:
            self._drop(key, outcome.verdict)

    def _drop(self, key: Key, outcome: Claim | Verdict) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._resolve(held.request, outcome)
