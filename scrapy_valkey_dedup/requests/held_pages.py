"""The pages that other runs hold: asks again until it is known which run fetches each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from scrapy.http import Request

from scrapy_valkey_dedup.ledger.runs import IDLE_MARK
from scrapy_valkey_dedup.ledger.tokens import run_of
from scrapy_valkey_dedup.model import Answer, DedupError, Key, Token, Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1  # seconds
_LONGEST_PAUSE = 1.0
_GLANCE = 0.03
"""Seconds between two glances of an idle run, at least, while Valkey has not answered yet."""
_GLANCES = 4
"""How many of them are on their way at once, at most."""
_RATE = 500  # pages a second that one run asks for again, so that many of them are no burden


@dataclass
class _HeldPage:
    key: Key
    holder: Token
    """The claim of another run. Empty: this run itself has claimed the page for another request."""
    claiming: bool = False
    """It looked free, and is being asked for."""


class HeldPages:
    """The held pages of one run. Takes over the pages of dead runs.

    A page is given up only when both runs have nothing left to do but wait for each other. Its
    holder has fetched it then, and its items are stored when that run closes.
    """

    def __init__(
        self,
        claims: Claims,
        beat_of: Callable[[str], Awaitable[bytes | None]],
        is_idle: Callable[[], bool],
        decided: Callable[[Request, Claim | Verdict], None],
    ) -> None:
        """``decided`` gets each page once: with the claim on it, or with why it is dropped."""
        self._claims = claims
        self._beat_of = beat_of
        self._is_idle = is_idle
        self._decided = decided
        self._pages: dict[Request, _HeldPage] = {}
        """Several may be for one page, by redirects or by ``dedup_key``."""
        self._worker: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._round_took = 0.0  # seconds

    def __len__(self) -> int:
        return len(self._pages)

    def add(self, key: Key, request: Request, holder: Token) -> None:
        """Adds a page that the claim ``holder`` holds."""
        self._pages[request] = _HeldPage(key, holder)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def hurry(self) -> None:
        """The run has nothing else to do: asks for all pages at once."""
        self._hurry.set()

    def take_all(self) -> list[Request]:
        """Removes and returns all requests; a later run asks for their pages."""
        requests = list(self._pages)
        self._pages.clear()
        return requests

    def close(self) -> None:
        """Stops asking."""
        self._pages.clear()
        if self._worker is not None:
            self._worker.cancel()

    # -- asking again ----------------------------------------------------------------------------

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        pause, asked = _FIRST_PAUSE, clock()
        while self._pages:
            # From one question to the next: where Valkey is far away, its answer takes that long.
            due = asked + max(pause, len(self._pages) / _RATE)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), max(due - clock(), 0))
            self._hurry.clear()
            before, asked = len(self._pages), clock()
            await self._ask_in_time()
            progress = len(self._pages) < before
            pause = _FIRST_PAUSE if progress else min(1.5 * pause, _LONGEST_PAUSE)

    async def _ask_in_time(self) -> None:
        """Asks again. Where the answer takes long, and the run has nothing else to do, glances."""
        clock = asyncio.get_running_loop().time
        asking, began = [asyncio.ensure_future(self._ask_again())], clock()
        try:
            while not asking[0].done():
                pace = max(_GLANCE, self._round_took / _GLANCES, len(self._pages) / _RATE)
                await asyncio.wait(asking[:1], timeout=pace)
                asking[1:] = (task for task in asking[1:] if not task.done())
                if self._is_idle() and not asking[0].done() and len(asking) <= _GLANCES:
                    asking.append(asyncio.ensure_future(self._glance()))
            self._round_took = clock() - began
            asking[0].result()
        except Exception:
            logger.exception("Asking again for pages that other runs hold failed; retrying.")
        finally:
            for task in asking:
                task.cancel()

    async def _glance(self) -> None:
        """Finds the pages that are done by now; nothing else is decided by it."""
        pages = [(request, page) for request, page in self._pages.items() if not page.claiming]
        answers = await asyncio.gather(*(self._claims.look(page.key) for _, page in pages))
        for (request, page), answer in zip(pages, answers, strict=True):
            if answer.verdict is Verdict.SEEN and not page.claiming:
                self._heed(request, page, answer)

    async def _ask_again(self) -> None:
        # Both at once, as Valkey may be far away.
        (dead, idle), _ = await asyncio.gather(self._look_at_holders(), self._ask_all())
        before = {request: page.holder for request, page in self._pages.items()}
        if dead or idle:  # of their pages only an answer later than the look counts
            await self._ask_all(dead | idle, dead)
        for request, page in list(self._pages.items()):
            waits_for_us = page.holder in idle and page.holder == before.get(request)
            # If this run's own claim is settled, the next answer says whether the page is free.
            ours = not page.holder and self._claims.get(page.key).is_open
            if (waits_for_us or ours) and self._is_idle():
                self._decide(request, Verdict.HELD)

    async def _ask_all(
        self, holders: set[Token] | None = None, dead: set[Token] | frozenset[Token] = frozenset()
    ) -> None:
        """Asks for all pages, or for those that one of the ``holders`` holds."""
        await asyncio.gather(
            *(
                self._ask(request, page, page.holder if page.holder in dead else b"")
                for request, page in list(self._pages.items())
                if holders is None or page.holder in holders
            )
        )

    async def _look_at_holders(self) -> tuple[set[Token], set[Token]]:
        """The claims of dead runs, and the claims of runs that have nothing left to do."""
        holders = list({page.holder for page in self._pages.values() if page.holder})
        try:
            beats = await asyncio.gather(*(self._beat_of(run_of(holder)) for holder in holders))
        except DedupError:
            return set(), set()
        found = list(zip(holders, beats, strict=True))
        self._report_waiting(dict(found))
        dead = {holder for holder, beat in found if beat is None}
        idle = {holder for holder, beat in found if beat and beat.endswith(IDLE_MARK.encode())}
        return dead, idle

    def _report_waiting(self, beats: dict[Token, bytes | None]) -> None:
        for page in self._pages.values():
            if beat := beats.get(page.holder):
                self._claims.wait_notice.note(page.key, run_of(page.holder), beat)

    async def _ask(self, request: Request, page: _HeldPage, dead: Token) -> None:
        if not dead:
            answer = await self._claims.look(page.key)
            if answer.verdict is not Verdict.NEW:
                self._heed(request, page, answer)
                return
        if request in self._pages and not page.claiming:
            page.claiming = True
            try:
                await self._claim(request, page, dead)
            finally:
                page.claiming = False

    async def _claim(self, request: Request, page: _HeldPage, dead: Token) -> None:
        outcome = await self._claims.attempt(page.key, dead)
        if isinstance(outcome, Claim):
            if request in self._pages:
                self._decide(request, outcome)
            else:
                outcome.release()  # the request was taken back in the meantime
        elif outcome.verdict is Verdict.HELD:
            page.holder = outcome.holder
        else:
            self._decide(request, outcome.verdict)

    def _heed(self, request: Request, page: _HeldPage, answer: Answer) -> None:
        """Its page was looked up: done, or held."""
        if answer.verdict is Verdict.HELD:
            page.holder = answer.holder
        elif request in self._pages:
            self._claims.heed_look(page.key, answer)
            self._decide(request, answer.verdict)

    def _decide(self, request: Request, outcome: Claim | Verdict) -> None:
        page = self._pages.pop(request, None)
        if page is not None:
            self._claims.wait_notice.end(page.key)
            self._decided(request, outcome)
