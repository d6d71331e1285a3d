"""The charts of what the ledger holds, and of what that costs."""

from __future__ import annotations

from scrapy_valkey_dedup.commands.shared.estimates.costs import Estimate
from scrapy_valkey_dedup.commands.shared.reports.gathering import Report
from scrapy_valkey_dedup.commands.shared.reports.periods import date_of
from scrapy_valkey_dedup.commands.shared.reports.section import Data, Section
from scrapy_valkey_dedup.commands.shared.reports.words import date, number, room, size


def remembered(report: Report) -> tuple[Section, Data]:
    """How many posts are remembered over time; the state must be known."""
    state = report.state
    assert state is not None  # noqa: S101 (the caller has looked)
    posts = state.contents["posts"]
    about = f"{posts.entries:,} now." if posts.is_exact else f"About {number(posts.entries)} now."
    if report.forecast:
        last = report.forecast[-1]
        about += (
            f" Expected {date(last.at)}: about {number(last.posts)}, if posts come as in "
            "this time; those that are met again are kept longer."
        )
    rows = [[_stamp(each.at), f"{each.posts:,}", ""] for each in report.remembered]
    rows += [[_stamp(each.at), "", f"{each.posts:,}"] for each in report.forecast[1:]]
    section = Section(
        "remembered", "Posts remembered", about, ["Time", "posts", "forecast"], rows[::-1],
        has_chart=_is_line(report),
    )  # fmt: skip
    return section, {"kind": "line", "noun": "posts", **_lines(report, 1)}


def _stamp(at: float) -> str:
    return date_of(at // 3600 * 3600, 3600)


def _is_line(report: Report) -> bool:
    """Whether there is more than a point to draw."""
    return len(report.remembered) + len(report.forecast) > 1


def _lines(report: Report, each: float) -> Data:
    return {
        "known": [[round(one.at * 1000), one.posts * each] for one in report.remembered],
        "forecast": [[round(one.at * 1000), one.posts * each] for one in report.forecast],
    }


def memory(report: Report) -> list[tuple[Section, Data]]:
    """Their memory over time; nothing if the server does not tell it."""
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
        "memory", "Memory of the posts", about, ["Time", "memory", "forecast"], rows[::-1],
        has_chart=_is_line(report),
    )  # fmt: skip
    data = {"kind": "line", "noun": "bytes", **_lines(report, each)}
    if state.forecast is not None and report.remembered:
        data["limit"] = report.remembered[-1].posts * each + state.forecast.room
    return [(section, data)]


def costs(report: Report, found: Estimate) -> tuple[Section, Data]:
    """What a month costs, beside other ways to remember posts."""
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
