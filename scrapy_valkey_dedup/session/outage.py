"""Knows whether Valkey answers, and what is done while it does not: ``VALKEY_DEDUP_ON_OUTAGE``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from random import uniform
from time import monotonic
from typing import Any

from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError, OutageError
from scrapy_valkey_dedup.stats import ITEMS, REQUESTS, Stats

logger = logging.getLogger(__name__)

PASS, PAUSE, CLOSE = "pass", "pause", "close"
CLOSED = "valkey_unavailable"
"""The reason with which a spider is closed."""

_FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two probes, before the jitter."""
_LOOK = 0.25  # seconds between two looks at what ends a pause
_DEEDS = {
    PASS: "Until it answers again, posts are stored unchecked.",
    PAUSE: "Until it answers again, posts and requests wait.",
    CLOSE: "The spider is closed (VALKEY_DEDUP_ON_OUTAGE = 'close').",
}


class Outage:
    """A circuit breaker. Everyone who asks Valkey reports here what failed.

    While an outage lasts nobody asks but the probe, which finds out when it is over: nobody else
    waits for a deadline in vain. One line is logged when it begins, one when it ends.
    """

    def __init__(  # noqa: PLR0913 (all but two are keywords)
        self,
        stats: Stats,
        policy: str,
        *,
        pause_limit: float | None,
        calm: float,
        probe: Callable[[], Awaitable[None]],
        close_spider: Callable[[str], None],
        is_closing: Callable[[], bool],
    ) -> None:
        """``policy`` and ``pause_limit`` (seconds) are the settings.

        ``calm``: seconds without a failure after which an outage is over for good. What fails
        before belongs to it: a Valkey that flickers is one outage, not a hundred.
        ``probe`` asks Valkey, delivers what was kept and calls :meth:`answered`, or raises.
        ``is_closing`` tells whether the spider is on its way to its end, for whatever reason.
        """
        self.ends = False
        """Valkey answers, and what was kept is being delivered."""
        self._stats = stats
        self._policy = policy
        self._pause_limit = pause_limit
        self._calm = calm
        self._probe = probe
        self._close_spider = close_spider
        self._is_closing = is_closing
        self._error: DedupError | None = None
        self._began = 0.0
        self._ended = -inf
        self._seconds = 0.0
        self._unchecked = (0, 0)
        self._let_go = False
        self._pause = _FIRST_PAUSE
        self._prober: asyncio.Task[None] | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._hurry = asyncio.Event()
        self._probed: asyncio.Future[None] | None = None
        self._changed = asyncio.Event()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self._error is not None

    @property
    def holds(self) -> bool:
        """Whether posts and requests are to wait for its end."""
        return self._error is not None and self._policy == PAUSE and not self._let_go

    def check(self) -> None:
        """Raises what began the outage, if there is one."""
        if self._error is not None:
            # A new one each time: an error that is raised again and again gathers tracebacks.
            raise OutageError(str(self._error))

    @property
    def is_refusal(self) -> bool:
        """Whether it began with a refusal: Valkey is there, and forbids something."""
        return isinstance(self._error, LedgerRefusedError)

    def failed(self, error: DedupError) -> None:
        """A question was not answered: the outage begins, if it has not yet, or goes on."""
        if self._error is not None:
            return
        self._error = error
        self._changed.clear()
        if self._farewell is None:
            self._begin(error)
        else:
            self._farewell.cancel()
        self._prober = asyncio.get_running_loop().create_task(self._see_it_through(error))
        if self._policy == CLOSE:
            self._close_spider(CLOSED)

    def _begin(self, error: DedupError) -> None:
        self._began = monotonic()
        self._unchecked = self._count_unchecked()
        self._let_go = False
        self._pause = _FIRST_PAUSE
        self._stats.count(Stats.OUTAGES)
        logger.error("%s. %s", error, _DEEDS[self._policy], exc_info=error.__cause__)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """While what was kept is delivered."""
        self.ends = True
        try:
            yield
        finally:
            self.ends = False

    def answered(self) -> None:
        """Valkey answers, and what was kept for it is delivered: all go on."""
        if self._error is None:
            return
        self._error = None
        self._ended = monotonic()
        self._changed.set()
        self._farewell = asyncio.get_running_loop().call_later(self._calm, self._end)

    def _end(self) -> None:
        """It has gone on answering."""
        self._farewell = None
        logger.info("Valkey answers again, after %s.", self._account(self._ended))

    def ended_within(self, seconds: float) -> bool:
        """Whether there was an outage that has not been over for so long."""
        return monotonic() - self._ended < seconds

    async def over(self) -> bool:
        """Waits for the outage to end if posts are held. Returns whether Valkey can be asked."""
        while self.holds:
            await self._changed.wait()
        return self._error is None

    # -- the probe -------------------------------------------------------------------------------

    async def _see_it_through(self, outage: DedupError) -> None:
        while self._error is outage:  # not the next one, which has a prober of its own
            probed = self._probed = asyncio.get_running_loop().create_future()
            jitter = uniform(0.5, 1)  # noqa: S311 (no secret)
            try:
                await self._watching(self._sleep(self._pause * jitter))
                await self._watching(self._probe())
            except DedupError:
                pass
            except Exception:
                logger.exception("Looking whether Valkey answers failed; it is tried again.")
            finally:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                probed.set_result(None)

    async def _sleep(self, seconds: float) -> None:
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait([hurry], timeout=seconds)
        finally:
            hurry.cancel()
        self._hurry.clear()

    async def _watching(self, work: Awaitable[Any]) -> None:
        """Awaits it, and looks now and then whether a pause must end."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_LOOK)
                self._look()
            task.result()
        finally:
            if not task.done():  # it may hold what it has not delivered: see that it puts it back
                task.cancel()
                await asyncio.wait([task])

    def _look(self) -> None:
        if not self.holds:
            return
        limit = self._pause_limit
        if self._is_closing():
            self._end_pause()
        elif limit is not None and monotonic() - self._began >= limit:
            logger.error(
                "Valkey has not answered for %.0f seconds (VALKEY_DEDUP_PAUSE_LIMIT): the spider "
                "is closed.",
                limit,
            )
            self._close_spider(CLOSED)
            self._end_pause()

    def _end_pause(self) -> None:
        """What waits passes unchecked: a second copy can be mended, a missing post cannot."""
        self._let_go = True
        self._changed.set()

    # -- the end ---------------------------------------------------------------------------------

    async def last_chance(self, patience: float) -> None:
        """Probes once more, for ``patience`` seconds at most, if there is an outage."""
        if self._error is not None and self._probed is not None:
            self._hurry.set()
            await asyncio.wait([self._probed], timeout=patience)

    async def close(self, *, reached: bool = True) -> None:
        """Nobody asks any more; an outage that lasts is accounted for.

        ``reached``: whether Valkey has ever answered this run.
        """
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait([self._prober])
        if self._farewell is not None:
            self._farewell.cancel()
        if self._error is not None:
            self._error = None
            self._changed.set()
            account = self._account(monotonic())
            if reached:
                logger.error("Valkey has not answered any more, for %s.", account)
            else:  # its error stands at the beginning, with the cure
                again = self._count_unchecked() != self._unchecked
                logger.warning(
                    "Valkey was never reached, for %s.%s",
                    account,
                    " A later run may store them again." if again else "",
                )
        elif self._farewell is not None:
            self._end()
        self._farewell = None

    def count(self) -> None:
        """Writes into the stats how long it has lasted so far."""
        now = monotonic() if self._error is not None else self._ended
        under_way = self._error is not None or self._farewell is not None
        if under_way:
            self._stats.set(Stats.OUTAGE_SECONDS, round(self._seconds + now - self._began))

    def _account(self, ended: float) -> str:
        seconds = ended - self._began
        self._seconds += seconds
        self._stats.set(Stats.OUTAGE_SECONDS, round(self._seconds))
        posts, pages = (
            now - before
            for now, before in zip(self._count_unchecked(), self._unchecked, strict=True)
        )
        pages_too = f", and {pages} {'page' if pages == 1 else 'pages'}" if pages else ""
        noun = "post" if posts == 1 else "posts"
        return f"{seconds:.0f} seconds; {posts} {noun} passed unchecked meanwhile{pages_too}"

    def _count_unchecked(self) -> tuple[int, int]:
        return self._stats.number(ITEMS.unchecked), self._stats.number(REQUESTS.unchecked)
