"""Arranges what was counted into periods of the same length: hours or days, without gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from scrapy_valkey_dedup.ledger.history import COUNTERS, OTHERS, Record, total

HOUR, DAY = 3600, 86400
_DAYS_BY_HOUR = 3
"""Up to so many days are shown hour by hour."""


@dataclass(frozen=True)
class Period:
    """An hour or a day, and what was counted in it."""

    start: int
    """Seconds since 1970."""
    record: Record = field(default_factory=Record)


@dataclass(frozen=True)
class Periods:
    """All periods of a report, in order, without gaps."""

    length: int
    """Seconds: ``HOUR`` or ``DAY``."""
    listed: Sequence[Period]

    @property
    def unit(self) -> str:
        """The length as a word: an hour or a day."""
        return "hour" if self.length == HOUR else "day"

    @property
    def totals(self) -> Mapping[str, int]:
        """All counters, added up."""
        return total(each.record for each in self.listed)

    @property
    def by_spider(self) -> dict[str, dict[str, int]]:
        """All counters of each spider, the one that met most posts first, and ``OTHERS`` last."""
        found: dict[str, dict[str, int]] = {}
        for period in self.listed:
            for name, counted in period.record.spiders.items():
                sums = found.setdefault(name, dict.fromkeys(COUNTERS, 0))
                for counter, number in counted.items():
                    sums[counter] += number
        return dict(
            sorted(found.items(), key=lambda each: (each[0] == OTHERS, -met(each[1]), each[0]))
        )

    def most_active(self, limit: int) -> dict[str, dict[str, int]]:
        """The first of ``by_spider``, and the sum of all others as ``OTHERS``."""
        ranked = self.by_spider
        if len(ranked) <= limit:
            return ranked
        own = [name for name in ranked if name != OTHERS][:limit]
        rest = [ranked[name] for name in ranked if name not in own]
        summed = {counter: sum(each[counter] for each in rest) for counter in COUNTERS}
        return {name: ranked[name] for name in own} | {OTHERS: summed}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted."""
        return not any(period.record.spiders for period in self.listed)

    def series(self, counters: Sequence[str], spider: str | None = None) -> list[int]:
        """The sum of some counters in each period: of a spider, or of all."""
        if spider is None:
            sums = [total([period.record]) for period in self.listed]
        else:
            sums = [period.record.spiders.get(spider, {}) for period in self.listed]
        return [sum(each.get(counter, 0) for counter in counters) for each in sums]


def met(counted: Mapping[str, int]) -> int:
    """How many posts were met."""
    names = ("new", "duplicate", "in_flight", "unkeyed", "unchecked")
    return sum(counted.get(name, 0) for name in names)


def dropped(counted: Mapping[str, int]) -> int:
    """How many of them were dropped."""
    return counted.get("duplicate", 0) + counted.get("in_flight", 0)


def length_for(days: int) -> int:
    """The length of a period for so many days."""
    return HOUR if days <= _DAYS_BY_HOUR else DAY


def starts(length: int, days: int, now: float) -> list[int]:
    """The starts of the periods that the last days consist of; the last one is not over yet."""
    last = int(now) // length * length
    number = days * DAY // length
    return [last - length * back for back in reversed(range(number))]


def arranged(length: int, expected: Sequence[int], found: Mapping[int, Record]) -> Periods:
    """The periods from the first one in which something was counted, by their starts."""
    known = [start for start in expected if start in found]
    first = min(known, default=expected[-1])
    listed = [Period(at, found.get(at, Record())) for at in expected if at >= first]
    return Periods(length, listed)


def joined(records: Iterable[tuple[int, str, Mapping[str, int]]]) -> dict[int, Record]:
    """Adds up counters by period and spider; each is given with its start and its spider."""
    found: dict[int, Record] = {}
    for start, spider, counted in records:
        sums = found.setdefault(start, Record()).spiders.setdefault(spider, {})
        for name, number in counted.items():
            sums[name] = sums.get(name, 0) + number
    return found


def date_of(start: float, length: int) -> str:
    """How a period is called in a table."""
    found = datetime.fromtimestamp(start, timezone.utc)
    return f"{found.day} {found:%b %Y}" + (f", {found:%H}:00" if length == HOUR else "")
