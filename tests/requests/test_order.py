"""The order of downloads is that of plain Scrapy, although some pages are claimed ahead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from bench.servers import ValkeyServer
from tests.support.crawls.requests import PLAIN, Runs
from tests.support.patience import wait_until
from tests.support.servers.web import Web, posts
from tests.support.spiders.scenarios import Lazy, Urgent


@pytest.fixture
def runs(valkey: ValkeyServer, tmp_path: Path) -> Iterator[Runs]:
    """Crawls of one test."""
    made = Runs(valkey.url, tmp_path)
    yield made
    made.close()


def order(runs: Runs, mode: str) -> list[str]:
    """The order of a lazy spider's requests, one at a time; the first page links to /3."""
    gates = {f"/{number}": Event() for number in (1, 2, 3, 4)}
    links = {"/1": ["/3"]}
    web = Web(
        {
            path: replace(posts(path, links=links.get(path, ())), until=gate)
            for path, gate in gates.items()
        }
    )
    run = runs.start(Lazy, mode, web, CONCURRENT_REQUESTS=1)
    for asked in (1, 2, 3, 4):
        wait_until(lambda asked=asked: web.served.total() == asked)
        page = list(web.served)[-1]
        if asked == 2:
            wait_until(lambda: run.posts["/1"])  # its link was sent before its post
        gates[page].set()
    return list(run.wait().served)


@pytest.mark.parametrize("mode", [PLAIN, "job", "stored"])
def test_a_lazy_start_does_not_run_ahead(runs: Runs, mode: str) -> None:
    """A lazy start() with 1, 2 and 4 yields 4 only after 3, which a page links to."""
    assert order(runs, mode) == ["/1", "/2", "/3", "/4"]


def overtaken(runs: Runs, mode: str, limit: int) -> int:
    """How many others are requested between the end of a page and the urgent page it links to.

    The site answers when the test says so: one page, the urgent link of which is scheduled then,
    and after that page by page as they were asked for.
    """
    gates = {f"/{number}": Event() for number in range(20)}
    pages = {
        path: replace(posts(path, links=[f"/urgent{path}"]), until=gate)
        for path, gate in gates.items()
    }
    web = Web({**pages, **{f"/urgent{path}": posts(f"urgent {path}") for path in pages}})
    run = runs.start(Urgent, mode, web, pages=len(pages), CONCURRENT_REQUESTS=limit)
    wait_until(lambda: web.served.total() == limit)
    leader = next(iter(web.served))
    gates[leader].set()
    wait_until(lambda: run.posts[leader])  # its link was sent before its post
    for asked in count(limit + 1):
        wait_until(lambda asked=asked: web.served.total() >= asked)
        if f"/urgent{leader}" in web.served:
            break
        gates[list(web.served)[asked - limit]].set()
    found = list(web.served).index(f"/urgent{leader}") - limit
    for gate in gates.values():
        gate.set()
    assert len(run.wait().posts) == 40
    return found


@pytest.mark.parametrize("limit", [1, 4])
def test_the_urgent_are_overtaken_by_no_more_than_in_plain_scrapy(runs: Runs, limit: int) -> None:
    """One page, which takes the free download before the urgent one is known: 1, and 1."""
    plain = overtaken(runs, PLAIN, limit)
    assert plain <= 1
    for mode in ("job", "stored"):
        assert overtaken(runs, mode, limit) <= plain
