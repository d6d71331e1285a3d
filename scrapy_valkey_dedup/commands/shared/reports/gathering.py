"""Gathers what a report shows: from the history in the ledger or from files, and from the server.

It only reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from math import inf

from scrapy_valkey_dedup.commands.shared.connection import LedgerConnection
from scrapy_valkey_dedup.commands.shared.estimates.costs import Estimate
from scrapy_valkey_dedup.commands.shared.estimates.measured import Measured, measure
from scrapy_valkey_dedup.commands.shared.estimates.prices import Prices
from scrapy_valkey_dedup.commands.shared.estimates.workload import Workload
from scrapy_valkey_dedup.commands.shared.reports.periods import (
    DAY,
    HOUR,
    Periods,
    arranged,
    dropped,
    joined,
    length_for,
    starts,
)
from scrapy_valkey_dedup.commands.shared.reports.stats_files import RunStats
from scrapy_valkey_dedup.commands.shared.status.state import LedgerState
from scrapy_valkey_dedup.ledger.history import History

_FORECAST = 90
"""Days that the forecast looks ahead at most."""
_SECONDS_BEFORE_COUNTED = 6 * 3600
"""The server's own count of commands is used from so many seconds on."""


@dataclass(frozen=True)
class Point:
    """How many posts are remembered at a moment, in seconds since 1970."""

    at: float
    posts: int


@dataclass
class Report:
    """All that a report shows."""

    namespace: str
    made: float
    """Seconds since 1970."""
    periods: Periods
    days: int
    """The days that were asked for."""
    from_files: bool = False
    """The counters are those of files, not of the ledger's history."""
    error: str = ""
    """Why the ledger did not answer; "" if it did, or was not asked."""
    state: LedgerState | None = None
    """What the ledger holds now; None if it is not known."""
    estimate: Estimate | None = None
    basis: str = ""
    """What the estimate is based on."""
    remembered: list[Point] = field(default_factory=list)
    forecast: list[Point] = field(default_factory=list)
    """It begins with what is remembered now; empty if less than a day is known."""

    @property
    def bytes_each(self) -> float | None:
        """Memory of a post; None if it is not known."""
        return None if self.state is None else self.state.contents["posts"].bytes_each


async def history_periods(history: History, days: int, now: float) -> Periods:
    """The history of the last days: by the hour if these are few, or if no more is known."""
    length = length_for(days)
    found = await _periods(history, days, now, length)
    if length == DAY and not found.is_empty and len(found.listed) <= 2:  # noqa: PLR2004 (a chart of two bars says little)
        return await _periods(history, min(days, len(found.listed)), now, HOUR)
    return found


async def _periods(history: History, days: int, now: float, length: int) -> Periods:
    expected = starts(length, days, now)
    read = history.read_hours if length == HOUR else history.read_days
    records = await read(map(float, expected))
    form = "%Y%m%d%H" if length == HOUR else "%Y%m%d"
    found = {at: records[name] for at in expected if (name := _stamp(at, form)) in records}
    return arranged(length, expected, found)


def _stamp(at: int, form: str) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime(form)


def file_periods(runs: Sequence[RunStats], days: int, now: float) -> Periods:
    """The runs of the last days; each counts in the period in which it ended."""
    length = length_for(days)
    expected = starts(length, days, now)
    counted = (
        (int(run.end) // length * length, run.spider, run.counted)
        for run in runs
        if expected[0] <= run.end < now + length
    )
    return arranged(length, expected, joined(counted))


async def add_ledger(report: Report, connection: LedgerConnection, prices: Prices) -> None:
    """Adds what the ledger holds now, what that costs, and what is to be expected.

    Raises what the ledger raises.
    """
    found = await measure(connection)
    report.state = found.state
    now = Point(report.made, found.state.contents["posts"].entries)
    report.remembered = [
        Point(each.start + report.periods.length / 2, each.record.posts)
        for each in report.periods.listed
        if each.record.posts is not None and each.start + report.periods.length < report.made
    ]
    report.remembered.append(now)
    report.forecast = forecast(report, now, connection.settings.retention)
    report.estimate, report.basis = _estimate(report, found, prices, connection)


def stored_a_day(report: Report) -> float | None:
    """Posts that were stored per day; None if less than an hour is known."""
    first = report.periods.listed[0].start
    seconds = report.made - first
    return report.periods.totals["stored"] / seconds * DAY if seconds >= HOUR else None


def forecast(report: Report, now: Point, retention: float | None) -> list[Point]:
    """What is remembered if posts come as before: generations end when they end.

    A post that is met again is kept longer, so there may be more.
    """
    rate = stored_a_day(report)
    known = (report.made - report.periods.listed[0].start) / DAY
    if rate is None or report.state is None or report.periods.is_empty or known < 1:
        return []
    days = min(known, _FORECAST, inf if retention is None else retention / DAY)
    generations = report.state.contents["posts"].generations
    points = [now]
    for step in range(1, 25):
        at = report.made + days * DAY * step / 24
        ended = sum(each.entries for each in generations if each.ends <= at)
        points.append(Point(at, round(now.posts - ended + rate * days * step / 24)))
    return points


def _estimate(
    report: Report, found: Measured, prices: Prices, connection: LedgerConnection
) -> tuple[Estimate | None, str]:
    """What a month costs: by the server's counts, or else by the history."""
    counted = found.counted
    if counted is not None and counted.seconds >= _SECONDS_BEFORE_COUNTED:
        hours = counted.seconds / HOUR
        return found.as_counted(prices), (
            f"the commands that the whole server has counted in {hours:,.0f} hours, and what is "
            "remembered now"
        )
    rate = stored_a_day(report)
    if rate is None or report.periods.is_empty:
        return None, ""
    totals, settings = report.periods.totals, connection.settings
    share = DAY / max(report.made - report.periods.listed[0].start, HOUR)
    new = max(totals["new"], 1)
    work = Workload(
        posts=totals["new"] * share,
        sightings=(new + dropped(totals)) / new,
        retention=settings.retention,
        spiders=max(round(totals["seconds"] * share / DAY), 1),
        starts=totals["runs"] * share,
    )
    spiders = totals["seconds"] * share / DAY
    if spiders < 1:
        work = replace(work, hours=24 * spiders)
    else:
        work = replace(work, starts=work.starts / work.spiders)
    return found.as_modelled(work, prices), (
        "the posts and the hours of work in the history, calls as python -m bench.ecpu measured "
        "them at best, and what is remembered now"
    )


def empty_periods(days: int, now: float) -> Periods:
    """A report about nothing."""
    length = length_for(days)
    return arranged(length, starts(length, days, now), {})
