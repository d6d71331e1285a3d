"""Knows whether Valkey answers: one log line when an outage begins, one when it ends."""

from __future__ import annotations

import logging
from time import monotonic

from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.stats import Stats

logger = logging.getLogger(__name__)


class Outage:
    """Everyone who asks Valkey reports here how it went."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._began: float | None = None

    def __bool__(self) -> bool:
        """Whether the last question failed."""
        return self._began is not None

    def failed(self, error: DedupError) -> None:
        """A question was not answered."""
        if self._began is None:
            self._began = monotonic()
            self._stats.count(Stats.OUTAGES)
            logger.error("%s. Until it answers again, posts are stored unchecked.", error)

    def answered(self) -> None:
        """A question was answered."""
        if self._began is not None:
            seconds = monotonic() - self._began
            self._began = None
            self._stats.count(Stats.OUTAGE_SECONDS, round(seconds))
            logger.info("Valkey answers again, after %.0f seconds.", seconds)
