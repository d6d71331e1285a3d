"""The page of `scrapy dedup report` in a real browser: it is drawn, readable, and closed."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from bench.screenshots.chromium import BINARY, MISSING, Page, chromium
from bench.screenshots.weeks import fill
from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.history import COUNTERS, total
from scrapy_valkey_dedup.ledger.ledger import Ledger
from tests.support.ledgers import in_ledger, ledger_at
from tests.support.processes.dedup_command import dedup, project

pytestmark = pytest.mark.skipif(
    BINARY is None and "CHROMIUM_REQUIRED" not in os.environ, reason=MISSING
)

DAYS, SHOWN = 20, 14
HOSTILE = "</script><script>alert(1)//{{data}}"
BARS = ("new", "dropped", "pages", "outages")
A4 = 1009  # px of a page's height between its margins


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A page about a fleet of three weeks, and the sums of the ledger's history."""
    folder = tmp_path_factory.mktemp("report")
    with ValkeyServer("--maxmemory", "64mb") as server:

        async def add(ledger: Ledger) -> None:
            totals = [7 if each in ("new", "duplicate", "stored") else 1 for each in COUNTERS]
            await ledger.history.add(HOSTILE, totals, [0] * len(COUNTERS), time())

        async def sums() -> dict[str, int]:
            async with ledger_at(server.url) as ledger:
                days = [time() - back * 86400 for back in range(SHOWN)]
                return dict(total((await ledger.history.read_days(days)).values()))

        fill(server.url, DAYS)
        in_ledger(server.url, "posts", add, "hostile")
        here = project(folder, VALKEY_DEDUP_URL=server.url, VALKEY_DEDUP_NAMESPACE="posts")
        ended = dedup("report", "report.html", "--days", str(SHOWN), directory=here)
        assert ended.code == 0, ended.err
        counted = asyncio.run(sums())
    return folder / "report.html", counted


@pytest.fixture(scope="module")
def page(made: tuple[Path, dict[str, int]]) -> Iterator[Page]:
    """The page in a browser."""
    with chromium() as browser:
        shown = Page(browser)
        shown.show(1280)
        shown.open(made[0].as_uri())
        yield shown


def table_of(page: Page, name: str) -> list[list[str]]:
    """The rows of a chart's table, as text."""
    found: list[list[str]] = page.run(
        f"[...document.querySelectorAll('[aria-labelledby=t-{name}] tbody tr')]"
        ".map(row => [...row.children].map(cell => cell.textContent))"
    )
    return found


def number_of(text: str) -> int:
    """A number as a table has it."""
    return int(text.replace(",", ""))


def said(page: Page, name: str) -> str:
    """What a chart has read out last."""
    return str(page.run(f"document.querySelector('[aria-labelledby=t-{name}] .said').textContent"))


def test_charts_show_the_numbers_of_the_ledger(
    page: Page, made: tuple[Path, dict[str, int]]
) -> None:
    """Each bar of a number is drawn; charts, tables and the sentence have the history's sums."""
    _, counted = made
    data: dict[str, Any] = page.run("JSON.parse(document.getElementById('data').textContent)")
    sums = {
        "new": counted["new"],
        "dropped": counted["duplicate"] + counted["in_flight"],
        "pages": counted["pages"] + counted["pages_saved"],
        "outages": counted["outage_seconds"],
    }
    for name in BARS:
        series = [each["values"] for each in data[name]["series"]]
        assert sum(map(sum, series)) == sums[name] > 0
        bars = page.run(f"document.querySelectorAll('[data-chart={name}] .bar rect').length")
        assert sum(1 for values in series for value in values if value) <= bars
        assert bars <= sum(map(len, series))
        assert len(table_of(page, name)) == SHOWN
    for name in ("new", "dropped"):
        assert sum(number_of(row[1]) for row in table_of(page, name)) == sums[name]
    assert page.run("document.querySelectorAll('[data-chart=cost] .bar rect').length") == 6
    for name in ("remembered", "memory"):
        assert page.run(f"document.querySelectorAll('[data-chart={name}] .line path').length") == 2
    stored, posts = page.run("document.querySelector('h1').textContent"), data["remembered"]
    assert f"{counted['stored']:,} posts" in stored
    assert "10 spiders" in stored
    known = [number_of(row[1]) for row in table_of(page, "remembered") if row[1]]
    assert [value for _, value in posts["known"]] == known[::-1]
    assert counted["stored"] < known[0]


def test_names_are_text(page: Page) -> None:
    """A spider whose name is a script is shown as it is called, and nothing of it is run."""
    assert HOSTILE in [row[0] for row in table_of(page, "spiders")]
    assert not [each for each in page.told if each["method"] == "Page.javascriptDialogOpening"]
    assert page.run("document.scripts.length") == 3


def test_keys_read_the_values_out(page: Page) -> None:
    """Tab reaches each chart; the arrow keys tell its values, which are those of the table."""
    page.run("document.querySelector('[data-chart=dropped]').focus()")
    page.press("End", "ArrowLeft")
    row = table_of(page, "dropped")[1]
    day = re.match(r"\d+ \w{3}", row[0])
    assert day
    assert re.match(rf"\w{{3}} {day[0]}", said(page, "dropped"))
    assert said(page, "dropped").endswith(f"total {row[1]} duplicates")
    assert "mastodon-news" in said(page, "dropped")
    page.press("Home", "ArrowLeft")
    assert said(page, "dropped").endswith(f"total {table_of(page, 'dropped')[-1][1]} duplicates")
    tip = "document.querySelector('[data-chart=dropped] .tip')"
    assert page.run(f"!{tip}.hidden && {tip}.textContent").startswith(
        said(page, "dropped").partition(":")[0]
    )
    page.press("Escape")
    assert page.run(f"{tip}.hidden")
    reached = []
    for _ in range(30):
        page.press("Tab")
        reached.append(page.run("document.activeElement.dataset.chart || ''"))
    assert {"pages", "outages", "cost", "remembered", "memory"} <= set(reached)


def test_the_pointer_shows_the_same(page: Page) -> None:
    """Over a bar the box beside it has the numbers of that day."""
    box = page.run(
        "(chart => { chart.scrollIntoView({block: 'center'});"
        "const {x, y, width, height} = chart.getBoundingClientRect();"
        "return [x, y, width, height]; })(document.querySelector('[data-chart=new] svg'))"
    )
    page.point(box[0] + box[2] - 20, box[1] + box[3] / 2)
    text = page.run("document.querySelector('[data-chart=new] .tip').textContent")
    newest = table_of(page, "new")[0]
    assert f"{newest[1]} new posts" in text
    assert "so far" in text


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_and_is_readable(page: Page, *, dark: bool) -> None:
    """From 320 to 1600 pixels nothing is wider than the window; contrasts are 4.5 at least."""
    for width in (320, 390, 768, 1280, 1600):
        page.show(width, dark=dark)
        page.settle()
        assert page.run("document.documentElement.scrollWidth") == width
        wide = page.run(
            "[...document.querySelectorAll('.chart svg text')].filter(text => {"
            "const box = text.getBoundingClientRect(), card = text.closest('.card')"
            ".getBoundingClientRect();"
            "return box.width && (box.left < card.left || box.right > card.right);"
            "}).map(text => text.textContent)"
        )
        assert wide == [], width
    contrasts = page.run(f"({CONTRASTS})()")
    assert min(contrasts.values()) >= 4.5, contrasts
    page.show(1280)


CONTRASTS = """() => {
  const light = (text) => {
    const part = text.match(/[\\d.]+/g).slice(0, 3).map(each => each / 255)
      .map(each => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!colour.startsWith("rgba(0, 0, 0, 0")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  for (const each of document.querySelectorAll("h1, h1 b, .when, h2, .about, .note, .name, th, td, summary, .legend span, footer, .chart svg")) {
    const [one, other] = [light(getComputedStyle(each).color), light(ground(each))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05), name = each.className.baseVal ?? (each.className || each.localName);
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
}"""  # noqa: E501


def test_it_prints(page: Page) -> None:
    """On A4 no part is wider than a page or longer, in black on white; charts are no images."""
    page.show(680, dark=True)
    page.ask("Emulation.setEmulatedMedia", media="print", features=[])
    page.run("dispatchEvent(new Event('beforeprint'))")
    page.settle()
    parts = page.run(
        "[...document.querySelectorAll('.card, .figures, header')].map(part =>"
        "[part.scrollWidth - part.clientWidth, part.getBoundingClientRect().height])"
    )
    assert len(parts) > 8
    assert max(over for over, _ in parts) <= 0
    assert max(height for _, height in parts) < A4
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.run("dispatchEvent(new Event('afterprint'))")
    page.ask("Emulation.setEmulatedMedia", media="", features=[])
    page.show(1280)
    printed = page.pdf()
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 5
    assert b"/Image" not in re.sub(rb"/ProcSet\s*\[[^\]]*\]", b"", printed)


def test_it_needs_no_network(page: Page) -> None:
    """Only the file itself was read, nothing was complained of; its policy allows no request."""
    asked = [
        each["params"]["request"]["url"]
        for each in page.told
        if each["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
    assert len([url for url in asked if url.startswith("file://")]) == 1
    faults = ("Runtime.exceptionThrown", "Log.entryAdded")
    assert [each for each in page.told if each["method"] in faults] == []
    blocked = "fetch('http://127.0.0.1:9/').then(() => 'sent', error => String(error))"
    assert "Failed to fetch" in page.run(blocked)
    page.settle()
    entries = [each for each in page.told if each["method"] == "Log.entryAdded"]
    assert "Content Security Policy" in json.dumps(entries)


def test_without_scripts_the_tables_are_there(
    page: Page, made: tuple[Path, dict[str, int]]
) -> None:
    """They stand open, with all numbers."""
    page.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(made[0].as_uri(), scripts=False)
        heights = page.run(
            "[...document.querySelectorAll('table')].map(table => table.clientHeight)"
        )
        assert len(heights) == 8
        assert min(heights) > 50
    finally:
        page.ask("Emulation.setScriptExecutionDisabled", value=False)
