"""The parts of a report in order, and the charts of what the runs have counted."""

from __future__ import annotations

from collections.abc import Sequence

from scrapy_valkey_dedup.commands.shared.reports.gathering import Report
from scrapy_valkey_dedup.commands.shared.reports.ledger_charts import costs, memory, remembered
from scrapy_valkey_dedup.commands.shared.reports.periods import Periods, date_of, dropped
from scrapy_valkey_dedup.commands.shared.reports.section import Data, Section
from scrapy_valkey_dedup.commands.shared.reports.words import duration, percent, quantity_of
from scrapy_valkey_dedup.ledger.history import OTHERS

_SHOWN = 6
"""Spiders with a colour of their own."""
_LISTED = 100
"""Spiders with a row of their own: names may have a date in them, and there are 400 days."""
_NEW, _DROPPED = ("new",), ("duplicate", "in_flight")
_ALL_OTHERS = "all others"


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
        found += [remembered(report), *memory(report)]
    if not report.periods.is_empty:
        totals = report.periods.totals
        if totals["pages"] or totals["pages_saved"]:
            found.append(_pages(report))
        found.append(_outages(report))
    if report.estimate is not None:
        found.append(costs(report, report.estimate))
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
    few = len(ranked) <= _SHOWN + 1 and OTHERS not in ranked
    own = ranked if few else [each for each in ranked if each != OTHERS][:_SHOWN]
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
        for spider, counted in report.periods.most_active(_LISTED).items()
    ]
    columns = (
        "Spider", "runs", "new posts", "duplicates", "duplicates, share", "stored", "not stored",
        "pages fetched", "not fetched", "at work",
    )  # fmt: skip
    about = "Not stored: a later pipeline dropped the post or failed, so it stays new."
    return Section("spiders", "Each spider", about, columns, rows, False, True), {}  # noqa: FBT003


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
