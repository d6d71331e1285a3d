"""A page whose callback requests it again, in whatever way, is not done before the retry is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer
from tests.support.crawls.requests import Run
from tests.support.crawls.timelines import Readings, names, opened, page_of, pages_read, timeline
from tests.support.servers.web import Asked, Reply, Route, error, posts, redirect
from tests.support.spiders.timelines import ByHand, Cursors

BUSY = Reply(b"busy", headers={"Content-Type": "text/plain"})
WAYS = ["new", "follow", "other", "meta", "replace", "itself", "options"]
"""How :class:`~tests.support.spiders.timelines.ByHand` requests a busy page again."""


@pytest.fixture
def site(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[Readings]:
    """A site and crawls of it; at the end the ledger has no claim and no heartbeat."""
    yield from opened(valkey.url, namespace, tmp_path)


def crawl(site: Readings, mode: str, **changes: Any) -> Run:
    """A crawl without automatic retries; in mode "job" it is a job of its own."""
    return site.crawl(ByHand, mode, **{"RETRY_ENABLED": False, "timelines": [], **changes})


def instead(pages: dict[str, Route], position: int, *replies: Reply) -> dict[str, Route]:
    """Shows something else instead of a page (0 is the newest), and then the page."""
    path = list(pages)[position]
    then = pages[path]
    assert isinstance(then, Reply)
    return pages | {path: [*replies, then]}


@pytest.mark.parametrize("mode", ["alone", "job", "stored"])
@pytest.mark.parametrize("position", [0, 1])
def test_a_retry_continues_its_reading(site: Readings, mode: str, position: int) -> None:
    """The first or second page was busy once, the fourth fails: run 2 stores all 50 of 50 posts.

    Where the fourth does not fail the reading is complete: run 2 reads one page.
    """
    kinds = {way: [f"named-{way}-breaks", f"named-{way}-well", f"plain-{way}"] for way in WAYS}
    for breaks, *others in kinds.values():
        for name in (breaks, *others):
            pages = timeline(name, names(name, 50), 10)
            pages = instead(pages, position, BUSY)
            site.show(instead(pages, 3, error(500)) if name == breaks else pages)
    every = [name for kind in kinds.values() for name in kind]
    first = crawl(site, mode, timelines=[f"/{name}" for name in every])
    for breaks, *others in kinds.values():
        found = [pages_read(first)[name] for name in (breaks, *others)]
        assert (breaks, found) == (breaks, [5, 6, 6])  # one of them twice
    second = crawl(site, mode, timelines=[f"/{name}" for name in every])
    assert site.stored == Counter(post for name in every for post in names(name, 50))
    for _, *others in kinds.values():
        assert [pages_read(second)[name] for name in others] == [1, 1]


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_a_page_is_done_with_its_retry(site: Readings, mode: str) -> None:
    """Five pages of each way; one was busy and then failed: run 2 stores all 5 posts.

    A page that was busy and then worked is done: run 2 does not fetch it.
    """
    ways = [*WAYS, "first", "post"]
    paths = {way: [f"/named-{way}-{number}" for number in range(5)] for way in ways}
    for way, listed in paths.items():
        for number, path in enumerate(listed):
            busy: list[Reply] = [BUSY, error(500)] if number == 3 else [BUSY] * (number == 1)
            if way == "first" and busy:
                busy[0] = redirect(f"/block-first-{number}")
                site.show({f"/block-first-{number}": BUSY})
            name = f"POST {path}" if way == "post" else path
            site.show({name: [*busy, posts(path)]})
    every = [path for listed in paths.values() for path in listed]
    pages = [f"POST {path}" if "post" in path else path for path in every]
    job = {"VALKEY_DEDUP_JOB": "a-job"} if mode == "job" else {}
    crawl(site, mode, pages=pages, **job)
    assert {way: sum(site.stored[path] for path in paths[way]) for way in ways} == dict.fromkeys(
        ways, 4
    )
    second = crawl(site, mode, pages=pages, **job)
    assert second.served == dict.fromkeys([path for path in pages if path.endswith("-3")], 1)
    assert site.stored == dict.fromkeys(every, 1)


@pytest.mark.parametrize("past_the_filter", [True, False])
@pytest.mark.parametrize("mode", ["alone", "job"])
def test_next_pages_may_differ_only_by_a_header(
    site: Readings,
    mode: str,
    past_the_filter: bool,  # noqa: FBT001 (a case)
) -> None:
    """Next pages with one URL, sent past the filter, are not retries: run 2 reads one page."""
    starts = ["/plain", "/named"]
    for start in starts:
        pages = timeline(start[1:], names(start[1:], 30), 5)
        site.show({start: by_cursor({path: page_of(page) for path, page in pages.items()})})
    for read in (6, 1):
        run = site.crawl(Cursors, mode, timelines=starts, past_the_filter=past_the_filter)
        assert pages_read(run) == {"plain": read, "named": read}
    assert set(site.stored.values()) == {1}
    assert len(site.stored) == 60


def by_cursor(pages: dict[str, object]) -> Route:
    """All pages of a timeline at the URL of the first; a header selects the page."""

    def reply(asked: Asked) -> Reply:
        return Reply(json.dumps(pages[asked.headers.get("x-cursor", asked.path)]).encode())

    return reply
