"""An empty page says nothing about the pages below it: they are read, up to a limit."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer
from tests.support.crawls.requests import Run
from tests.support.crawls.timelines import (
    Readings,
    changed,
    names,
    number,
    opened,
    pages_read,
    timeline,
)
from tests.support.patience import wait_until
from tests.support.servers.web import Asked, Reply, Route, posts
from tests.support.spiders.timelines import Timelines

KINDS = ["plain", "named"]
STARTS = [f"/{kind}" for kind in KINDS]


@pytest.fixture
def site(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[Readings]:
    """A site and crawls of it; at the end the ledger has no claim and no heartbeat."""
    yield from opened(valkey.url, namespace, tmp_path)


def read(site: Readings, **changes: Any) -> Run:
    """Reads the timelines "plain" and "named" to their ends."""
    return site.crawl(Timelines, **{"timelines": STARTS, **changes})


def both(read: int) -> dict[str, int]:
    """The number of pages that were read of the plain timeline, and of the named one."""
    return dict.fromkeys(KINDS, read)


def emptied(pages: dict[str, Route], *positions: int) -> dict[str, Route]:
    """Some of the pages (0 is the newest) have only a link to older ones."""
    paths = list(pages)
    return pages | {paths[place]: changed(pages[paths[place]], posts=[]) for place in positions}


def show(site: Readings, count: int, *positions: int) -> None:
    """Shows both timelines, with so many pages of one post each, some of them empty."""
    for kind in KINDS:
        site.show(emptied(timeline(kind, names(kind, count), 1), *positions))


def stored(site: Readings, kind: str) -> int:
    """How many posts of a timeline are stored."""
    assert set(site.stored.values()) <= {1}
    return sum(post.startswith(kind) for post in site.stored)


@pytest.mark.parametrize("mode", ["alone", "job"])
def test_an_empty_page_does_not_end_a_timeline(site: Readings, mode: str) -> None:
    """A timeline whose second page is empty: all 30 posts are stored, and 35 when 5 are new."""
    listed = {kind: names(kind, 30) for kind in KINDS}
    for kind in KINDS:
        ids = listed[kind]
        cut = [ids[:10], ids[10:10], ids[10:20], ids[20:]]
        site.show(numbered(kind, cut))
    first = read(site, mode=mode)
    assert pages_read(first) == both(4)
    assert [stored(site, kind) for kind in KINDS] == [30, 30]
    for kind in KINDS:
        ids = [f"{kind}-new-{post}" for post in range(5)] + listed[kind]
        site.show(numbered(kind, [ids[:10], ids[10:15], ids[15:25], ids[25:]]))
    read(site, mode=mode)
    assert [stored(site, kind) for kind in KINDS] == [35, 35]


def numbered(kind: str, cut: list[list[str]]) -> dict[str, Route]:
    """Pages by number, whatever is on them."""
    pages: dict[str, Route] = {}
    for place, shown in enumerate(cut):
        more = {"older": f"/{kind}?page={place + 1}"} if place + 1 < len(cut) else {}
        pages[f"/{kind}?page={place}" if place else f"/{kind}"] = posts(*shown, name=kind, **more)
    return pages


def test_a_reading_that_stops_at_the_limit_is_not_complete(site: Readings) -> None:
    """After EMPTY_PAGES empty pages no next page is sent; the next reading reads them again.

    One line names the setting, and the summary counts what was left out.
    """
    show(site, 12, 2, 3, 4, 5)
    for _ in range(2):
        run = read(site, VALKEY_DEDUP_EMPTY_PAGES=3)
        assert pages_read(run)["named"] == 5
        assert run.log.count("VALKEY_DEDUP_EMPTY_PAGES = 3: so many pages in a row") == 1
    assert stored(site, "named") == 2
    assert number(site.crawls[0], "requests/after_empty") == 2
    assert "2 left out after empty pages" in site.crawls[0].log.splitlines()[-1]
    run = read(site, VALKEY_DEDUP_EMPTY_PAGES=5)
    assert pages_read(run)["named"] == 12
    assert "VALKEY_DEDUP_EMPTY_PAGES" not in run.log
    assert stored(site, "named") == 8
    assert pages_read(read(site))["named"] == 1


def test_any_post_resets_the_count(site: Readings) -> None:
    """With a limit of 3, a timeline with two of three pages empty is read to its end."""
    show(site, 12, 1, 2, 4, 5, 7, 8, 10, 11)
    run = read(site, VALKEY_DEDUP_EMPTY_PAGES=3)
    assert pages_read(run) == both(12)
    assert pages_read(read(site)) == both(1)


def test_the_limit_does_not_apply_to_the_last_page(site: Readings) -> None:
    """A timeline whose last three pages are empty, the last without a next, is read completely."""
    show(site, 6, 3, 4, 5)
    run = read(site, VALKEY_DEDUP_EMPTY_PAGES=3)
    assert pages_read(run) == both(6)
    assert "VALKEY_DEDUP_EMPTY_PAGES" not in run.log
    assert pages_read(read(site)) == both(1)


def test_without_a_limit_every_page_is_read(site: Readings) -> None:
    """With None, twenty empty pages are read, and the posts below them are stored."""
    show(site, 22, *range(1, 21))
    run = read(site, VALKEY_DEDUP_EMPTY_PAGES=None)
    assert pages_read(run) == both(22)
    assert site.stored == Counter([*(f"{kind}-21" for kind in KINDS), *(f"{k}-0" for k in KINDS)])


# -- a cursor without an end -----------------------------------------------------------------------


def endless(site: Readings, count: int, delay: float = 0) -> None:
    """Timelines of so many pages, followed by empty pages that never end."""
    for kind in KINDS:
        pages = timeline(kind, names(kind, count), 1)
        last = list(pages)[-1]
        site.show(pages, {last: changed(pages[last], older=f"/{kind}?void=0")})
        site.show({f"/{kind}?void={place}": void(delay) for place in range(100)})


def void(delay: float) -> Route:
    """A page that has only a link to the next such page."""

    def reply(asked: Asked) -> Reply:
        start, _, place = asked.path.rpartition("=")
        name = start[1:].partition("?")[0]
        return posts(name=name, older=f"{start}={int(place) + 1}", delay=delay)

    return reply


def test_a_cursor_without_an_end_ends_at_the_limit(site: Readings) -> None:
    """After three pages of posts, ten empty ones are read, and the reading is not complete."""
    endless(site, 3)
    for pages in (both(13), {"plain": 1, "named": 13}):
        run = read(site)
        assert pages_read(run) == pages
        assert "VALKEY_DEDUP_EMPTY_PAGES = 10: so many pages in a row had nothing" in run.log


def test_with_zero_an_empty_page_is_the_end(site: Readings) -> None:
    """With 0, the first empty page ends a timeline; the reading is complete, without a warning."""
    endless(site, 3)
    for pages in (4, 1):
        run = read(site, VALKEY_DEDUP_EMPTY_PAGES=0)
        assert pages_read(run) == both(pages)
        assert "VALKEY_DEDUP_EMPTY_PAGES" not in run.log


def test_a_resumed_reading_continues_the_count(site: Readings, tmp_path: Path) -> None:
    """Stopped among empty pages and resumed from its JOBDIR, it ends at the same limit."""
    endless(site, 1, delay=0.05)
    changes = {"JOBDIR": str(tmp_path / "job"), "VALKEY_DEDUP_EMPTY_PAGES": 30}
    first = site.start(Timelines, timelines=STARTS, **changes)
    wait_until(lambda: site.web.served.total() >= 10)
    first.signal(signal.SIGINT)
    first.wait()
    assert site.web.served.total() < 40
    read(site, **{**changes, "timelines": []})
    assert {path: count for path, count in site.web.served.items() if "void" in path} == {
        f"/{kind}?void={place}": 1 for kind in KINDS for place in range(30)
    }
