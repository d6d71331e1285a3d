"""Shows an estimate: a table of the ways to store posts, what it is based on, and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scrapy_valkey_dedup.commands.shared.estimates.costs import LEDGER, Cost, Estimate
from scrapy_valkey_dedup.commands.shared.estimates.counted import Counted
from scrapy_valkey_dedup.commands.shared.estimates.prices import Prices
from scrapy_valkey_dedup.commands.shared.estimates.workload import DAY
from scrapy_valkey_dedup.commands.shared.screen import Screen
from scrapy_valkey_dedup.stats import quantity

_HOUR = 3600.0
_COLUMNS = ("a month of", "posts", "GB", "million ECPU", "storage, USD", "ECPU, USD", "USD")


@dataclass
class Grounds:
    """What an estimate is based on, in words."""

    known: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    counted: Counted | None = None
    """The counted commands; None if they were not counted."""
    when: str = "a year after the start"
    """The time at which that much memory is used."""


def tell(screen: Screen, found: Estimate, grounds: Grounds) -> None:
    """Shows an estimate and what it is based on."""
    counted, prices = grounds.counted, found.prices
    screen.result(
        {
            "usd": found.ways[LEDGER].usd,
            "ways": {name: {**vars(way), "usd": way.usd} for name, way in found.ways.items()},
            "ecpu_of": dict(found.parts),
            "workload": None if found.work is None else vars(found.work),
            "counted": None if counted is None else _counted(counted, prices),
            "measured": grounds.known,
            "assumed": grounds.assumed,
            "prices": vars(prices),
        }
    )
    _show(screen, found, counted)
    screen.facts(_foot(prices, grounds))


def _counted(counted: Counted, prices: Prices) -> dict[str, Any]:
    ecpu = counted.ecpu(prices)
    return {
        "seconds": counted.seconds,
        "scripts": counted.scripts,
        "script_us": counted.script_us,
        "plain": counted.plain,
        "bytes": counted.bytes,
        "ecpu": ecpu,
        "usd": prices.processing(ecpu),
    }


def _show(screen: Screen, found: Estimate, counted: Counted | None) -> None:
    if found.work is not None:
        work = found.work
        kept = "forever" if work.retention is None else f"for {work.retention / DAY:g} days"
        screen.line(
            f"{work.posts:,.0f} new posts a day, each met {work.sightings:,.1f} times, kept {kept};"
            f" {quantity(round(work.spiders), 'spider')}, {work.hours:g} hours a day"
        )
    elif counted is not None:
        screen.line(
            f"counted in {counted.seconds / _HOUR:,.1f} hours: {counted.scripts:,} scripts, about "
            f"{counted.plain:,} other commands, {counted.ecpu(found.prices):,.0f} ECPU"
        )
    screen.table(_COLUMNS, [_row(name, way) for name, way in found.ways.items()])
    if found.parts:
        rows = [(name, f"{ecpu / 1e6:,.2f}") for name, ecpu in found.parts.items() if ecpu]
        screen.table(("this ledger", "million ECPU"), rows)


def _row(name: str, way: Cost) -> tuple[str, ...]:
    ecpu = f"{way.ecpu / 1e6:,.2f}"
    money = (f"{each:,.2f}" for each in (way.usd_storage, way.usd_ecpu, way.usd))
    return (name, f"{way.posts:,.0f}", f"{way.gb:,.3f}", ecpu, *money)


def _foot(prices: Prices, grounds: Grounds) -> list[tuple[str, str]]:
    given = f"; given: {', '.join(prices.changed)}" if prices.changed else ""
    charged = (
        f"{prices.usd_per_gb_hour:g} USD a GB and hour, {prices.usd_per_million_ecpu:g} USD a "
        f"million ECPU; {prices.region}, {prices.date}{given}; check {prices.check}"
    )
    facts = [
        ("memory", f"{grounds.when}; at least {prices.minimum_gb:g} GB are charged"),
        ("known", ", ".join(grounds.known)),
        ("assumed", ", ".join(grounds.assumed)),
        ("prices", charged),
        ("from", prices.source),
        ("an ECPU", f"{prices.script_us_per_ecpu:g} us of a script; {prices.script_source}"),
    ]
    return [(name, text) for name, text in facts if text]
