"""Measures a ledger for an estimate: its entries, their memory, and its commands. Only reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import time

from scrapy_valkey_dedup.commands.shared.connection import LedgerConnection
from scrapy_valkey_dedup.commands.shared.estimates.costs import Estimate, beside, cost, estimate
from scrapy_valkey_dedup.commands.shared.estimates.counted import Counted, counted
from scrapy_valkey_dedup.commands.shared.estimates.prices import Prices
from scrapy_valkey_dedup.commands.shared.estimates.workload import DAY, Demand, Workload, bytes_of
from scrapy_valkey_dedup.commands.shared.status.server import nodes
from scrapy_valkey_dedup.commands.shared.status.state import (
    LedgerState,
    local_state,
    query_server,
    rate_of_posts,
    rate_of_runs,
)
from scrapy_valkey_dedup.commands.shared.usage import CommandError

_COUNTS = ("new", "duplicate")
_BYTES_A_KEY = 37
"""Bytes that ``MEMORY USAGE`` leaves out: a key's slots in the server's tables (Valkey 9.1)."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a ledger."""

    state: LedgerState
    counted: Counted | None
    unknown: str
    """Why the commands were not counted; "" if they were."""
    remembered: Demand
    """Posts, pages and timelines, in this namespace."""
    is_weighed: bool
    """Whether the server reported their memory; otherwise it is estimated from their number."""

    @property
    def generations(self) -> int:
        """The number of generations of posts."""
        return len(self.state.contents["posts"].generations)

    def as_counted(self, prices: Prices) -> Estimate:
        """What a month costs if it is like the time in which the server has counted."""
        found = self.counted
        assert found is not None  # noqa: S101 (the caller has looked)
        per_day = DAY / max(found.seconds, 1)
        sightings = found.sightings(self.generations)
        ways = beside(self.remembered, found.ecpu(prices) * per_day, sightings * per_day)
        return Estimate(prices, {name: cost(each, prices) for name, each in ways.items()})

    def as_modelled(self, work: Workload, prices: Prices) -> Estimate:
        """What a month costs with this workload, and with what is remembered now."""
        return estimate(work, prices, remembered=self.remembered)

    def work(self, assumed: Workload, retention: float | None) -> Workload:
        """The workload, with posts a day and spiders as measured.

        Raises:
            CommandError: the ledger is too young to measure posts a day.

        """
        now = time()
        rate = rate_of_posts(self.state.contents["posts"], retention, now)
        rate = rate or rate_of_runs(self.state, now)
        if rate is None:
            raise CommandError(
                f"how much is asked of this ledger is not known: {self.unknown}, and it is too "
                "young to tell its posts a day (an hour at least, with a retention): give "
                "--posts-a-day, too"
            )
        return replace(assumed, posts=rate * DAY, spiders=max(len(self.state.runs.alive), 1))

    def sightings(self) -> float | None:
        """How often a post is met, as live runs report it; None if there is none."""
        notes = self.state.runs.infos.values()
        new, duplicate = (sum(getattr(each, name) for each in notes) for name in _COUNTS)
        return (new + duplicate) / new if new else None


async def measure(connection: LedgerConnection) -> Measured:
    """Measures a ledger. Reads the counts first, as measuring sends many commands itself."""
    server, namespace = connection.server, connection.settings.namespace
    found = await counted(server, await nodes(server, namespace))
    state = local_state(connection)
    await query_server(connection, state)
    entries = size = 0.0
    is_weighed = True
    for contents in state.contents.values():
        entries += contents.entries
        if contents.bytes is None:
            is_weighed &= not contents.entries
            size += sum(bytes_of(each.entries) for each in contents.generations)
        else:
            buckets = sum(each.buckets for each in contents.generations)
            size += contents.bytes + _BYTES_A_KEY * buckets
    remembered = Demand(entries, size, 0)
    if isinstance(found, str):
        return Measured(state, None, found, remembered, is_weighed)
    return Measured(state, found, "", remembered, is_weighed)
