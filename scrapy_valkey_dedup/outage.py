"""Knows whether Valkey answers: one log line when an outage begins, one when it ends."""

from __future__ import annotations

import logging
from time import monotonic

from scrapy_valkey_dedup.model import DedupError, LedgerUnavailableError
from scrapy_valkey_dedup.stats import Stats

logger = logging.getLogger(__name__)


class Outage:
    """Everyone who asks Valkey reports here how it went.

    While an outage lasts only the heartbeat asks: nobody else waits for a deadline in vain.
    """

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._began = 0.0
        self._error: DedupError | None = None

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self._error is not None

    def check(self) -> None:
        """Raises what began the outage, if there is one."""
        if self._error is not None:
            # A new one each time: an error that is raised again and again gathers tracebacks.
            raise LedgerUnavailableError(str(self._error))

    def failed(self, error: DedupError) -> None:
        """A question was not answered."""
        if self._error is None:
            self._error = error
            self._began = monotonic()
            self._stats.count(Stats.OUTAGES)
            logger.error(
                "%s. Until it answers again, posts are stored unchecked.",
                error,
                exc_info=error.__cause__,
            )

    def answered(self) -> None:
        """A question was answered."""
        if self._error is not None:
            self._error = None
            seconds = monotonic() - self._began
            self._stats.count(Stats.OUTAGE_SECONDS, round(seconds))
            logger.info("Valkey answers again, after %.0f seconds.", seconds)
