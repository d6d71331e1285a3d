"""Which table goes where: the blocks of docs/benchmarks.md and of the README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.publish import about, tables
from bench.publish.blocks import filled, names, table
from bench.publish.words import number, ratio
from bench.suite.environments import ROOT
from bench.suite.measures import crawls, pages
from bench.suite.results import OF_PLAIN, Results
from bench.suite.targets import judge

PAGES = (ROOT / "docs" / "benchmarks.md", ROOT / "README.md")
OF_PLAIN_SCRAPY, OF_LOOPBACK, BYTES = "of plain Scrapy", "of that on loopback", "bytes a post"
SPEED = {
    "new posts a second, of plain Scrapy": (
        "new posts a second, each claimed and confirmed", OF_PLAIN_SCRAPY,
    ),
    "new posts a second at the worst distance, of those on loopback": (
        "the same, Valkey up to 20 ms away", OF_LOOPBACK,
    ),
    "known posts a second, of plain Scrapy": (
        "known posts a second: the usual second run", OF_PLAIN_SCRAPY,
    ),
    "posts a second from HTML, five selectors each, of plain Scrapy": (
        "new posts a second that are parsed from HTML", OF_PLAIN_SCRAPY,
    ),
    "bytes a post from a million on, 1 to 3 generations": (
        "Valkey's memory, from a million posts on", f"{BYTES} at most",
    ),
}  # fmt: skip
"""README's figures: the names of their targets, what README calls them, and their units."""


def speed(results: Results) -> str:
    """The figures of README."""
    by_name = {verdict.target.what: verdict for verdict in judge(results)}
    rows = []
    for name, (text, unit) in SPEED.items():
        value = by_name[name].value
        shown = number(value) if unit.startswith(BYTES) else ratio(value)
        rows.append([text, f"{shown} {unit}"])
    return table(["a crawl", "with the plugin"], rows)


CONTENTS: dict[str, Callable[[Results], str]] = {
    "targets": tables.targets,
    "losses": tables.losses,
    "losses-notes": about.notes("lost"),
    "new": tables.crawl("crawls", crawls.NEW),
    "known": tables.crawl("crawls", crawls.KNOWN),
    "html": tables.crawl("html", crawls.HTML),
    "crawls-notes": about.notes("crawls", "html", "far"),
    "far": tables.curve("far", OF_PLAIN, crawls.NEW, ratio),
    "stall-p99": tables.curve("far", crawls.STALL_P99, crawls.NEW, number),
    "stall-longest": tables.curve("far", crawls.STALL_MAX, crawls.NEW, number),
    "pages": tables.curve("pages", OF_PLAIN, "new", ratio),
    "pages-stall": tables.curve("pages", pages.STALL, "new", number),
    "fleets": tables.fleet,
    "sizes": tables.sizes,
    "server-time": tables.server_time,
    "cores": tables.server_cores,
    "growth": tables.process_memory,
    "costs": tables.money,
    "costs-notes": about.notes("costs"),
    "peers": about.peers,
    "peers-notes": about.notes("peers"),
    "profile": about.shares,
    "machine": about.machine,
    "provenance": about.provenance,
    "speed": speed,
}


def written(path: Path, results: Results) -> str:
    """A page as it should be."""
    page = path.read_text("utf-8")
    contents = {name: CONTENTS[name](results) for name in names(page)}
    return filled(page, contents)
