"""Faults of shared requests that were found once: each is a law here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.model import Verdict
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.in_flight import InFlightClaims
from tests.support.crawls.requests import Run, Runs
from tests.support.crawls.timelines import pages_read, timeline
from tests.support.ledgers import claims, heartbeats
from tests.support.patience import wait_until
from tests.support.servers.gated_web import GatedWeb
from tests.support.servers.web import RESET, Route, error, flapping, posts, redirect
from tests.support.spiders.faults import HERE, Anywhere, ManyRounds, Pages
from tests.support.spiders.requests import STORE, Reader
from tests.support.spiders.timelines import HERE as TIMELINES
from tests.support.spiders.timelines import Timelines


class Site:
    """A site, a ledger, and the crawls of one job."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        self._url = url
        self._namespace = namespace
        self._runs = Runs(url, directory)
        self.web = GatedWeb({})

    def show(self, routes: Mapping[str, Route]) -> None:
        """Shows these pages."""
        self.web.routes.update(routes)

    def start(self, spider: type[Reader] = Pages, mode: str = "job", **changes: Any) -> Run:
        """Starts a crawl: upper-case changes are settings, lower-case ones options."""
        return self._runs.start(spider, mode, self.web, self._namespace, **changes)

    def crawl(self, spider: type[Reader] = Pages, mode: str = "job", **changes: Any) -> Run:
        """Runs a crawl to its end."""
        return self.start(spider, mode, **changes).wait()

    @property
    def pages_claimed(self) -> int:
        """How many pages all crawls have claimed."""
        return sum(b"+pages" in key for key in claims(self._url, self._namespace))

    def assert_settled(self) -> None:
        """No claim and no heartbeat is left."""
        assert claims(self._url, self._namespace) == {}
        assert heartbeats(self._url, self._namespace) == 0

    def close(self) -> None:
        """Ends the crawls that still run."""
        self._runs.close()


@pytest.fixture
def site(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[Site]:
    """A site and crawls of it; at the end the ledger has no claim and no heartbeat."""
    made = Site(valkey.url, namespace, tmp_path)
    try:
        yield made
        made.assert_settled()
    finally:
        made.close()


def number(run: Run, stat: str) -> int:
    """One of the stats of pages."""
    return int(run.stats.get(f"dedup/requests/{stat}", 0))


# -- redirects -------------------------------------------------------------------------------------


def test_a_page_that_redirects_off_the_site_is_released(site: Site) -> None:
    """A page whose redirect is refused as off-site is released at once, not at the run's end."""
    site.show(
        {
            "/": posts(links=["/out", "/last"]),
            "/out": redirect("{other}/elsewhere"),
            "/last": posts("late"),
        }
    )
    waits = {"ITEM_PIPELINES": {f"{HERE}.Waits": 300}}
    first = site.start(CONCURRENT_REQUESTS=1, **waits)
    directory = Path(first.job.directory)
    wait_until(lambda: (directory / "waiting").exists() and site.web.served["/out"])
    wait_until(lambda: site.pages_claimed == 1, 10)
    (directory / "go").touch()
    first.wait()
    assert (number(first, "confirmed"), number(first, "released")) == (1, 1)
    assert site.crawl(**waits).served == {"/": 1, "/out": 1}


def test_a_page_that_is_only_a_target_is_fetched_once(site: Site) -> None:
    """A page that three workers are redirected to, each from another page, is fetched once.

    The two workers that did not fetch it release the page that redirects there.
    """
    names = ["a", "b", "c"]
    site.show(
        {
            **{f"/{name}": posts(links=[f"/to/{name}"]) for name in names},
            **{f"/to/{name}": redirect("/target") for name in names},
            "/target": posts("target", delay=0.3),
        }
    )
    site.web.gates["/target"] = lambda: all(site.web.served[f"/to/{name}"] for name in names)
    runs = [site.start(starts=[f"/{name}"]) for name in names]
    released = [number(run.wait(), "released") for run in runs]
    assert sorted(released) == [0, 1, 1]
    assert site.web.served == dict.fromkeys(site.web.routes, 1)
    assert sum((run.posts for run in runs), Counter()) == {"target": 1}


# -- requests past the filter ----------------------------------------------------------------------

EXPORTED = {"VALKEY_DEDUP_CONFIRM": "exported", "FEEDS": {"posts.jsonl": {"format": "jsonlines"}}}


@pytest.mark.parametrize("settings", [{}, EXPORTED], ids=["scraped", "exported"])
def test_a_copy_that_passes_the_filter_is_called_back(site: Site, settings: dict[str, Any]) -> None:
    """A copy with ``dont_filter`` of a page's own request, sent to the engine, is downloaded."""
    links = ["/a", "/b"]  # each page links to itself
    site.show(
        {
            "/": posts(links=links),
            "/a": posts("a", links=links, again=True),
            "/b": posts("b", links=links),
        }
    )
    run = site.crawl(**settings)
    assert run.calls("callbacks") == dict.fromkeys(
        ["parse /", "parse /a", "again /a", "parse /b"], 1
    )
    assert run.served == {"/": 1, "/a": 2, "/b": 1}
    assert number(run, "in_flight") == 0


def test_a_download_with_the_meta_of_a_page_is_no_page(site: Site) -> None:
    """A request that a callback downloads with its page's meta is not shared, and comes once."""
    site.show(
        {
            "/": posts(links=["/a"]),
            "/a": posts("a", links=["/a"], detail="/detail"),
            "/detail": posts("detail"),
        }
    )
    run = site.crawl()
    callbacks = ["parse /", "parse /a", "downloaded /detail"]
    assert run.calls("callbacks") == dict.fromkeys(callbacks, 1)
    assert (number(run, "new"), number(run, "in_flight"), number(run, "duplicate")) == (1, 0, 0)


# -- the user's own filters, schedulers and middlewares --------------------------------------------


@pytest.mark.parametrize(
    "own",
    [
        {"DUPEFILTER_CLASS": f"{HERE}.NotOpened"},
        {"DUPEFILTER_CLASS": f"{HERE}.NotBuilt"},
        {"SCHEDULER": f"{HERE}.Unfiltered"},
    ],
    ids=["open", "from_crawler", "scheduler"],
)
def test_a_filter_that_is_not_opened_ends_the_crawl(site: Site, own: dict[str, Any]) -> None:
    """A crawl whose filter was never opened ends at once, and its log names the cure."""
    site.show({"/": posts("0", links=["/a"]), "/a": posts("a")})
    run = site.crawl(**own)
    assert run.stats["finish_reason"] == "dupefilter_not_opened"
    assert "super().open()" in run.log
    assert "a SCHEDULER that opens its filter" in run.log
    assert "AttributeError" not in run.log


def test_a_filter_with_its_own_memory_loses_no_page(site: Site) -> None:
    """A held page is fetched when its holder fails, whatever the filter remembers."""
    own = {"DUPEFILTER_CLASS": f"{HERE}.Remembers", "CONCURRENT_REQUESTS": 1}
    site.show(
        {
            "/": posts(links=["/held", "/free"]),
            "/alone": posts(links=["/held"]),
            "/held": [error(404), posts("held")],
            "/free": posts("free"),
        }
    )
    waiters: list[Run] = []
    site.web.gates["/held"] = lambda: bool(waiters) and bool(waiters[0].posts["free"])
    holder = site.start(starts=["/alone"], **own)
    wait_until(lambda: site.web.asked["/held"])
    waiters.append(site.start(**own))
    holder.wait()
    waiter = waiters[0].wait()
    assert (number(waiter, "in_flight"), number(holder, "released")) == (1, 1)
    assert waiter.posts == {"free": 1, "held": 1}


def test_a_middleware_that_answers_by_itself_delays_no_request(site: Site) -> None:
    """If a middleware before ours refuses a request, the next one that waits is downloaded."""
    slow = {"/slow": {"priority": 1}}
    site.show(
        {
            "/": posts(links=["/first"]),
            "/first": posts(links=["/slow", "/a"], ways=slow),
            "/slow": posts("slow"),
            "/a": posts("a"),
        }
    )
    run = site.crawl(CONCURRENT_REQUESTS=1, DOWNLOADER_MIDDLEWARES={f"{HERE}.Gate": 5})
    assert run.stats["finish_reason"] == "finished"
    assert run.served == {"/": 1, "/first": 1, "/a": 1}


# -- how many downloads at once, and how many claims -----------------------------------------------


@pytest.mark.parametrize("queue", ["memory", "disk"])
def test_one_at_a_time_is_one_at_a_time(site: Site, tmp_path: Path, queue: str) -> None:
    """No retry, redirect or exempt request exceeds CONCURRENT_REQUESTS, with JOBDIR or not."""
    exempt = [f"/exempt/{count}" for count in range(6)]
    retried = [f"/retried/{count}" for count in range(6)]
    moved = [f"/moved/{count}" for count in range(6)]
    plain = [f"/plain/{count}" for count in range(6)]
    mixed = [path for paths in zip(exempt, retried, moved, plain, strict=True) for path in paths]
    same = {"priority": 0}
    ways = {path: same | {"dont_filter": path in exempt} for path in mixed}
    site.show(
        {
            "/": posts(links=mixed, ways=ways),
            **{path: posts(path, delay=0.03) for path in (*exempt, *plain)},
            **{path: flapping(1, posts(path, delay=0.03), error(500, 0.02)) for path in retried},
            **{path: redirect(f"/to{path}") for path in moved},
            **{f"/to{path}": posts(path, delay=0.03) for path in moved},
        }
    )
    jobdir = {"JOBDIR": str(tmp_path / "queue")} if queue == "disk" else {}
    run = site.crawl(CONCURRENT_REQUESTS=1, **jobdir)
    assert run.posts == dict.fromkeys(mixed, 1)
    assert site.web.most_at_once == 1


def test_a_new_site_with_a_delay_is_left_to_others(site: Site) -> None:
    """Of a new site with a delay, a worker claims only a few pages."""
    paths = [f"/{count}" for count in range(10)]
    site.show({"/": posts(links=["{other}" + path for path in paths])})
    site.show({path: posts(path) for path in paths})
    run = site.start(Anywhere, DOWNLOAD_DELAY=0.3, RANDOMIZE_DOWNLOAD_DELAY=False)
    claimed = []
    wait_until(lambda: claimed.append(site.pages_claimed) or len(run.posts) >= 4)
    assert 1 <= max(claimed) <= 5  # one is downloaded, two are ahead; others are being confirmed
    assert run.wait().posts == dict.fromkeys(paths, 1)


# -- timelines, and posts that are on many pages ---------------------------------------------------


def test_a_failed_round_does_not_affect_the_next(site: Site) -> None:
    """A spider that reads a timeline in rounds reads one page after a complete round."""
    shown = [f"named-{count}" for count in range(20)]
    for turn in range(4):
        pages = [shown[start : start + 5] for start in range(0, 20, 5)]
        for count, page in enumerate(pages):
            path = f"/{turn}/{count}" if count else f"/{turn}"
            older = {"older": f"/{turn}/{count + 1}"} if count < 3 else {}
            site.show({path: posts(*page, name="named", **older)})
    site.show({"/0/2": RESET})
    run = site.crawl(ManyRounds, "alone", rounds=4, RETRY_ENABLED=False)
    assert pages_of_rounds(run) == [3, 4, 1, 1]
    assert run.posts == dict.fromkeys(shown, 1)


def pages_of_rounds(run: Run) -> list[int]:
    """How many pages each round has read."""
    rounds = Counter(path.split("/")[1] for path in run.served.elements())
    return [rounds[turn] for turn in sorted(rounds)]


def test_a_reading_with_a_pinned_post_is_completed(site: Site) -> None:
    """Two timelines with a common post are complete, even if posts are stored at the very end."""
    names = ["named-a", "named-b"]
    for name in names:
        shown = ["pinned", *(f"{name}-{count}" for count in range(14))]
        site.show(timeline(name, shown, 5))
    late = {
        "ITEM_PIPELINES": {f"{TIMELINES}.ManualStorage": 300},
        "VALKEY_DEDUP_CONFIRM": "manual",
        "VALKEY_DEDUP_WAIT": 0.2,
        "timelines": [f"/{name}" for name in names],
    }
    first = site.crawl(Timelines, "alone", **late)
    assert pages_read(first) == dict.fromkeys(names, 3)
    assert set(first.posts.values()) == {1}
    assert pages_read(site.crawl(Timelines, "alone", **late)) == dict.fromkeys(names, 1)


def test_pages_with_a_post_in_common_are_settled(site: Site) -> None:
    """Pages with the same post, once or several times, are each fetched once by a fleet."""
    paths = [f"/{count}" for count in range(40)]
    site.show({"/": posts(links=paths)})
    site.show({path: posts(*["pinned"] * 6, path, delay=0.02) for path in paths})
    site.web.gates["/"] = lambda: site.web.asked["/"] >= 4
    pipelines = {f"{HERE}.Waits": 300, STORE: 400}
    runs = [site.start(ITEM_PIPELINES=pipelines, CONCURRENT_ITEMS=2) for _ in range(4)]
    for run in runs:
        assert number(run.wait(), "released") == 0
    assert site.web.served == Counter(dict.fromkeys(paths, 1)) + Counter({"/": 4})
    assert sum((run.posts for run in runs), Counter()) == dict.fromkeys([*paths, "pinned"], 1)


@pytest.mark.parametrize("verdict", [Verdict.SEEN, Verdict.HELD])
def test_a_page_is_settled_when_a_claim_is_not_granted(verdict: Verdict) -> None:
    """A page that waits for another claim on its post is settled by the answer to that."""
    settled: list[bool] = []
    page = Page(Claim(b"page", lambda _, stored: settled.append(stored)))
    in_flight, asked = InFlightClaims(1, lambda: False), Claim(b"post", None)
    in_flight.add(asked)
    page.await_claim(asked)
    page.end_attempt(failed=False)
    assert settled == []
    in_flight.remove(asked.key, verdict)
    assert settled == [verdict is Verdict.SEEN]


# -- values in settings and in meta ----------------------------------------------------------------


def test_a_pattern_may_look_like_a_number(site: Site) -> None:
    """VALKEY_DEDUP_REQUESTS_MATCH is a regular expression, even if it could be JSON."""
    site.show({"/": posts(links=["/2024", "/2025"]), "/2024": posts("a"), "/2025": posts("b")})
    match = {"VALKEY_DEDUP_REQUESTS_MATCH": "2024"}
    assert site.crawl(**match).served == {"/": 1, "/2024": 1, "/2025": 1}
    assert site.crawl(**match).served == {"/": 1, "/2025": 1}


def test_any_false_value_is_an_exemption(site: Site) -> None:
    """``meta={"dedup": 0}`` exempts a request from the fleet, as False does."""
    ways = {"/zero": {"meta": {"dedup": 0}}, "/false": {"meta": {"dedup": False}}}
    links = ["/zero", "/false", "/shared"]
    site.show({"/": posts(links=links, ways=ways), **{path: posts(path) for path in links}})
    assert site.crawl().served == dict.fromkeys(["/", *links], 1)
    assert site.crawl().served == {"/": 1, "/zero": 1, "/false": 1}
