"""Adds what a run has counted to the history in the ledger, now and then and at its end.

The numbers are Scrapy's stats, so no item waits for this. Nothing is decided by them, and a failure
is never an outage: what could not be added is added the next time, and never twice.
"""

from __future__ import annotations

import logging
from math import inf
from time import monotonic, time

from scrapy_valkey_dedup.ledger.history import COUNTERS, LONGEST_DOUBT
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError
from scrapy_valkey_dedup.stats import ITEMS, REQUESTS, Stats

logger = logging.getLogger(__name__)

INTERVAL = 120.0
"""Seconds between two additions, at least."""

_STATS = {
    "new": (ITEMS.new,),
    "duplicate": (ITEMS.duplicate,),
    "in_flight": (ITEMS.in_flight,),
    "unkeyed": (ITEMS.unkeyed,),
    "unchecked": (ITEMS.unchecked,),
    "stored": (ITEMS.confirmed, ITEMS.recovered),
    "not_stored": (ITEMS.released,),
    "taken_over": (ITEMS.taken_over,),
    "pages": ("response_received_count",),
    "pages_saved": (REQUESTS.duplicate, REQUESTS.not_new, REQUESTS.after_empty),
    "outages": (Stats.OUTAGES,),
    "outage_seconds": (Stats.OUTAGE_SECONDS,),
}
"""The stats that each counter adds up. ``runs`` is 1, ``seconds`` how long the run lasts."""


def counters_of(stats: Stats, seconds: float) -> list[int]:
    """The totals of a run so far, in the order of ``COUNTERS``."""
    found = {name: sum(map(stats.number, names)) for name, names in _STATS.items()}
    found |= {"runs": 1, "seconds": round(seconds)}
    return [found[name] for name in COUNTERS]


class RunHistory:
    """The part of one run in the history of its namespace."""

    def __init__(self, ledger: Ledger, stats: Stats, spider: str) -> None:
        self._ledger = ledger
        self._stats = stats
        self._spider = spider
        self._began = monotonic()
        self._tried_at = -inf  # the first heartbeat tells what takes long: the end need not
        self._added = [0] * len(COUNTERS)
        """Totals that are known to be added."""
        self._doubted: list[int] = []
        """Totals of an addition whose reply was lost; empty if there is none."""
        self._doubted_at = 0.0
        self._is_refused = False
        self._is_told = False

    async def add_now_and_then(self) -> None:
        """Adds what is new, at most every two minutes; nothing while the run only waits."""
        if monotonic() - self._tried_at >= INTERVAL:
            seconds, (*totals,) = COUNTERS.index("seconds"), self._totals()
            totals[seconds] = self._added[seconds]
            if totals != self._added:
                await self.add()

    async def add(self) -> None:
        """Adds what is new. Never raises what the ledger raises."""
        if self._is_refused:
            return
        self._tried_at = monotonic()
        if self._doubted and self._tried_at - self._doubted_at > LONGEST_DOUBT:
            # Valkey may not know any more whether it was added: it is not added twice.
            self._added, self._doubted = self._doubted, []
        totals = self._totals()
        try:
            await self._send(totals)
        except LedgerRefusedError as error:
            self._is_refused = True
            logger.warning(
                "`scrapy dedup report` will not show this run, as Valkey does not let it write its "
                "history (keys %s:history:*): %s. All else works",
                self._ledger.root,
                error,
            )
        except DedupError as error:
            if not self._doubted:
                self._doubted_at = self._tried_at
            elif not self._is_told:
                self._is_told = True
                logger.warning(
                    "What this run counts cannot be added to its history in Valkey (keys "
                    "%s:history:*), and would be missing in `scrapy dedup report`: %s. All else "
                    "works, and it is tried again",
                    self._ledger.root,
                    error,
                )
            self._doubted = totals
            logger.debug("The history was not written: %s", error)

    async def _send(self, totals: list[int]) -> None:
        history, spider = self._ledger.history, self._spider
        is_due = await history.add(spider, totals, self._added, time())
        self._added, self._doubted = totals, []
        if is_due:
            posts = await self._ledger.count_posts()
            await history.add(spider, totals, totals, time(), posts)

    def _totals(self) -> list[int]:
        return counters_of(self._stats, monotonic() - self._began)
