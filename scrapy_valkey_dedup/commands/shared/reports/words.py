"""What a report says in words: the sentence at its top, its key figures, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from math import inf

from scrapy_valkey_dedup.commands.shared.estimates.costs import LEDGER
from scrapy_valkey_dedup.commands.shared.reports.gathering import Report, stored_a_day
from scrapy_valkey_dedup.commands.shared.reports.periods import DAY, HOUR, dropped
from scrapy_valkey_dedup.ledger.history import OTHERS
from scrapy_valkey_dedup.stats import quantity

_SCALES = ((1e9, " billion"), (1e6, " million"))
_BYTES = ("B", "kB", "MB", "GB", "TB")
_EXACT_UNTIL = 1e6
_THOUSAND = 1000


@dataclass(frozen=True)
class Figure:
    """A key figure: a number, what it is, and a line below it."""

    value: str
    name: str
    note: str = ""
    is_bad: bool = False


def number(count: float) -> str:
    """A count as people read it: "8,200", "1.2 million"."""
    for scale, word in _SCALES:
        if count >= max(scale, _EXACT_UNTIL):
            return f"{count / scale:.3g}{word}"
    return f"{count:,.0f}"


def brief(count: float) -> str:
    """The same in little room: "1.2 M"."""
    return number(count).replace(" million", " M").replace(" billion", " bn")


def size(number: float) -> str:
    """Bytes with their unit: "9.8 MB"."""
    for unit in _BYTES:
        if number < _THOUSAND or unit == _BYTES[-1]:
            break
        number /= _THOUSAND
    return (
        f"{number:,.0f} {unit}"
        if unit == "B" or number >= _THOUSAND / 10
        else f"{number:.1f} {unit}"
    )


def duration(seconds: float) -> str:
    """How long something took: "3 minutes"."""
    for length, unit in ((DAY, "day"), (HOUR, "hour"), (60, "minute")):
        if seconds >= 2 * length:
            return quantity(round(seconds / length), unit)
    return quantity(round(seconds), "second")


def percent(part: float, whole: float) -> str:
    """A share: "74 %", "less than 1 %"."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 1:
        return "less than 1 %"
    return "more than 99 %" if 99 < share < 100 else f"{share:.0f} %"  # noqa: PLR2004 (percent)


def date(at: float) -> str:
    """A date: "26 November 2026"."""
    found = datetime.fromtimestamp(at, timezone.utc)
    return f"{found.day} {found:%B %Y}"


def time_span(report: Report) -> str:
    """The time that is shown: "In the last 30 days", or less if less is known."""
    periods = report.periods
    seconds = report.made - periods.listed[0].start
    if periods.length == HOUR:
        hours = min(len(periods.listed), report.days * 24)
        return "In the last hour" if hours == 1 else f"In the last {hours} hours"
    days = min(round(seconds / DAY + 0.5), report.days)
    return f"In the last {days} days"


def headline(report: Report) -> Sequence[tuple[str, bool]]:
    """The sentence that matters, in parts, each with whether it is to be stressed."""
    periods = report.periods
    totals, counted = periods.totals, periods.by_spider
    spiders = max(sum(1 for name in counted if counted[name]["runs"] and name != OTHERS), 1)
    who = f"{'more than ' if OTHERS in counted else ''}{quantity(spiders, 'spider')}"
    gone = dropped(totals)
    parts = [
        (f"{time_span(report)} {who} stored ", False),
        (quantity_of(totals["stored"], "post"), True),
        (" and dropped ", False),
        (quantity_of(gone, "duplicate"), True),
        (f" ({percent(gone, gone + totals['new'])})", False),
    ]
    if saved := totals["pages_saved"]:
        verb = "was" if saved == 1 else "were"
        parts += [
            ("; ", False),
            (quantity_of(saved, "page"), True),
            (f" {verb} not fetched", False),
        ]
    return [*parts, (".", False)]


def quantity_of(count: int, noun: str) -> str:
    """A number with its noun: "1.2 million posts"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def figures(report: Report) -> list[Figure]:
    """The key figures: of the time that is shown, and of now."""
    totals, found = report.periods.totals, list[Figure]()
    gone, saved = dropped(totals), totals["pages_saved"]
    rate = stored_a_day(report)
    a_day = f"{number(rate)} a day" if rate is not None else ""
    found.append(Figure(brief(totals["stored"]), "new posts stored", a_day))
    share = percent(gone, gone + totals["new"])
    found.append(
        Figure(brief(gone), "duplicates dropped", f"{share} of the posts that were checked")
    )
    if saved:
        share = percent(saved, saved + totals["pages"])
        found.append(
            Figure(brief(saved), "pages not fetched", f"{share} of all, as they were known")
        )
    elif totals["pages"]:
        found.append(Figure(brief(totals["pages"]), "pages fetched"))
    found += _now(report)
    found.append(_outages(report))
    return found


def _now(report: Report) -> list[Figure]:
    found, state = list[Figure](), report.state
    if state is not None:
        posts = state.contents["posts"]
        memory = f"{size(posts.bytes)} of memory" if posts.bytes is not None else ""
        found.append(Figure(brief(posts.entries), "posts remembered now", memory))
    if report.estimate is not None:
        cost = report.estimate.ways[LEDGER]
        found.append(
            Figure(f"{cost.usd:,.2f} USD", "a month, estimated", "on Amazon ElastiCache Serverless")
        )
    return found


def _outages(report: Report) -> Figure:
    totals = report.periods.totals
    outages, unchecked = totals["outages"], totals["unchecked"]
    if not outages and not unchecked:
        return Figure("none", "outages", "every post was checked")
    note = f"{duration(totals['outage_seconds'])} in all, added up over the runs"
    if unchecked:
        note += f"; {quantity_of(unchecked, 'post')} unchecked"
    return Figure(brief(outages), "outage" if outages == 1 else "outages", note, is_bad=True)


def room(report: Report) -> str:
    """When the memory will be full, in a sentence; "" if that is not known."""
    future = None if report.state is None else report.state.forecast
    if future is None:
        return "The server has no limit of memory, or does not tell it."
    text = f"{size(future.room)} are free"
    if future.full_at == inf:
        return f"{text}: it never fills at this rate, since posts expire."
    if future.full_at is not None:
        return f"{text}: full about {date(future.full_at)} at this rate."
    return f"{text}."
