"""The filter does what Scrapy's own does, and refuses to run without its other half."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scrapy import Request, Spider
from scrapy.dupefilters import RFPDupeFilter
from scrapy.settings import Settings

from bench.servers import ValkeyServer
from scrapy_valkey_dedup import Addon, DupeFilter, RequestDedupMiddleware
from tests import scenarios
from tests.request_crawls import MODES, PLAIN, Run, Runs
from tests.scenarios import HERE

ONE, TWO = "http://example.com/1", "http://example.com/2"
OURS = "scrapy_valkey_dedup.DupeFilter"
MIDDLEWARE = {"scrapy_valkey_dedup.RequestDedupMiddleware": 10}
ROLES = {"DOWNLOADER_MIDDLEWARES", "SPIDER_MIDDLEWARES"}


class Named(DupeFilter):
    """A user's filter that extends the plugin's, and says how it was built."""

    built = "not at all"

    @classmethod
    def from_crawler(cls, crawler):
        made = super().from_crawler(crawler)
        made.built = "by from_crawler"
        return made


class WithoutCase:
    """A fingerprinter for which URLs have no upper case."""

    def fingerprint(self, request):
        return hashlib.sha1(request.url.lower().encode()).digest()


class Crawling(Spider):
    """Whose crawl is only a frame here."""

    name = "crawling"


# -- what Scrapy's own tests ask of a filter -------------------------------------------------------


def test_it_can_be_built_without_a_crawler() -> None:
    """As Scrapy's own it needs nothing to be built and to tell duplicates."""
    dupefilter = DupeFilter()
    dupefilter.open()
    assert [dupefilter.request_seen(Request(ONE)) for _ in range(3)] == [False, True, True]
    dupefilter.close("finished")


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
    """For any requests, with any reopenings between them (None), both say the same."""
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


# -- with its other half, and without --------------------------------------------------------------


@pytest.fixture
def runs(valkey: ValkeyServer, tmp_path: Path) -> Iterator[Runs]:
    """Crawls of one test."""
    made = Runs(valkey.url, tmp_path / "runs")
    yield made
    made.close()


def refused(run: Run) -> str:
    """The log of a crawl that did not start."""
    run.wait(fails=True)
    assert run.served == {}
    assert "fault(s) in the settings" in run.log
    return run.log


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("placed", [set(), {"DOWNLOADER_MIDDLEWARES"}, {"SPIDER_MIDDLEWARES"}])
def test_it_refuses_to_run_without_its_middleware(runs: Runs, mode: str, placed: set[str]) -> None:
    """Enabled by hand without the middleware, the crawl does not start, and is told what to set."""
    by_hand = {"ADDONS": {}, "DUPEFILTER_CLASS": OURS, **dict.fromkeys(placed, MIDDLEWARE)}
    log = refused(runs.start(scenarios.Links, mode, **by_hand))
    for role in ROLES:
        assert (f"{role} does not have the middleware" in log) == (role not in placed)
    assert "scrapy_valkey_dedup.RequestDedupMiddleware" in log


@pytest.mark.parametrize("mode", MODES)
def test_it_can_be_enabled_by_hand(runs: Runs, mode: str) -> None:
    """Filter and middleware by hand do the same as the add-on."""
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
    run = runs.start(scenarios.OneObject, "job").wait()
    assert run.calls("callbacks") == {"one middleware": 1}


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_a_class_that_extends_ours_counts(runs: Runs, mode: str) -> None:
    """A user's filter and middleware that extend ours take their places."""
    own = {
        "DUPEFILTER_CLASS": f"{HERE}.OwnFilter",
        **{role: {f"{HERE}.OwnMiddleware": 10} for role in ROLES},
    }
    first = runs.start(scenarios.Links, mode, **own).wait()
    assert len(first.posts) == 5
    assert first.stats["own filter"] == first.stats["scheduler/enqueued"] + 8
    assert first.stats["own middleware"] == 5
    second = runs.again(first, scenarios.Links, mode, **own).wait()
    assert second.served == {}


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_a_foreign_filter_cannot_share(runs: Runs, mode: str) -> None:
    """A job, and "stored", with a filter that is not ours are refused: nothing would be shared."""
    foreign = {"DUPEFILTER_CLASS": f"{HERE}.ForeignFilter"}
    log = refused(runs.start(scenarios.Links, mode, **foreign))
    assert f"DUPEFILTER_CLASS = '{HERE}.ForeignFilter'" in log
    assert "VALKEY_DEDUP_REQUESTS" in log


@pytest.mark.parametrize("mode", ["alone", "off"])
def test_a_foreign_filter_is_left_alone(runs: Runs, mode: str) -> None:
    """Where nothing is shared a user's own filter stays, and is the one that decides."""
    foreign = {"DUPEFILTER_CLASS": f"{HERE}.ForeignFilter"}
    run = runs.start(scenarios.Links, mode, **foreign).wait()
    assert len(run.posts) == 5
    assert run.stats["foreign filter"] > 5


@pytest.mark.parametrize("name", ["BOT", "SPIDER"])
def test_the_add_on_leaves_the_users_filter_alone(name: str) -> None:
    """A DUPEFILTER_CLASS of project or spider stays; without one it becomes ours."""
    priority = "project" if name == "BOT" else "spider"
    own = Settings({"ITEM_PIPELINES": {}})
    own.set("DUPEFILTER_CLASS", Named, priority)
    Addon("spider").update_settings(own)
    assert own["DUPEFILTER_CLASS"] is Named
    none = Settings()
    Addon("spider").update_settings(none)
    assert none["DUPEFILTER_CLASS"] is DupeFilter


def test_the_add_on_leaves_a_placed_middleware_alone() -> None:
    """Where the user has placed the middleware it stays, and is not placed twice."""

    class Own(RequestDedupMiddleware):
        """A user's own."""

    placed = Settings({role: {Own: 50} for role in ROLES})
    Addon("spider").update_settings(placed)
    added = Settings()
    Addon("spider").update_settings(added)
    for role in ROLES:
        assert dict(placed.getdict(role)) == {Own: 50}
        assert dict(added.getdict(role)) == {RequestDedupMiddleware: 10}
