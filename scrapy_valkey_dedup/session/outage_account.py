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
        seconds, unchecked = self._closed(self.ended)
        logger.info("Valkey answers again, after %s; %s.", seconds, unchecked)

    def end_of_run(self, *, reached: bool) -> None:
        """It lasts. ``reached``: whether Valkey has ever answered this run."""
        again = self._again()
        seconds, unchecked = self._closed(monotonic())
        if reached:
            logger.error("Valkey has not answered any more, for %s; %s.", seconds, unchecked)
        else:  # its error stands at the beginning, with the cure
            logger.warning("Valkey was never reached (%s); %s.%s", seconds, unchecked, again)

    def count(self, *, lasts: bool) -> None:
        """Writes the seconds so far into the stats, before Scrapy logs these.

        What the log says afterwards of this outage is the same number.
        """
        self._counted_at = monotonic()
        ended = self._counted_at if lasts else self.ended
        self._stats.set(Stats.OUTAGE_SECONDS, self._seconds + round(ended - self.began))

    def _closed(self, ended: float) -> tuple[str, str]:
        """How long it took, and what passed unchecked.

        The stats are written before the end of a run: their number is the one that is said, and it
        is too low by what has passed since.
        """
        is_cut = self.began < self._counted_at < ended
        seconds = round((self._counted_at if is_cut else ended) - self.began)
        at_least = "at least " if is_cut and seconds < round(ended - self.began) else ""
        self._seconds += seconds
        self._stats.set(Stats.OUTAGE_SECONDS, self._seconds)
        posts, pages = self._passed()
        pages_too = f", and {quantity(pages, 'page')}" if pages else ""
        return (
            f"{at_least}{quantity(seconds, 'second')}",
            f"{quantity(posts, 'post')} passed unchecked in that time{pages_too}",
        )

    def _again(self) -> str:
        """What a later run may do, as it does not know of what passed."""
        posts, pages = self._passed()
        if not posts and not pages:
            return ""
        deed = " and ".join(verb for verb, number in (("fetch", pages), ("store", posts)) if number)
        return f" A later run may {deed} {'it' if posts + pages == 1 else 'them'} again."

    def _passed(self) -> tuple[int, int]:
        """How many posts and pages passed unchecked since it began."""
        posts, pages = self._count_unchecked()
        return posts - self._unchecked[0], pages - self._unchecked[1]

    def _count_unchecked(self) -> tuple[int, int]:
        return self._stats.number(ITEMS.unchecked), self._stats.number(REQUESTS.unchecked)
