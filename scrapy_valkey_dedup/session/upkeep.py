"""What a run does at each heartbeat besides beating: renews its claims, notes what it does."""

from __future__ import annotations

import contextlib
from socket import gethostname
from time import monotonic, time

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import LedgerRefusedError
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.run_history import RunHistory
from scrapy_valkey_dedup.session.shelves import Shelves
from scrapy_valkey_dedup.stats import RunInfo, Stats

_BEATS_BETWEEN_NOTES = 4
"""The run writes what it is doing every ten seconds or so: `scrapy dedup status` shows it."""


class RunNotes:
    """Writes into the ledger what the run is doing."""

    def __init__(
        self, ledger: Ledger, stats: Stats, spider: str, start: float, lifetime: float
    ) -> None:
        """``start`` of the run, in seconds since 1970; a note lasts ``lifetime`` seconds."""
        self._ledger = ledger
        self._stats = stats
        self._spider = spider
        self._start, self._host = round(start, 3), gethostname()
        self._began = monotonic() - max(time() - start, 0)
        self._lifetime = lifetime

    async def write(self, open_claims: int) -> None:
        """Writes the next one; without the right to do so, none."""
        note = self._note(open_claims)
        with contextlib.suppress(LedgerRefusedError):  # a crawl does not need it
            await self._ledger.runs.write_info(note.to_json(), self._lifetime)

    async def sign_off(self) -> None:
        """Ends the run's heartbeat. The last note has what the stats of the crawl have."""
        last = self._stats.run_info(self._note(0), has_ended=True)
        await self._ledger.runs.sign_off(last.to_json(), self._lifetime)

    def _note(self, open_claims: int) -> RunInfo:
        age = round(monotonic() - self._began, 3)
        known = RunInfo(self._spider, self._host, self._start, open_claims, age=age)
        return self._stats.run_info(known)


class Upkeep:
    """Claims have a lifetime, and what could not be delivered is safer on disk."""

    def __init__(
        self, shelves: Shelves, outage: Outage, notes: RunNotes, history: RunHistory
    ) -> None:
        self._shelves = shelves
        self._outage = outage
        self._notes = notes
        self._history = history
        self._renewed_at = monotonic()
        self._beats = 0

    async def once(self) -> None:
        """The work of one heartbeat. Raises what the ledger raises."""
        if self._outage:
            await self._shelves.save_now_and_then()
            return
        if monotonic() - self._renewed_at >= self._shelves.ledger.claim_lifetime / 2:
            self._renewed_at = monotonic()
            await self._shelves.renew()
        self._beats += 1
        if self._beats % _BEATS_BETWEEN_NOTES == 1:
            await self._notes.write(self._shelves.open_count)
        await self._history.add_now_and_then()
