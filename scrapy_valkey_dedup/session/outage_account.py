"""What the log and the stats say of the outages of one run: how long, and what passed unchecked."""

from __future__ import annotations

import logging
from math import inf
from time import monotonic

from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.stats import ITEMS, REQUESTS, Stats, quantity

logger = logging.getLogger(__name__)


class OutageAccount:
    """The times of the outages, the stats on them, and one line for each beginning and end."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self.began = 0.0
        """When the present or the last one began. Times are monotonic, in seconds."""
        self.ended = -inf
        """When Valkey last began to answer again."""
        self._counted_at = inf
        self._seconds = 0
        self._unchecked = (0, 0)

    def begin(self, error: DedupError, policy: str) -> None:
        """The first question was not answered; ``policy``: what is done until one is."""
        self.began = monotonic()
        self._unchecked = self._count_unchecked()
        self._stats.count(Stats.OUTAGES)
        logger.error("%s. %s", error, policy, exc_info=error.__cause__)

    def answers_again(self) -> None:
        """Valkey answers: the outage ends now, unless the next failure comes soon."""
        self.ended = monotonic()

    def end(self) -> None:
        """It has answered ever since."""
        logger.info("Valkey answers again, after %s.", self._closed(self.ended))

    def end_of_run(self, *, reached: bool) -> None:
        """It lasts. ``reached``: whether Valkey has ever answered this run."""
        again = self._count_unchecked() != self._unchecked
        account = self._closed(monotonic())
        if reached:
            logger.error("Valkey has not answered any more, for %s.", account)
        else:  # its error stands at the beginning, with the cure
            logger.warning(
                "Valkey was never reached, for %s.%s",
                account,
                " A later run may store them again." if again else "",
            )

    def count(self, *, lasts: bool) -> None:
        """Writes the seconds so far into the stats, before Scrapy logs these.

        What the log says afterwards of this outage is the same number.
        """
        self._counted_at = monotonic()
        ended = self._counted_at if lasts else self.ended
        self._stats.set(Stats.OUTAGE_SECONDS, self._seconds + round(ended - self.began))

    def _closed(self, ended: float) -> str:
        if self.began < self._counted_at:
            ended = min(ended, self._counted_at)
        seconds = round(ended - self.began)
        self._seconds += seconds
        self._stats.set(Stats.OUTAGE_SECONDS, self._seconds)
        posts, pages = (
            now - before
            for now, before in zip(self._count_unchecked(), self._unchecked, strict=True)
        )
        pages_too = f", and {quantity(pages, 'page')}" if pages else ""
        return (
            f"{quantity(seconds, 'second')}; {quantity(posts, 'post')} passed unchecked in that "
            f"time{pages_too}"
        )

    def _count_unchecked(self) -> tuple[int, int]:
        return self._stats.number(ITEMS.unchecked), self._stats.number(REQUESTS.unchecked)
