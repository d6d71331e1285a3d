"""What a ledger costs on ElastiCache Serverless, beside two simpler ways to know posts again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scrapy_valkey_dedup.commands.shared.prices import Prices
from scrapy_valkey_dedup.commands.shared.workload import (
    BYTES_A_MEMBER,
    BYTES_A_STRING_KEY,
    Demand,
    Workload,
    ledger_demand,
    one_set,
    string_keys,
)

LEDGER, KEYS, SET = "this ledger", "a string key for each post", "one set, as scrapy-redis"


@dataclass(frozen=True)
class Cost:
    """A month of one way."""

    posts: float
    """That are remembered, and pages."""
    gb: float
    """Stored; what is charged may be more."""
    ecpu: float
    usd_storage: float
    usd_ecpu: float

    @property
    def usd(self) -> float:
        """All of it."""
        return self.usd_storage + self.usd_ecpu


@dataclass(frozen=True)
class Estimate:
    """What a month costs, by ways; and what that rests on."""

    prices: Prices
    ways: Mapping[str, Cost]
    parts: Mapping[str, float] = field(default_factory=dict)
    """ECPU of the ledger in a month, by what they are for; empty: they were counted as a whole."""
    work: Workload | None = None
    """None: the commands were counted."""


def cost(demand: Demand, prices: Prices) -> Cost:
    """A month of it."""
    gb, ecpu = demand.bytes / 1e9, demand.ecpu * prices.days_per_month
    return Cost(demand.entries, gb, ecpu, prices.storage(gb), prices.processing(ecpu))


def estimate(work: Workload, prices: Prices, *, remembered: Demand | None = None) -> Estimate:
    """What such a fleet costs: a year after its start, or with what is ``remembered`` now."""
    parts = ledger_demand(work, prices)
    ecpu = sum(part.ecpu for part in parts.values())
    if remembered is None:
        entries, size = (
            sum(part.entries for part in parts.values()),
            sum(part.bytes for part in parts.values()),
        )
        ways = {
            LEDGER: Demand(entries, size, ecpu),
            KEYS: string_keys(work),
            SET: one_set(work),
        }
    else:
        ways = beside(remembered, ecpu, work.posts * work.sightings)
    return Estimate(
        prices,
        {name: cost(demand, prices) for name, demand in ways.items()},
        {name: part.ecpu * prices.days_per_month for name, part in parts.items()},
        work,
    )


def beside(remembered: Demand, ecpu: float, sightings: float) -> dict[str, Demand]:
    """The same posts in each way; ``ecpu`` and ``sightings`` in a day."""
    entries = remembered.entries
    return {
        LEDGER: Demand(entries, remembered.bytes, ecpu),
        KEYS: Demand(entries, entries * BYTES_A_STRING_KEY, sightings),
        SET: Demand(entries, entries * BYTES_A_MEMBER, sightings),
    }
