"""Options of single requests, by ``meta``, and of a whole run, by ``RESET``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.servers import ValkeyServer
from tests.support.crawls.requests import Run
from tests.support.crawls.timelines import Readings, number, opened, timeline
from tests.support.patience import wait_until
from tests.support.servers.web import MISSING, error, flapping, posts, redirect
from tests.support.spiders.scenarios import Asking
from tests.support.spiders.timelines import Timelines

SHARED = pytest.mark.parametrize("mode", ["job", "stored"])
NO_URL = {"VALKEY_DEDUP_REQUESTS_MATCH": "(?!)"}
"""A pattern that matches no URL."""


@pytest.fixture
def site(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[Readings]:
    """A site and crawls of it; at the end the ledger has no claim and no heartbeat."""
    yield from opened(valkey.url, namespace, tmp_path)


def start(site: Readings, mode: str, *asks: tuple[str, dict[str, Any]], **changes: Any) -> Run:
    """Starts a crawl of these requests, in the test's one job."""
    if mode == "job":
        changes.setdefault("VALKEY_DEDUP_JOB", "the-job")
    return site.start(Asking, mode, asks=[list(ask) for ask in asks], **changes)


def fetched(
    site: Readings, mode: str, *asks: tuple[str, dict[str, Any]], **changes: Any
) -> set[str]:
    """Runs such a crawl to its end; returns the paths that it fetched, each once."""
    run = start(site, mode, *asks, **changes).wait()
    assert set(run.served.values()) <= {1}
    return set(run.served)


def keyed(key: object, **meta: object) -> dict[str, Any]:
    """The arguments of a request with a ``dedup_key``."""
    return {"meta": {"dedup_key": key, **meta}}


# -- dedup_key -------------------------------------------------------------------------------------


@SHARED
def test_a_key_in_meta_is_the_identity_of_the_page(site: Readings, mode: str) -> None:
    """A page is known by ``dedup_key`` alone, whatever its URL; 7 and "7" are one key."""
    site.show({f"/{path}": posts(path) for path in ("a?1", "a?2", "a?3", "b?1", "b?2")})
    one = [("/a?1", keyed("a")), ("/b?1", keyed(7))]
    assert fetched(site, mode, *one) == {"/a?1", "/b?1"}
    assert fetched(site, mode, ("/a?2", keyed("a")), ("/b?2", keyed("7"))) == set()
    assert fetched(site, mode, ("/a?1", keyed("another")), ("/a?3", {})) == {"/a?1", "/a?3"}


@SHARED
def test_requests_with_one_key_are_tried_until_one_is_done(site: Readings, mode: str) -> None:
    """Two that fail, the one that is done, and none after it: 3 of 4 are fetched, 1 post stored."""
    site.show({"/1": MISSING, "/2": error(410), "/3": posts("x"), "/4": posts("y")})
    asks = [(f"/{n}", {**keyed("x"), "priority": -n}) for n in (1, 2, 3, 4)]
    run = start(site, mode, *asks, CONCURRENT_REQUESTS=1).wait()
    assert set(run.served) == {"/1", "/2", "/3"}
    assert run.posts == Counter("x")
    assert run.calls("dropped") == {"/4": 1}


@SHARED
def test_several_requests_with_one_key_at_once(site: Readings, mode: str) -> None:
    """Sent at once, four requests with one key are one page: 1 is fetched, 3 are dropped."""
    site.show({f"/{n}": posts(n) for n in range(4)})
    run = start(site, mode, *[(f"/{n}", keyed("x")) for n in range(4)]).wait()
    assert (len(run.served), len(run.posts), run.calls("dropped").total()) == (1, 1, 3)


@SHARED
def test_a_key_that_is_copied_with_meta_loses_no_page(site: Readings, mode: str) -> None:
    """Pages that have copied the key of the page before them, with its meta, are fetched."""
    site.show({"/": posts("0", links=["/1", "/2"]), "/1": posts("1"), "/2": posts("2")})
    run = start(site, mode, ("/", keyed("page")), copies=True).wait()
    assert run.posts == Counter("012")
    assert run.log.count("it is copied from the page that links there") == 1
    assert fetched(site, mode, ("/1", {}), ("/elsewhere", keyed("page"))) == set()


def test_an_invalid_key_is_ignored(site: Readings) -> None:
    """A key that is neither a text nor a number is ignored, with one warning."""
    site.show({f"/{n}": posts(n) for n in range(4)})
    asks = [(f"/{n}", keyed(key)) for n, key in enumerate([[1], "", True, {"a": 1}])]
    run = start(site, "job", *asks).wait()
    assert len(run.posts) == 4
    assert run.log.count("meta['dedup_key'] = ") == 1
    assert fetched(site, "job", *[(f"/{n}", {}) for n in range(4)]) == set()


# -- opting in -------------------------------------------------------------------------------------

YES, NO = {"meta": {"dedup": True}}, {"meta": {"dedup": False}}


@SHARED
def test_a_request_is_opted_in(site: Readings, mode: str) -> None:
    """``"dedup": True`` overrides REQUESTS_MATCH, even one that matches no URL."""
    site.show({f"/{n}": posts(n) for n in range(3)})
    asks = [("/0", YES), ("/1", NO), ("/2", {})]
    assert fetched(site, mode, *asks, **NO_URL) == {"/0", "/1", "/2"}
    assert fetched(site, mode, *asks, **NO_URL) == {"/1", "/2"}
    assert site.stored == Counter("012")


@SHARED
@pytest.mark.parametrize("in_jobdir", [False, True])
def test_requests_past_the_filter_are_opted_in(
    site: Readings, tmp_path: Path, mode: str, *, in_jobdir: bool
) -> None:
    """``"dedup": True`` with ``dont_filter``: fetched once, also if sent twice, retried, moved."""
    site.show({"/free": posts("free"), "/moved": redirect("/target"), "/target": posts("t")})
    site.show({"/flaps": flapping(1, posts("f")), "/twice": posts("twice"), "/gone": MISSING})
    paths = ["/moved", "/flaps", "/twice", "/twice", "/gone"]
    asks = [(path, {**YES, "dont_filter": True}) for path in paths]
    asks.append(("/free", {"dont_filter": True}))

    def settings(run: str) -> dict[str, str]:
        return {"JOBDIR": str(tmp_path / run)} if in_jobdir else {}

    first = start(site, mode, *asks, **settings("first")).wait()
    once = dict.fromkeys(["/moved", "/target", "/twice", "/gone", "/free"], 1)
    assert first.served == {**once, "/flaps": 2}
    assert first.calls("dropped") == {"/twice": 1}
    assert first.posts == Counter(["free", "t", "f", "twice"])
    assert fetched(site, mode, *asks, **settings("second")) == {"/gone", "/free"}


def test_a_wish_in_vain_is_told(site: Readings) -> None:
    """Where no fleet is asked ``"dedup": True`` does nothing: one warning says what to set."""
    site.show({f"/{n}": posts(n) for n in range(3)})
    run = start(site, "alone", *[(f"/{n}", YES) for n in range(3)]).wait()
    assert len(run.posts) == 3
    assert run.log.count("set VALKEY_DEDUP_REQUESTS = 'stored', or VALKEY_DEDUP_JOB") == 1
    quiet = start(site, "off", ("/0", YES)).wait()
    assert "VALKEY_DEDUP_REQUESTS" not in quiet.log


# -- the errback -----------------------------------------------------------------------------------

TOLD = {"meta": {"dedup_errback": True}, "errback": True}


@SHARED
def test_the_errback_is_called_if_requested(site: Readings, mode: str) -> None:
    """With ``dedup_errback`` a known page calls the errback with DuplicatePage."""
    site.show({f"/{n}": posts(n) for n in range(3)})
    asks = [("/0", TOLD), ("/1", {"errback": True}), ("/2", {"meta": TOLD["meta"]})]
    first = start(site, mode, *asks).wait()
    assert first.calls("errbacks") == first.calls("dropped") == {}
    second = start(site, mode, *asks).wait()
    assert second.served == {}
    assert second.calls("errbacks") == {"DuplicatePage /0": 1}
    assert second.calls("dropped") == {"/1": 1, "/2": 1}
    assert second.calls("errors") == {}


@pytest.mark.parametrize("in_jobdir", [False, True])
def test_the_errback_is_called_when_another_run_has_done_the_page(
    site: Readings, tmp_path: Path, *, in_jobdir: bool
) -> None:
    """A held page calls the errback when the run that held it has done it."""
    site.show({"/page": posts("page"), "/free": posts("free")})
    holder = start(site, "job", ("/page", {}), linger=True)
    wait_until(lambda: holder.posts)
    jobdir = {"JOBDIR": str(tmp_path / "job")} if in_jobdir else {}
    asks = [("/page", {**TOLD, "priority": 1}), ("/free", {})]
    run = start(site, "job", *asks, CONCURRENT_REQUESTS=1, **jobdir)
    wait_until(lambda: run.posts)
    Path(holder.job.directory, "go").touch()
    holder.wait()
    run.wait()
    assert run.posts == Counter(["free"])
    assert run.calls("errbacks") == {"DuplicatePage /page": 1}
    assert number(run, "requests/in_flight") == 1


# -- a reset ---------------------------------------------------------------------------------------

RESET = {"VALKEY_DEDUP_RESET": True}


@pytest.mark.parametrize("confirm", ["scraped", "claimed"])
@SHARED
def test_a_reset_fetches_and_stores_once_more(site: Readings, mode: str, confirm: str) -> None:
    """With RESET all 3 pages and 4 posts come once more, each once; the next run knows them."""
    site.show({"/0": posts("a", "b"), "/1": posts("b", "c"), "/2": posts("d")})
    asks = [(f"/{n}", {}) for n in range(3)]
    changes: dict[str, Any] = {"VALKEY_DEDUP_CONFIRM": confirm}
    everything = {"/0", "/1", "/2"}
    assert fetched(site, mode, *asks, **changes) == everything
    assert fetched(site, mode, *asks, **changes) == set()
    assert fetched(site, mode, *asks, **changes, **RESET) == everything
    assert site.stored == dict.fromkeys("abcd", 2)
    assert "VALKEY_DEDUP_RESET = True" in site.crawls[-1].log
    assert fetched(site, mode, *asks, **changes) == set()
    assert site.stored == dict.fromkeys("abcd", 2)


def test_a_reset_leaves_what_it_does_not_store_as_it_was(site: Readings) -> None:
    """A post that fails in the run with RESET, and so is not stored again, stays remembered."""
    site.show({"/0": posts("a"), "/1": posts("b")})
    asks = [("/0", {}), ("/1", {})]
    fetched(site, "alone", *asks)
    fetched(site, "alone", *asks, refuse=["a"], **RESET)
    fetched(site, "alone", *asks)
    assert site.stored == {"a": 1, "b": 2}


def test_a_reset_reads_timelines_to_their_end(site: Readings) -> None:
    """A named timeline of 3 pages: 3 are read, then 1, with RESET 3 again, then 1."""
    site.show(timeline("named", [str(n) for n in range(75)]))
    read = []
    for changes in ({}, {}, RESET, {}):
        run = site.crawl(Timelines, timelines=["/named"], **changes)
        read.append(run.served.total())
    assert read == [3, 1, 3, 1]
    assert set(site.stored.values()) == {2}


def test_a_reset_respects_the_claims_of_a_live_run(site: Readings) -> None:
    """A page that a live run holds is not fetched by another."""
    site.show({"/page": posts("page"), "/free": posts("free")})
    holder = start(site, "job", ("/page", {}), linger=True)
    wait_until(lambda: holder.posts)
    asks = [("/page", {"priority": 1}), ("/free", {})]
    run = start(site, "job", *asks, CONCURRENT_REQUESTS=1, **RESET)
    wait_until(lambda: run.posts)
    assert run.web.served["/page"] == 1
    Path(holder.job.directory, "go").touch()
    holder.wait()
    run.wait()
    assert run.served["/page"] == 1  # when it was done
