"""Whatever happens to a request happens as in plain Scrapy, and no claim is left behind.

Each spider of :mod:`tests.support.spiders.scenarios` crawls its site with plain Scrapy and with the
plugin in each of its modes.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer
from tests.conftest import SCRAPY_VERSION
from tests.support.crawls.requests import MODES, NOTHING, PLAIN, Run, Runs
from tests.support.patience import wait_until
from tests.support.spiders import scenarios
from tests.support.spiders.requests import Reader

SPIDERS = [
    scenarios.Links,
    scenarios.StartUrls,
    scenarios.Redirects,
    scenarios.AwayAllowed,
    scenarios.Retries,
    scenarios.Failures,
    scenarios.Callbacks,
    scenarios.Inline,
    scenarios.Senders,
    scenarios.Files,
    scenarios.FilesFirst,
    scenarios.FilesWithMeta,
    scenarios.Images,
    scenarios.Robots,
    scenarios.Middlewares,
    scenarios.Posting,
    scenarios.Exempt,
    scenarios.Rescued,
]
# What differs from run to run, and what the plugin adds.
OTHER_STATS = re.compile(
    r"dedup/|elapsed|memusage|start_time|finish_time|per_minute|bytes|log_count/(INFO|DEBUG)"
    r"|item_|response_received_count_per|max_active|httpcompression"
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for all crawls of this module."""
    return tmp_path_factory.mktemp("requests")


@pytest.fixture
def runs(valkey: ValkeyServer, directory: Path) -> Iterator[Runs]:
    """Crawls of one test."""
    made = Runs(valkey.url, directory)
    yield made
    made.close()


class Story:
    """A spider's crawls: of plain Scrapy, of each mode, and once more; each when it is asked for.

    So a test run crawls only in the modes whose tests it has.
    """

    def __init__(self, spider: type[Reader], runs: Runs) -> None:
        self.spider, self._runs = spider, runs
        self.plain = runs.start(spider, PLAIN).wait()
        self._first: dict[str, Run] = {}
        self._second: dict[str, Run] = {}
        self._left: dict[str, Any] = {}

    def first(self, mode: str) -> Run:
        """The first crawl in a mode."""
        if mode not in self._first:
            run = self._first[mode] = self._runs.start(self.spider, mode).wait()
            self._left[mode] = self._runs.left(run)
        return self._first[mode]

    def left(self, mode: str) -> Any:
        """What the first crawl in a mode has left."""
        self.first(mode)
        return self._left[mode]

    def second(self, mode: str) -> Run:
        """Another crawl with the ledger of the first."""
        if mode not in self._second:
            run = self._runs.again(self.first(mode), self.spider, mode)
            self._second[mode] = run.wait()
        return self._second[mode]


@pytest.fixture(scope="module", params=SPIDERS, ids=lambda spider: spider.name)
def story(request: pytest.FixtureRequest, valkey: ValkeyServer, directory: Path) -> Iterator[Story]:
    """The crawls of one spider."""
    if request.param is scenarios.Images:
        pytest.importorskip("PIL")
    runs = Runs(valkey.url, directory)
    try:
        yield Story(request.param, runs)
    finally:
        runs.close()


def outcome(run: Run) -> dict[str, Any]:
    """Everything that a crawl did."""
    stats = {name: value for name, value in run.stats.items() if not OTHER_STATS.search(name)}
    kinds = ("callbacks", "errbacks", "dropped", "errors")
    calls = {kind: dict(sorted(run.calls(kind).items())) for kind in kinds}
    served = dict(sorted(run.served.items()))
    return {"posts": sorted(run.posts.elements()), "served": served, **calls, "stats": stats}


def assert_as_plain(run: Run, plain: Run) -> None:
    """Both did the same, except that the plugin stores once what Scrapy stores twice."""
    expected, found = outcome(plain), outcome(run)
    expected["posts"] = sorted(set(expected["posts"]))
    assert found == expected


@pytest.mark.parametrize("mode", MODES)
def test_all_is_as_in_plain_scrapy(story: Story, mode: str) -> None:
    """Posts, callbacks, errbacks, drops, errors, downloads and stats are those of plain Scrapy."""
    assert outcome(story.plain)["posts"]
    assert_as_plain(story.first(mode), story.plain)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_behind(story: Story, mode: str) -> None:
    """No claim and no heartbeat is left, and none had to be released at the very end."""
    assert story.left(mode) == NOTHING
    assert "neither confirmed nor released" not in story.first(mode).log


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_each_claim_settles_once(story: Story, mode: str) -> None:
    """Every claim was confirmed or released."""
    for run in (story.first(mode), story.second(mode)):
        number = {
            name: run.stats.get(f"dedup/requests/{name}", 0)
            for name in ("new", "confirmed", "released", "unconfirmed", "unchecked", "in_flight")
        }
        assert number["new"] == number["confirmed"] + number["released"]
        assert number["unconfirmed"] == number["unchecked"] == number["in_flight"] == 0


def test_a_second_run_of_the_job_does_what_went_wrong(story: Story) -> None:
    """Another run of the job downloads the pages that failed, and no other."""
    spider, run = story.spider, story.second("job")
    assert set(run.served) - spider.either == spider.again - spider.either
    assert max((story.first("job").posts + run.posts).values()) == 1


def test_a_later_run_skips_the_pages_of_stored_posts(story: Story) -> None:
    """In mode "stored" a later run downloads only pages that failed or had no posts."""
    spider, run = story.spider, story.second("stored")
    expected = spider.again | spider.unstored
    assert set(run.served) - spider.either == expected - spider.either
    assert max((story.first("stored").posts + run.posts).values()) == 1


WITHOUT_REACTOR = [
    scenarios.Redirects,
    scenarios.Retries,
    scenarios.Failures,
    scenarios.Callbacks,
    scenarios.Senders,
    scenarios.Files,
]


@pytest.mark.skipif(SCRAPY_VERSION < (2, 15), reason="Scrapy runs without a reactor from 2.15 on")
@pytest.mark.parametrize("spider", WITHOUT_REACTOR, ids=lambda spider: spider.name)
def test_all_is_as_in_plain_scrapy_without_a_reactor(runs: Runs, spider: type[Reader]) -> None:
    """The same holds where Scrapy runs without a Twisted reactor."""
    plain = runs.start(spider, PLAIN, TWISTED_REACTOR_ENABLED=False)
    run = runs.start(spider, "job", TWISTED_REACTOR_ENABLED=False)
    assert_as_plain(run.wait(), plain.wait())
    assert runs.left(run) == NOTHING
    assert "neither confirmed nor released" not in run.log


@pytest.mark.parametrize("mode", [PLAIN, *MODES])
def test_pages_come_from_the_cache(runs: Runs, tmp_path: Path, mode: str) -> None:
    """A crawl whose pages are in the HTTP cache downloads nothing and yields all of it again."""
    cache = {"HTTPCACHE_ENABLED": True, "HTTPCACHE_DIR": str(tmp_path / "cache")}
    spider = scenarios.Senders
    first = runs.start(spider, mode, **cache).wait()
    second = runs.start(spider, mode, first.web, **cache).wait()  # with another ledger
    assert second.stats["httpcache/hit"] == second.stats["downloader/response_count"]
    assert second.served == {}
    assert first.posts == second.posts
    assert first.calls("callbacks") == second.calls("callbacks")
    assert runs.left(second) == NOTHING


ALL = Counter(str(number) for number in range(40))


@pytest.mark.parametrize("stop", ["SIGINT", "CLOSESPIDER_PAGECOUNT"])
@pytest.mark.parametrize("mode", [PLAIN, *MODES])
def test_a_stopped_crawl_goes_on(runs: Runs, tmp_path: Path, mode: str, stop: str) -> None:
    """A crawl with a JOBDIR that was stopped in the middle resumes: nothing lost or twice."""
    settings = {"JOBDIR": str(tmp_path / "job")}
    limit = {} if stop == "SIGINT" else {stop: 10}
    first = runs.start(scenarios.Tree, mode, **settings, **limit)
    if stop == "SIGINT":
        wait_until(lambda: len(first.posts) >= 10)
        first.signal(signal.SIGINT)
    first.wait()
    assert 10 <= len(first.posts) < 40
    assert runs.left(first) == NOTHING
    second = runs.again(first, scenarios.Tree, mode, **settings).wait()
    assert first.posts + second.posts == ALL
    assert first.served + second.served == Counter({f"/{page}": 1 for page in ALL})
    assert runs.left(second) == NOTHING


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_a_crawl_that_a_callback_closes_leaves_nothing(runs: Runs, mode: str) -> None:
    """After CloseSpider in the middle no claim is left, and the next run does the rest."""
    first = runs.start(scenarios.Tree, mode, starts="all", close="/7").wait()
    assert first.stats["finish_reason"] == "enough"
    assert 1 < len(first.posts) < 40
    assert runs.left(first) == NOTHING
    assert "neither confirmed nor released" not in first.log
    second = runs.again(first, scenarios.Tree, mode, starts="all").wait()
    assert first.posts + second.posts == ALL
    assert set(first.served) & set(second.served) == {"/7"}
    assert runs.left(second) == NOTHING


LIVELY = {"CONCURRENT_REQUESTS": 1, "VALKEY_DEDUP_LEASE": 1}


def start_beside(runs: Runs, **changes: Any) -> tuple[Run, Run]:
    """A run that holds a page until it is killed, and one that waits for the page."""
    holder = runs.start(scenarios.Held, "job", **LIVELY, hold=True)
    wait_until(lambda: holder.web.served["/held"])
    run = runs.again(holder, scenarios.Held, "job", **LIVELY, **changes)
    wait_until(lambda: run.posts["free"])  # it is requested after the held page
    return holder, run


def test_held_pages_go_to_the_jobdir_when_a_crawl_is_stopped(runs: Runs, tmp_path: Path) -> None:
    """A page that another run held is in the JOBDIR of a crawl that is stopped."""
    jobdir = {"JOBDIR": str(tmp_path / "job")}
    holder, stopped = start_beside(runs, **jobdir)
    stopped.signal(signal.SIGINT)
    stopped.wait()
    assert stopped.stats["finish_reason"] == "shutdown"
    holder.kill()
    resumed = runs.again(holder, scenarios.Held, "job", **LIVELY, **jobdir).wait()
    assert resumed.posts == Counter(["held"])
    assert runs.left(resumed) == NOTHING


def test_a_crawl_is_stopped_while_it_waits(runs: Runs) -> None:
    """A crawl that waits for another run's page ends at SIGINT, and leaves no claim."""
    holder, stopped = start_beside(runs)
    stopped.signal(signal.SIGINT)
    stopped.wait()
    claims, alive = runs.left(stopped)
    assert (len(claims), alive) == (1, 1)  # the holder's
    assert stopped.stats["dedup/requests/in_flight"] == 1
    holder.kill()


@pytest.mark.parametrize("confirm", ["exported", "claimed"])
def test_pages_are_settled_however_posts_are(runs: Runs, confirm: str) -> None:
    """Pages settle with their posts, even if those settle when the feeds are stored."""
    settings = {"VALKEY_DEDUP_CONFIRM": confirm, "FEEDS": {"posts.jsonl": {"format": "jsonlines"}}}
    for mode in ("job", "stored"):
        first = runs.start(scenarios.Links, mode, **settings).wait()
        assert len(first.posts) == 5
        assert runs.left(first) == NOTHING
        second = runs.again(first, scenarios.Links, mode, **settings).wait()
        assert second.served == {}
        assert runs.left(second) == NOTHING


PARKED = Counter(["/flap", "/target", "/soon"])
"""The pages that are still to be downloaded when the spider is stopped."""


def stop_parked(runs: Runs, mode: str, **settings: Any) -> Run:
    """A run that was stopped while a retry, a redirect and a callback's retry were waiting."""
    first = runs.start(scenarios.Parked, mode, **settings)
    wait_until(lambda: first.posts)
    first.signal(signal.SIGINT)
    first.wait()
    assert [first.served[page] for page in ("/flap", "/moved", "/target", "/soon")] == [1, 1, 0, 1]
    assert runs.left(first) == NOTHING
    assert "neither confirmed nor released" not in first.log
    return first


@pytest.mark.parametrize("mode", [PLAIN, *MODES])
def test_pages_in_progress_are_in_the_jobdir(runs: Runs, tmp_path: Path, mode: str) -> None:
    """Retries and redirects that were waiting when a crawl was stopped are followed later."""
    jobdir = {"JOBDIR": str(tmp_path / "job")}
    first = stop_parked(runs, mode, **jobdir)
    resumed = runs.again(first, scenarios.Parked, mode, **jobdir).wait()
    assert resumed.served & Counter([*scenarios.Parked.pages]) >= PARKED
    assert resumed.served["/moved"] == 0
    posts = Counter(["flap", "target", "soon", *map(str, range(20))])
    assert first.posts + resumed.posts == posts
    assert runs.left(resumed) == NOTHING
    if mode in ("job", "stored"):
        after = runs.again(first, scenarios.Parked, mode).wait()
        assert after.served == {}


@pytest.mark.parametrize("mode", ["job", "stored"])
def test_pages_in_the_jobdir_may_be_done_by_another_run(
    runs: Runs, tmp_path: Path, mode: str
) -> None:
    """Pages that another run has done while a crawl was stopped are not downloaded again."""
    jobdir = {"JOBDIR": str(tmp_path / "job")}
    first = stop_parked(runs, mode, **jobdir)
    other = runs.again(first, scenarios.Parked, mode).wait()
    assert other.served >= PARKED
    resumed = runs.again(first, scenarios.Parked, mode, **jobdir).wait()
    assert resumed.served == {}
    assert runs.left(resumed) == NOTHING
