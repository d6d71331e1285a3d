"""What a ledger is known to hold and to do, for an estimate: counted, or as its own entries tell.

Only reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import time

from scrapy_valkey_dedup.commands.shared.costs import Estimate, beside, cost, estimate
from scrapy_valkey_dedup.commands.shared.counted import Counted, counted
from scrapy_valkey_dedup.commands.shared.place import Place
from scrapy_valkey_dedup.commands.shared.prices import Prices
from scrapy_valkey_dedup.commands.shared.server import nodes
from scrapy_valkey_dedup.commands.shared.state import (
    State,
    begun,
    look,
    rate_of_posts,
    rate_of_runs,
)
from scrapy_valkey_dedup.commands.shared.usage import CommandError
from scrapy_valkey_dedup.commands.shared.workload import DAY, Demand, Workload, bytes_of

_COUNTS = ("new", "duplicate")
_BYTES_A_KEY = 37
"""What ``MEMORY USAGE`` leaves out: the places of a key in the server's tables (Valkey 9.1)."""


@dataclass(frozen=True)
class Measured:
    """What is known of a ledger."""

    state: State
    counted: Counted | None
    unknown: str
    """Why nothing was counted."""
    remembered: Demand
    """Posts, pages and timelines, in this namespace."""
    is_weighed: bool
    """Whether the server has told their memory; else it follows from their number."""

    @property
    def generations(self) -> int:
        """Of posts."""
        return len(self.state.holds["posts"].generations)

    def as_counted(self, prices: Prices) -> Estimate:
        """What a month costs that goes on as the time in which the server has counted."""
        found = self.counted
        assert found is not None  # noqa: S101 (the caller has looked)
        per_day = DAY / max(found.seconds, 1)
        sightings = found.sightings(self.generations)
        ways = beside(self.remembered, found.ecpu(prices) * per_day, sightings * per_day)
        return Estimate(prices, {name: cost(each, prices) for name, each in ways.items()})

    def as_modelled(self, work: Workload, prices: Prices) -> Estimate:
        """What a month costs with this work, and with what is remembered now."""
        return estimate(work, prices, remembered=self.remembered)

    def work(self, assumed: Workload, retention: float | None) -> Workload:
        """The work, as entries and runs tell it.

        Raises:
            CommandError: they do not, as the ledger is too young.

        """
        now = time()
        rate = rate_of_posts(self.state.holds["posts"], retention, now)
        rate = rate or rate_of_runs(self.state, now)
        if rate is None:
            raise CommandError(
                f"how much is asked of this ledger is not known: {self.unknown}, and it is too "
                "young to tell its posts a day (an hour at least, with a retention): give "
                "--posts-a-day, too"
            )
        return replace(assumed, posts=rate * DAY, spiders=max(len(self.state.sighted.alive), 1))

    def sightings(self) -> float | None:
        """How often a post is met, as the runs say that are at work; None: none is."""
        notes = self.state.sighted.notes.values()
        new, duplicate = (sum(getattr(each, name) for each in notes) for name in _COUNTS)
        return (new + duplicate) / new if new else None


async def measure(place: Place) -> Measured:
    """Looks. What was counted is read first: the look itself asks many questions."""
    server, namespace = place.server, place.settings.namespace
    found = await counted(server, await nodes(server, namespace))
    state = begun(place)
    await look(place, state)
    entries = size = 0.0
    is_weighed = True
    for contents in state.holds.values():
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
