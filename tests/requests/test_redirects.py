"""A page that redirects is done only with its target: the target may be a block page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer
from tests.support.crawls.requests import Run
from tests.support.crawls.timelines import (
    Readings,
    names,
    number,
    opened,
    page_of,
    pages_read,
    timeline,
)
from tests.support.servers.gated_web import GatedWeb
from tests.support.servers.web import Reply, Route, error, posts, redirect, refresh, robots
from tests.support.spiders.faults import Pages
from tests.support.spiders.timelines import Timelines

BLOCK_PAGES: dict[str, dict[str, Reply]] = {
    "silent": {"/block/silent": posts()},
    "links": {"/block/links": posts(links=["/help"])},
    "busy": {"/block/busy": error(429)},
    "broken": {"/block/broken": Reply(b"{", headers={"Content-Type": "text/plain"})},
    "twice": {"/block/twice": redirect("/block/silent")},
    "refresh": {"/block/refresh": refresh("/block/silent")},
    "loop": {"/block/loop": redirect("/block/loop")},
    "nameless": {"/block/nameless": posts({"text": "please log in"})},
    "dropped": {"/block/dropped": posts({"post_id": "login", "fate": "drop"})},
    "failed": {"/block/failed": posts({"post_id": "login", "fate": "refuse"})},
    "robots": {},
    "away": {},
}
"""What a site redirects its pages to for a while, by name."""


def to(block: str) -> Reply:
    """The redirect to a block page."""
    if block == "away":
        return redirect("{other}/block/away")
    return refresh("/block/refresh") if block == "refresh" else redirect(f"/block/{block}")


@pytest.fixture
def site(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[Readings]:
    """A site and crawls of it; at the end the ledger has no claim and no heartbeat."""
    yield from opened(valkey.url, namespace, tmp_path)


def crawl(site: Readings, mode: str, **changes: Any) -> Run:
    """A crawl without automatic retries; in mode "job" of the test's one job."""
    job = {"VALKEY_DEDUP_JOB": "monday"} if mode == "job" else {}
    return site.crawl(Pages, mode, **{"RETRY_ENABLED": False, **job, **changes})


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_pages_behind_a_block_page_are_fetched_when_it_is_gone(site: Readings, mode: str) -> None:
    """Seven of ten pages redirect to each kind of block page: run 2 fetches 7, and has all."""
    pages = {block: [f"/{block}/{page}" for page in range(10)] for block in BLOCK_PAGES}
    every = [path for listed in pages.values() for path in listed]
    site.show({"/": posts(links=every), "/robots.txt": robots("/block/robots"), "/help": posts()})
    for block, routes in BLOCK_PAGES.items():
        site.show(routes, {path: posts(path) for path in pages[block][:3]})
        site.show(dict.fromkeys(pages[block][3:], to(block)))
    crawl(site, mode, ROBOTSTXT_OBEY=True)
    found = {path: site.stored[path] for path in every if site.stored[path]}
    assert found == dict.fromkeys([p for listed in pages.values() for p in listed[:3]], 1)
    site.show({path: posts(path) for path in every})
    second = crawl(site, mode, ROBOTSTXT_OBEY=True)
    assert {path: site.stored[path] for path in every} == dict.fromkeys(every, 1)
    behind = [path for listed in pages.values() for path in listed[3:]]
    assert second.served - Counter({"/robots.txt": 1}) == dict.fromkeys(["/", *behind], 1)


def test_each_worker_requests_a_redirect_once(site: Readings) -> None:
    """Ten pages redirect to a list that is done: a later worker requests only the redirects."""
    moved = [f"/moved/{page}" for page in range(10)]
    site.show({"/": posts(links=moved), "/list": posts(links=["/a", "/b"])})
    site.show(dict.fromkeys(moved, redirect("/list", 301)))
    site.show({path: posts(path) for path in ("/a", "/b")})
    first, second = crawl(site, "job"), crawl(site, "job")
    assert first.served == dict.fromkeys(["/", *moved, "/list", "/a", "/b"], 1)
    assert second.served == dict.fromkeys(["/", *moved], 1)
    assert number(second, "requests/duplicate") == 1  # the list; then the filter has seen it


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_a_redirect_to_a_page_with_posts_is_done(site: Readings, mode: str) -> None:
    """Of ten pages that redirect to ten others, each with a post, none is fetched again."""
    moved = [f"/moved/{page}" for page in range(10)]
    site.show({"/": posts(links=moved)})
    for path in moved:
        site.show({path: redirect(f"/to{path}"), f"/to{path}": posts(path)})
    crawl(site, mode)
    assert crawl(site, mode).served == {"/": 1}
    assert site.stored == dict.fromkeys(moved, 1)


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_a_block_page_may_have_a_post(site: Readings, mode: str) -> None:
    """Pages that redirect at once to one page with a post are not done: run 2 stores all 10."""
    pages = [f"/{page}" for page in range(10)]
    web = site.web = GatedWeb({})
    site.show({"/": posts(links=pages), **dict.fromkeys(pages, redirect("/login"))})
    site.show({"/login": posts("login")})
    debug = {"DUPEFILTER_DEBUG": True, "LOG_LEVEL": "DEBUG", "CONCURRENT_REQUESTS": 10}
    job = {"VALKEY_DEDUP_JOB": "monday"} if mode == "job" else {}
    run = site.start(Pages, mode, **debug, **job)
    web.gates["/login"] = lambda: run.log.count("Filtered duplicate request") == 9
    run.wait()
    site.show({path: posts(path) for path in pages})
    crawl(site, mode)
    assert site.stored == dict.fromkeys([*pages, "login"], 1)


# -- timelines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["alone", "job", "stored"])
def test_timelines_behind_a_block_page_are_read_when_it_is_gone(site: Readings, mode: str) -> None:
    """The second pages of timelines redirect to a block page: run 2 stores 240 of 240 posts.

    The block page answers 429 for three of them, and shows an empty page for three others.
    """
    shown = {
        f"named-{block}-{account}": names(f"named-{block}-{account}", 40)
        for block in ("busy", "silent")
        for account in "abc"
    }
    job = {"VALKEY_DEDUP_JOB": "monday"} if mode == "job" else {}
    changes = {"timelines": [f"/{name}" for name in shown], "RETRY_ENABLED": False, **job}
    site.show({"/block/busy": error(429), "/block/silent": posts(name="block")})
    for name, listed in shown.items():
        pages = timeline(name, listed, 10)
        second = list(pages)[1]
        site.show(pages, {second: redirect(f"/block/{name.split('-')[1]}")})
    site.crawl(Timelines, mode, **changes)
    assert len(site.stored) == 60
    for name, listed in shown.items():
        site.show(timeline(name, listed, 10))
    run = site.crawl(Timelines, mode, **changes)
    assert pages_read(run) == dict.fromkeys(shown, 4)
    assert site.stored == Counter(post for listed in shown.values() for post in listed)


def test_a_timeline_may_redirect_throughout(site: Readings) -> None:
    """If every page redirects, so may the empty last one: the reading is complete."""
    pages: dict[str, Route] = {}
    for path, page in timeline("named", names("named", 30), 5).items():
        pages |= {path: redirect(f"/at{path}", 301), f"/at{path}": page}
    last = list(pages)[-1]
    end = f"{last}-end"
    pages[last] = posts(*page_of(pages[last])["posts"], name="named", older=end.removeprefix("/at"))
    pages |= {end.removeprefix("/at"): redirect(end, 301), end: posts(name="named")}
    site.show(pages)
    for read in (7, 1):
        run = site.crawl(Timelines, timelines=["/named"])
        assert pages_read(run) == {"named": read, "at/named": read}
