"""What each chart of a report shows: its title, its words, its data, and the table of the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scrapy_valkey_dedup.commands.shared.estimates.costs import Estimate
from scrapy_valkey_dedup.commands.shared.reports.gathering import Report
from scrapy_valkey_dedup.commands.shared.reports.periods import Periods, date_of, dropped
from scrapy_valkey_dedup.commands.shared.reports.words import (
    date,
    duration,
    number,
    percent,
    quantity_of,
    room,
    size,
)
from scrapy_valkey_dedup.ledger.history import OTHERS

_SHOWN = 6
"""Spiders with a colour of their own."""
_NEW, _DROPPED = ("new",), ("duplicate", "in_flight")
_ALL_OTHERS = "all others"

Data = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    about: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=list)
    """Texts; the first of each row is its head."""
    has_chart: bool = True
    is_wide: bool = False
    html: str = ""


def sections(report: Report) -> tuple[list[Section], Data]:
    """The parts of the page in order, and the data of its charts, by the names of the parts."""
    found: list[tuple[Section, Data]] = []
    if not report.periods.is_empty:
        found += [
            _by_spider(report, "new", _NEW),
            _by_spider(report, "dropped", _DROPPED),
            _spiders(report),
        ]
    if report.state is not None:
        found += [_remembered(report), *_memory(report)]
    if not report.periods.is_empty:
        found += [_pages(report), _outages(report)]
    if report.estimate is not None:
        found.append(_costs(report, report.estimate))
    listed = [section for section, _ in found]
    return listed, {each.name: data for each, data in found if each.has_chart}


def called(spider: str) -> str:
    """What a spider is called on the page."""
    return "further spiders" if spider == OTHERS else spider


def _times(periods: Periods) -> Data:
    return {
        "unit": periods.unit,
        "starts": [each.start * 1000 for each in periods.listed],
        "length": periods.length * 1000,
        "lasts": True,
    }


def _by_spider(report: Report, name: str, counters: Sequence[str]) -> tuple[Section, Data]:
    periods = report.periods
    ranked = list(periods.by_spider)  # the same in each chart, so a spider has one colour
    own = ranked if len(ranked) <= _SHOWN + 1 else ranked[:_SHOWN]
    series = [(called(each), periods.series(counters, each)) for each in own]
    if rest := ranked[len(own) :]:
        columns = [periods.series(counters, each) for each in rest]
        series.append((_ALL_OTHERS, [sum(row) for row in zip(*columns, strict=True)]))
    total = sum(periods.series(counters))
    what = "new posts" if name == "new" else "duplicates"
    section = Section(
        name,
        f"{'New posts' if name == 'new' else 'Duplicates dropped'} {_each(periods)}, by spider",
        f"{quantity_of(total, what[:-1])} in all. "
        + (
            "New: no run had stored the post before."
            if name == "new"
            else "Dropped: the post was remembered, or another run was storing it."
        ),
        [periods.unit.capitalize(), "total", *(each for each, _ in series)],
        _rows(periods, [periods.series(counters), *(numbers for _, numbers in series)]),
    )
    return section, {
        "kind": "bars", **_times(periods), "noun": what,
        "series": [{"name": each, "values": numbers} for each, numbers in series],
    }  # fmt: skip


def _each(periods: Periods) -> str:
    return "per hour" if periods.unit == "hour" else "per day"


def _rows(periods: Periods, columns: Sequence[Sequence[int]]) -> list[list[str]]:
    """A row for each period, the newest first."""
    rows = [
        [date_of(period.start, periods.length), *(f"{column[at]:,}" for column in columns)]
        for at, period in enumerate(periods.listed)
    ]
    return rows[::-1]


def _spiders(report: Report) -> tuple[Section, Data]:
    rows = [
        [
            called(spider),
            f"{counted['runs']:,}",
            f"{counted['new']:,}",
            f"{dropped(counted):,}",
            percent(dropped(counted), dropped(counted) + counted["new"]),
            f"{counted['stored']:,}",
            f"{counted['not_stored']:,}",
            f"{counted['pages']:,}",
            f"{counted['pages_saved']:,}",
            duration(counted["seconds"]),
        ]
        for spider, counted in report.periods.by_spider.items()
    ]
    columns = (
        "Spider", "runs", "new posts", "duplicates", "duplicates, share", "stored", "not stored",
        "pages fetched", "not fetched", "at work",
    )  # fmt: skip
    about = "Not stored: a later pipeline dropped the post or failed, so it stays new."
    return Section("spiders", "Each spider", about, columns, rows, False, True), {}  # noqa: FBT003


def _remembered(report: Report) -> tuple[Section, Data]:
    state = report.state
    assert state is not None  # noqa: S101 (the caller has looked)
    posts = state.contents["posts"]
    about = f"{'' if posts.is_exact else 'About '}{posts.entries:,} now."
    if report.forecast:
        last = report.forecast[-1]
        about += (
            f" Expected {date(last.at)}: about {number(last.posts)}, if posts come as in "
            "this time; those that are met again are kept longer."
        )
    rows = [[_stamp(each.at), f"{each.posts:,}", ""] for each in report.remembered]
    rows += [[_stamp(each.at), "", f"{each.posts:,}"] for each in report.forecast[1:]]
    section = Section(
        "remembered", "Posts remembered", about, ["Time", "posts", "forecast"], rows[::-1]
    )
    return section, {"kind": "line", "noun": "posts", **_lines(report, 1)}


def _stamp(at: float) -> str:
    return date_of(at // 3600 * 3600, 3600)


def _lines(report: Report, each: float) -> Data:
    return {
        "known": [[round(one.at * 1000), one.posts * each] for one in report.remembered],
        "forecast": [[round(one.at * 1000), one.posts * each] for one in report.forecast],
    }


def _memory(report: Report) -> list[tuple[Section, Data]]:
    each, state = report.bytes_each, report.state
    if each is None or state is None:
        return []
    used = [node.memory for node in state.nodes if node.memory is not None]
    about = f"The posts, at {each:.1f} bytes each as measured now."
    if used:
        about += f" The whole server uses {size(sum(used))}. {room(report)}"
    rows = [[_stamp(one.at), size(one.posts * each), ""] for one in report.remembered]
    rows += [[_stamp(one.at), "", size(one.posts * each)] for one in report.forecast[1:]]
    section = Section(
        "memory", "Memory of the posts", about, ["Time", "memory", "forecast"], rows[::-1]
    )
    data = {"kind": "line", "noun": "bytes", **_lines(report, each)}
    if state.forecast is not None and report.remembered:
        data["limit"] = report.remembered[-1].posts * each + state.forecast.room
    return [(section, data)]


def _pages(report: Report) -> tuple[Section, Data]:
    periods, totals = report.periods, report.periods.totals
    fetched, saved = periods.series(("pages",)), periods.series(("pages_saved",))
    share = percent(totals["pages_saved"], totals["pages_saved"] + totals["pages"])
    about = f"{quantity_of(totals['pages_saved'], 'page')} not fetched: {share} of all."
    if not totals["pages_saved"]:
        about = "All were fetched: no spider uses VALKEY_DEDUP_REQUESTS, a job or a timeline."
    names = ("fetched", "not fetched")
    section = Section(
        "pages", f"Pages fetched and saved {_each(periods)}", about,
        [periods.unit.capitalize(), *names], _rows(periods, [fetched, saved]),
    )  # fmt: skip
    return section, {
        "kind": "bars", **_times(periods), "noun": "pages",
        "series": [
            {"name": name, "values": numbers}
            for name, numbers in zip(names, (fetched, saved), strict=True)
        ],
    }  # fmt: skip


def _outages(report: Report) -> tuple[Section, Data]:
    periods, totals = report.periods, report.periods.totals
    columns = [periods.series((each,)) for each in ("outages", "outage_seconds", "unchecked")]
    if not any(map(any, columns)):
        about = "None: Valkey answered every question, and every post was checked."
        return Section("outages", "Outages", about, has_chart=False, html=_FINE), {}
    about = (
        f"{duration(totals['outage_seconds'])} in all, added up over the runs; "
        f"{quantity_of(totals['unchecked'], 'post')} passed unchecked, and may be stored twice."
    )
    section = Section(
        "outages", f"Seconds of outage {_each(periods)}", about,
        [periods.unit.capitalize(), "outages", "seconds", "posts unchecked"],
        _rows(periods, columns),
    )  # fmt: skip
    return section, {
        "kind": "bars", **_times(periods), "noun": "seconds", "tone": "bad",
        "series": [{"name": "outage", "values": columns[1]}],
    }  # fmt: skip


_FINE = '<p class="fine"><span aria-hidden="true">✓</span> No outage in this time</p>'


def _costs(report: Report, found: Estimate) -> tuple[Section, Data]:
    prices = found.prices
    about = (
        f"About {found.ways['this ledger'].usd:,.2f} USD on Amazon ElastiCache Serverless. By "
        f"{report.basis}. {prices.usd_per_gb_hour:g} USD a GB and hour, at least "
        f"{prices.minimum_gb:g} GB; {prices.usd_per_million_ecpu:g} USD a million ECPU "
        f"({prices.region}, {prices.date})."
    )
    if all(way.gb <= prices.minimum_gb for way in found.ways.values()):
        about += " So few posts cost the minimum, whatever the way."
    rows = [
        [name, f"{way.usd_storage:,.2f}", f"{way.usd_ecpu:,.2f}", f"{way.usd:,.2f}"]
        for name, way in found.ways.items()
    ]
    section = Section(
        "cost", "Cost of a month, beside two simpler ways", about,
        ["Way", "storage, USD", "ECPU, USD", "USD"], rows, is_wide=True,
    )  # fmt: skip
    ways = [
        {"name": name, "storage": way.usd_storage, "ecpu": way.usd_ecpu}
        for name, way in found.ways.items()
    ]
    return section, {"kind": "costs", "ways": ways}
