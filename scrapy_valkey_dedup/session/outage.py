"""Knows whether Valkey answers, and what is done while it does not: ``VALKEY_DEDUP_ON_OUTAGE``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError, OutageError
from scrapy_valkey_dedup.session.outage_account import OutageAccount
from scrapy_valkey_dedup.session.probing import Prober
from scrapy_valkey_dedup.stats import Stats

logger = logging.getLogger(__name__)

PASS, PAUSE, CLOSE = "pass", "pause", "close"
CLOSED = "valkey_unavailable"
"""The reason with which a spider is closed."""

_POLICIES = {
    PASS: "Until it answers%s, posts are stored unchecked.",
    PAUSE: "Until it answers%s, posts and requests wait.",
    CLOSE: "The spider is closed (VALKEY_DEDUP_ON_OUTAGE = 'close').",
}


class Outage:
    """A circuit breaker. All that asks Valkey reports here what failed.

    While an outage lasts only the probe asks Valkey, to find out when it is over: nothing else
    waits for a deadline. One line is logged when it begins, one when it ends.
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
        has_answered: Callable[[], bool] = lambda: True,
    ) -> None:
        """``policy`` and ``pause_limit`` (seconds) are the settings.

        ``calm``: seconds without a failure after which an outage is over for good. What fails
        before belongs to it: a Valkey that flickers is one outage, not a hundred.
        ``probe`` asks Valkey, delivers what was kept and calls :meth:`answered`, or raises.
        ``is_closing`` tells whether the spider is being closed, for any reason.
        ``has_answered``: whether Valkey has ever answered this run.
        """
        self.ends = False
        """Valkey answers, and what was kept is being delivered."""
        self._account = OutageAccount(stats)
        self._prober = Prober(probe, self._look)
        self._policy = policy
        self._pause_limit = pause_limit
        self._calm = calm
        self._close_spider = close_spider
        self._is_closing = is_closing
        self._has_answered = has_answered
        self._error: DedupError | None = None
        self._let_go = False
        self._end_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self._error is not None

    @property
    def holds(self) -> bool:
        """Whether posts and requests wait for its end."""
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
        if self._end_timer is None:
            self._let_go = False
            self._prober.reset_pause()
            self._account.begin(error, self._policy_in_words())
        else:
            self._end_timer.cancel()
        self._prober.start(lambda: self._error is error)
        if self._policy == CLOSE:
            self._close_spider(CLOSED)

    def _policy_in_words(self) -> str:
        return _POLICIES[self._policy].replace("%s", " again" if self._has_answered() else "")

    @contextmanager
    def ending(self) -> Iterator[None]:
        """While what was kept is delivered."""
        self.ends = True
        try:
            yield
        finally:
            self.ends = False

    def answered(self) -> None:
        """Valkey answers, and what was kept for it is delivered: all work continues."""
        if self._error is None:
            return
        self._error = None
        self._account.answers_again()
        self._changed.set()
        self._end_timer = asyncio.get_running_loop().call_later(self._calm, self._end)

    def _end(self) -> None:
        """It has answered ever since."""
        self._end_timer = None
        self._account.end()

    def ended_within(self, seconds: float) -> bool:
        """Whether there was an outage that has not been over for so long."""
        return monotonic() - self._account.ended < seconds

    async def over(self) -> bool:
        """Waits for the outage to end if posts are held. Returns whether Valkey can be asked."""
        while self.holds:
            await self._changed.wait()
        return self._error is None

    # -- the end of a pause ----------------------------------------------------------------------

    def _look(self) -> None:
        if not self.holds:
            return
        limit = self._pause_limit
        if self._is_closing():
            self._end_pause()
        elif limit is not None and monotonic() - self._account.began >= limit:
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

    # -- the end of the run ----------------------------------------------------------------------

    async def last_chance(self, patience: float) -> None:
        """Probes once more, for ``patience`` seconds at most, if there is an outage."""
        if self._error is not None:
            await self._prober.probe_now(patience)

    async def close(self) -> None:
        """Nothing is asked any more; an outage that lasts is accounted for."""
        await self._prober.stop()
        if self._end_timer is not None:
            self._end_timer.cancel()
        if self._error is not None:
            self._error = None
            self._changed.set()
            self._account.end_of_run(reached=self._has_answered())
        elif self._end_timer is not None:
            self._end()
        self._end_timer = None

    def count(self) -> None:
        """Writes into the stats how long it has lasted so far."""
        if self._error is not None or self._end_timer is not None:
            self._account.count(lasts=self._error is not None)
