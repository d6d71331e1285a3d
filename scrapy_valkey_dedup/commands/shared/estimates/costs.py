"""Computes what a ledger costs on ElastiCache Serverless, and two simpler ways instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scrapy_valkey_dedup.commands.shared.estimates.prices import Prices
from scrapy_valkey_dedup.commands.shared.estimates.workload import (
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
    """What one way to remember posts costs in a month."""

    posts: float
    """Remembered posts and pages."""
    gb: float
    """GB of memory; more may be charged."""
    ecpu: float
    usd_storage: float
    usd_ecpu: float

    @property
    def usd(self) -> float:
        """USD in total."""
        return self.usd_storage + self.usd_ecpu


@dataclass(frozen=True)
class Estimate:
    """What a month costs, by way, and what that is based on."""

    prices: Prices
    ways: Mapping[str, Cost]
    parts: Mapping[str, float] = field(default_factory=dict)
    """The ledger's ECPU in a month, by purpose; empty if only their sum was counted."""
    work: Workload | None = None
    """None if the commands were counted instead."""


def cost(demand: Demand, prices: Prices) -> Cost:
    """What a demand costs in a month."""
    gb, ecpu = demand.bytes / 1e9, demand.ecpu * prices.days_per_month
    return Cost(demand.entries, gb, ecpu, prices.storage(gb), prices.processing(ecpu))


def estimate(work: Workload, prices: Prices, *, remembered: Demand | None = None) -> Estimate:
    """What a fleet costs: a year after its start, or with the posts ``remembered`` now."""
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
    """The demand of each way for the same posts; ``ecpu`` and ``sightings`` are per day."""
    entries = remembered.entries
    return {
        LEDGER: Demand(entries, remembered.bytes, ecpu),
        KEYS: Demand(entries, entries * BYTES_A_STRING_KEY, sightings),
        SET: Demand(entries, entries * BYTES_A_MEMBER, sightings),
    }
