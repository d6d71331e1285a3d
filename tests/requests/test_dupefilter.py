"""The filter does what Scrapy's own filter does, and refuses to run without its middleware."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scrapy import Request, Spider
from scrapy.core.scheduler import Scheduler
from scrapy.crawler import Crawler
from scrapy.dupefilters import RFPDupeFilter
from scrapy.settings import Settings
from scrapy.utils.test import get_crawler

from bench.servers import ValkeyServer
from scrapy_valkey_dedup import Addon, DupeFilter, RequestDedupMiddleware
from tests.conftest import SCRAPY_VERSION
from tests.support.crawls.requests import MODES, PLAIN, Run, Runs
from tests.support.spiders import scenarios
from tests.support.spiders.filters import FILTERS, OneObject

ONE, TWO = "http://example.com/1", "http://example.com/2"
OURS = "scrapy_valkey_dedup.DupeFilter"
MIDDLEWARE = {"scrapy_valkey_dedup.RequestDedupMiddleware": 10}
ROLES = {"DOWNLOADER_MIDDLEWARES", "SPIDER_MIDDLEWARES"}


class Named(DupeFilter):
    """A user's subclass of the plugin's filter, which notes how it was built."""

    built = "not at all"

    @classmethod
    def from_crawler(cls, crawler):
        made = super().from_crawler(crawler)
        made.built = "by from_crawler"
        return made


class WithoutCase:
    """A fingerprinter that ignores the case of URLs."""

    def fingerprint(self, request):
        return hashlib.sha1(request.url.lower().encode()).digest()


class Crawling(Spider):
    """A crawler that pretends to crawl."""

    name = "crawling"


def crawler_with(**changes: Any) -> Crawler:
    """A crawler with these settings, which does not crawl."""
    return get_crawler(Crawling, {"DUPEFILTER_CLASS": OURS, **changes})


def opened(crawler: Crawler) -> RFPDupeFilter:
    """The filter as the scheduler builds and opens it."""
    dupefilter = Scheduler.from_crawler(crawler).df
    dupefilter.open()
    return dupefilter


# -- what Scrapy's own tests expect of a filter ----------------------------------------------------


@pytest.mark.parametrize("debug", [True, False])
def test_the_scheduler_builds_it(*, debug: bool) -> None:
    """It is built by from_crawler, with DUPEFILTER_DEBUG; so is a subclass."""
    assert type(opened(crawler_with())) is DupeFilter
    crawler = crawler_with(DUPEFILTER_CLASS=Named, DUPEFILTER_DEBUG=debug)
    dupefilter = opened(crawler)
    assert (dupefilter.debug, dupefilter.built) == (debug, "by from_crawler")
    assert dupefilter.fingerprinter is crawler.request_fingerprinter


def test_a_request_is_seen_once() -> None:
    """A request is a duplicate from the second time on, even as another object."""
    dupefilter = opened(crawler_with())
    assert not dupefilter.request_seen(Request(ONE))
    assert dupefilter.request_seen(Request(ONE))
    assert not dupefilter.request_seen(Request(TWO))
    assert dupefilter.request_seen(Request(TWO + "#fragment"))
    assert not dupefilter.request_seen(Request(TWO, method="POST"))
    assert not dupefilter.request_seen(Request(TWO, method="POST", body=b"1"))
    dupefilter.close("finished")


def test_it_can_be_built_without_a_crawler() -> None:
    """Like Scrapy's own filter, it can be built, and finds duplicates, without a crawler."""
    dupefilter = DupeFilter()
    dupefilter.open()
    assert [dupefilter.request_seen(Request(ONE)) for _ in range(3)] == [False, True, True]
    dupefilter.close("finished")


def test_what_was_seen_is_seen_after_reopening(tmp_path: Path) -> None:
    """With a JOBDIR it knows what an earlier run has seen."""
    crawler = crawler_with(JOBDIR=str(tmp_path))
    first = opened(crawler)
    assert not first.request_seen(Request(ONE))
    assert first.request_seen(Request(ONE))
    first.close("finished")
    second = opened(crawler_with(JOBDIR=str(tmp_path)))
    assert second is not first
    assert second.request_seen(Request(ONE))
    assert not second.request_seen(Request(TWO))
    assert second.request_seen(Request(TWO))
    second.close("finished")


def test_the_file_is_that_of_scrapy(tmp_path: Path) -> None:
    """Each can continue the JOBDIR of the other: the file has the same bytes."""
    written = []
    for name in (OURS, "scrapy.dupefilters.RFPDupeFilter"):
        directory = tmp_path / name
        dupefilter = opened(crawler_with(DUPEFILTER_CLASS=name, JOBDIR=str(directory)))
        for url in (ONE, TWO, ONE):
            dupefilter.request_seen(Request(url))
        dupefilter.close("finished")
        written.append((directory / "requests.seen").read_bytes())
    assert written[0] == written[1]
    taken_over = opened(crawler_with(JOBDIR=str(tmp_path / "scrapy.dupefilters.RFPDupeFilter")))
    assert taken_over.request_seen(Request(TWO))
    taken_over.close("finished")


def test_what_was_seen_is_in_the_file_when_the_process_dies(tmp_path: Path) -> None:
    """As with Scrapy's own filter, only a buffer is lost if the filter is never closed."""
    dupefilter = opened(crawler_with(JOBDIR=str(tmp_path)))
    plain = RFPDupeFilter(str(tmp_path / mkdtemp(dir=tmp_path)))
    for number in range(1000):
        request = Request(f"http://example.com/{number}")
        assert dupefilter.request_seen(request) == plain.request_seen(request)
    sizes = [Path(made.file.name).stat().st_size for made in (dupefilter, plain)]
    assert sizes[0] == sizes[1]
    dupefilter.close("finished")
    plain.close("finished")


def test_the_users_fingerprinter_decides() -> None:
    """REQUEST_FINGERPRINTER_CLASS decides which requests are the same."""
    lower, upper = Request("http://example.com/index"), Request("http://example.com/INDEX")
    plain = opened(crawler_with())
    assert [plain.request_seen(request) for request in (lower, upper)] == [False, False]
    other = opened(crawler_with(REQUEST_FINGERPRINTER_CLASS=WithoutCase))
    assert [other.request_seen(request) for request in (lower, upper)] == [False, True]


def logged(caplog: pytest.LogCaptureFixture, crawler: Crawler) -> list[tuple[str, int, str]]:
    """The log of two duplicates, the second with a referrer."""
    spider = Crawling.from_crawler(crawler)
    dupefilter = opened(crawler)
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        dupefilter.log(Request(ONE), spider)
        dupefilter.log(Request(ONE, headers={"Referer": TWO}), spider)
    assert crawler.stats.get_value("dupefilter/filtered") == 2
    dupefilter.close("finished")
    return list(caplog.record_tuples)


@pytest.mark.parametrize("made", [OURS, Named])
def test_the_first_duplicate_is_logged(caplog: pytest.LogCaptureFixture, made: Any) -> None:
    """The first duplicate is logged, with how to see them all; each one is counted."""
    text = (
        f"Filtered duplicate request: <GET {ONE}> - no more duplicates will be shown "
        "(see DUPEFILTER_DEBUG to show all duplicates)"
    )
    assert logged(caplog, crawler_with(DUPEFILTER_CLASS=made)) == [
        ("scrapy.dupefilters", logging.DEBUG, text)
    ]


@pytest.mark.parametrize("made", [OURS, Named])
def test_each_duplicate_is_logged_for_debugging(
    caplog: pytest.LogCaptureFixture, made: Any
) -> None:
    """With DUPEFILTER_DEBUG each duplicate is logged, with its referrer."""
    crawler = crawler_with(DUPEFILTER_CLASS=made, DUPEFILTER_DEBUG=True)
    assert logged(caplog, crawler) == [
        (
            "scrapy.dupefilters",
            logging.DEBUG,
            f"Filtered duplicate request: <GET {ONE}> (referer: {referrer})",
        )
        for referrer in ("None", TWO)
    ]


_urls = st.builds(
    "http://example.com/{}{}{}".format,
    st.sampled_from(["a", "b", "c", "A"]),
    st.sampled_from(["", "?x=1&y=2", "?y=2&x=1", "?x=1"]),
    st.sampled_from(["", "#here"]),
)
_requests = st.builds(
    Request, _urls, method=st.sampled_from(["GET", "POST"]), body=st.sampled_from(["", "1"])
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), _requests), max_size=40))
def test_it_decides_as_scrapys_own(steps: list[Request | None]) -> None:
    """For any requests, with any reopenings between them (None), both decide the same."""
    directory = Path(mkdtemp())
    kinds: list[Callable[..., RFPDupeFilter]] = [DupeFilter, RFPDupeFilter]
    try:
        found = []
        for number, kind in enumerate(kinds):
            path = directory / str(number)
            path.mkdir()
            dupefilter, said = kind(str(path)), []
            for step in steps:
                if step is None:
                    dupefilter.close("finished")
                    dupefilter = kind(str(path))
                else:
                    said.append(dupefilter.request_seen(step))
            dupefilter.close("finished")
            found.append(said)
        assert found[0] == found[1]
    finally:
        shutil.rmtree(directory)


# -- with its middleware, and without --------------------------------------------------------------


@pytest.fixture
def runs(valkey: ValkeyServer, tmp_path: Path) -> Iterator[Runs]:
    """Crawls of one test."""
    made = Runs(valkey.url, tmp_path / "runs")
    yield made
    made.close()


def refused(run: Run) -> str:
    """The log of a crawl that refused to start."""
    run.wait(fails=True)
    assert run.served == {}
    assert re.search(r"\d+ faults? in the settings", run.log)
    return run.log


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("placed", [set(), {"DOWNLOADER_MIDDLEWARES"}, {"SPIDER_MIDDLEWARES"}])
def test_it_refuses_to_run_without_its_middleware(runs: Runs, mode: str, placed: set[str]) -> None:
    """Enabled by hand without the middleware, the crawl does not start, and says what to set."""
    by_hand = {"ADDONS": {}, "DUPEFILTER_CLASS": OURS, **dict.fromkeys(placed, MIDDLEWARE)}
    log = refused(runs.start(scenarios.Links, mode, **by_hand))
    for role in ROLES:
        assert (f"{role} does not have the middleware" in log) == (role not in placed)
    assert "scrapy_valkey_dedup.RequestDedupMiddleware" in log


@pytest.mark.parametrize("mode", MODES)
def test_it_can_be_enabled_by_hand(runs: Runs, mode: str) -> None:
    """Filter and middleware set by hand do the same as the add-on."""
    by_hand = {"DUPEFILTER_CLASS": OURS, **dict.fromkeys(ROLES, MIDDLEWARE)}
    first = runs.start(scenarios.Links, mode, ADDONS={}, **by_hand).wait()
    assert len(first.posts) == 5
    second = runs.again(first, scenarios.Links, mode, ADDONS={}, **by_hand).wait()
    assert (second.served == {}) == (mode in ("job", "stored"))


def test_switched_off_it_is_scrapys_own(runs: Runs) -> None:
    """Enabled by hand, with the plugin switched off, it filters as in plain Scrapy."""
    by_hand = {"DUPEFILTER_CLASS": OURS, **dict.fromkeys(ROLES, MIDDLEWARE)}
    off = {"ADDONS": {}, "VALKEY_DEDUP_ENABLED": False, **by_hand}
    plain = runs.start(scenarios.Links, PLAIN)
    run = runs.start(scenarios.Links, "job", **off).wait()
    assert run.served == plain.wait().served
    assert run.stats["dupefilter/filtered"] == plain.stats["dupefilter/filtered"]
    assert not any(name.startswith("dedup/") for name in run.stats)


def test_a_crawl_has_one_middleware(runs: Runs) -> None:
    """However often Scrapy or a component builds the middleware, a crawl has one."""
    run = runs.start(OneObject, "job").wait()
    assert run.calls("callbacks") == {"one middleware": 1}


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_subclasses_are_used(runs: Runs, mode: str) -> None:
    """A user's subclasses of filter and middleware are used instead of ours."""
    own = {
        "DUPEFILTER_CLASS": f"{FILTERS}.OwnFilter",
        **{role: {f"{FILTERS}.OwnMiddleware": 10} for role in ROLES},
    }
    first = runs.start(scenarios.Links, mode, **own).wait()
    assert len(first.posts) == 5
    assert first.stats["own filter"] == first.stats["scheduler/enqueued"] + 8
    assert first.stats["own middleware"] == 5
    second = runs.again(first, scenarios.Links, mode, **own).wait()
    assert second.served == {}


OWN_FINGERPRINTS = ["FilterWithoutQuery", "FilterWithFingerprinter"]
if SCRAPY_VERSION < (2, 17):
    OWN_FINGERPRINTS.append("FilterOfTexts")


@pytest.mark.parametrize("mode", ["job", "stored"])
@pytest.mark.parametrize("own", OWN_FINGERPRINTS)
def test_the_fleet_uses_the_fingerprints_of_a_users_filter(runs: Runs, mode: str, own: str) -> None:
    """Two requests that are one page for a subclass of the filter are one page for all runs."""
    spider, filters = scenarios.Sessions, {"DUPEFILTER_CLASS": f"{FILTERS}.{own}"}
    first = runs.start(spider, mode, session=1, **filters).wait()
    assert first.served == {"/a?session=1": 1, "/b?session=1": 1}
    assert runs.again(first, spider, mode, session=2, **filters).wait().served == {}
    assert len(runs.again(first, spider, mode, session=2).wait().served) == 2  # by Scrapy's own


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_another_filter_cannot_share(runs: Runs, mode: str) -> None:
    """A job or "stored" with another filter is refused, because nothing would be shared."""
    foreign = {"DUPEFILTER_CLASS": f"{FILTERS}.ForeignFilter"}
    log = refused(runs.start(scenarios.Links, mode, **foreign))
    assert f"DUPEFILTER_CLASS = '{FILTERS}.ForeignFilter'" in log
    assert "VALKEY_DEDUP_REQUESTS" in log


@pytest.mark.parametrize("mode", ["alone", "off"])
def test_another_filter_stays_where_nothing_is_shared(runs: Runs, mode: str) -> None:
    """Where nothing is shared, a user's own filter stays and decides."""
    foreign = {"DUPEFILTER_CLASS": f"{FILTERS}.ForeignFilter"}
    run = runs.start(scenarios.Links, mode, **foreign).wait()
    assert len(run.posts) == 5
    assert run.stats["foreign filter"] > 5


@pytest.mark.parametrize("name", ["BOT", "SPIDER"])
def test_the_add_on_leaves_the_users_filter_alone(name: str) -> None:
    """A DUPEFILTER_CLASS of the project or the spider stays; without one, ours is set."""
    priority = "project" if name == "BOT" else "spider"
    own = Settings({"ITEM_PIPELINES": {}})
    own.set("DUPEFILTER_CLASS", Named, priority)
    Addon("spider").update_settings(own)
    assert own["DUPEFILTER_CLASS"] is Named
    none = Settings()
    Addon("spider").update_settings(none)
    assert none["DUPEFILTER_CLASS"] is DupeFilter


def test_the_add_on_leaves_a_placed_middleware_alone() -> None:
    """A middleware that the user has placed stays there, and is not placed twice."""

    class Own(RequestDedupMiddleware):
        """A user's own."""

    placed = Settings({role: {Own: 50} for role in ROLES})
    Addon("spider").update_settings(placed)
    added = Settings()
    Addon("spider").update_settings(added)
    for role in ROLES:
        assert dict(placed.getdict(role)) == {Own: 50}
        assert dict(added.getdict(role)) == {RequestDedupMiddleware: 10}
