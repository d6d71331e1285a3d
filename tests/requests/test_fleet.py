"""A fleet shares one crawl: no page is fetched twice, none is lost when a worker dies, all end.

The engine's look every five seconds is put off to an hour: whatever waits for it would hang here.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.runs import IDLE_MARK
from scrapy_valkey_dedup.ledger.tokens import run_of
from tests.support import ledgers
from tests.support.crawls.items import Crawl
from tests.support.ledgers import ask_ledger
from tests.support.patience import wait_until
from tests.support.processes.forkserver import processes
from tests.support.servers.gated_web import GatedWeb
from tests.support.servers.standin import a_server
from tests.support.servers.web import RESET, Reply, Route, posts, redirect
from tests.support.spiders import fleet as fleet_process
from tests.support.spiders.fleet import HERE
from tests.support.spiders.jobs import Job

PAGES = 300
# Only for workers that are killed or frozen: on a busy machine any worker may lose its lease.
SHORT = {"VALKEY_DEDUP_LEASE": 1}
BEGIN = "posts are stored unchecked"


@dataclass
class Worker(Crawl):
    """A crawl of the fleet."""

    web: GatedWeb
    name: str

    @property
    def asked(self) -> Counter[str]:
        """Its requests at the site, by path."""
        return self.web.asked_by.get(self.name, Counter()).copy()

    @property
    def heard(self) -> set[str]:
        """The links that it has found."""
        return set((Path(self.job.directory) / "heard").read_text().splitlines())

    @property
    def run(self) -> str:
        """Its name in the ledger."""
        path = Path(self.job.directory) / "run"
        return path.read_text() if path.exists() else ""


class Fleet:
    """A site, a ledger, a storage, and the workers of one job."""

    def __init__(self, url: str, namespace: str, directory: Path, *, reactor: bool = True) -> None:
        self.url = url
        self.namespace = namespace
        self.directory = directory
        self.settings: dict[str, Any] = {} if reactor else {"TWISTED_REACTOR_ENABLED": False}
        self.web: GatedWeb | None = None
        self.workers: list[Worker] = []
        self._numbers = count()

    def serve(self, routes: dict[str, Route]) -> GatedWeb:
        """Serves the test's site."""
        self.web = GatedWeb(routes)
        return self.web

    def start(self, *starts: str, **changes: Any) -> Worker:
        """Starts a worker that begins with these paths.

        Upper-case changes are settings, lower-case ones are options of spider and pipelines.
        """
        name = f"worker-{next(self._numbers)}"
        settings = {
            "USER_AGENT": name,
            "VALKEY_DEDUP_URL": self.url,
            "VALKEY_DEDUP_NAMESPACE": self.namespace,
            "VALKEY_DEDUP_JOB": "a-job",
            "ITEM_PIPELINES": {f"{HERE}.Store": 300},
            **self.settings,
            **{name: value for name, value in changes.items() if name.isupper()},
        }
        options = {"starts": starts, "posts": str(self.directory / "posts")}
        options |= {name: value for name, value in changes.items() if not name.isupper()}
        job = Job(self.web.url, [], str(self.directory / name), settings, options)
        Path(job.directory).mkdir()
        process = processes.Process(target=fleet_process.crawl, args=(job,))
        process.start()
        self.workers.append(Worker(job, process, self.web, name))
        return self.workers[-1]

    def start_many(self, number: int, *, doomed: int = 0, **changes: Any) -> list[Worker]:
        """Starts workers that get their first page, ``/``, at the same moment.

        The first so many are ``doomed``: the others hear soon of their death.
        """
        self.web.gates["/"] = lambda: self.web.askers("/") >= number
        leases = [SHORT] * doomed + [{}] * (number - doomed)
        return [self.start("/", **lease, **changes) for lease in leases]

    @property
    def stored(self) -> Counter[str]:
        """How often each post is stored."""
        return Counter((self.directory / "posts").read_text().splitlines())

    @property
    def claims(self) -> Counter[str]:
        """How many claims each run has, on pages and posts."""
        return Counter(run_of(held) for held in self._claims.values())

    @property
    def pages_claimed(self) -> Counter[str]:
        """How many pages each run has claimed."""
        return Counter(run_of(held) for key, held in self._claims.items() if b"+pages" in key)

    @property
    def _claims(self) -> dict[bytes, bytes]:
        return ledgers.claims(self.url, self.namespace)

    def beat(self, worker: Worker) -> str | None:
        """The last heartbeat of a worker."""
        if not worker.run:
            return None

        async def look(ledger: Ledger, _: object) -> bytes | None:
            return (await ledger.runs.read_heartbeats([worker.run]))[0]

        found = ask_ledger(self.url, self.namespace, look)
        return None if found is None else found.decode()

    def is_idle(self, worker: Worker) -> bool:
        """Whether its heartbeat says that it only waits for pages that others hold."""
        return (self.beat(worker) or "").endswith(IDLE_MARK)

    def assert_settled(self, *, killed: Iterable[Worker] = ()) -> None:
        """No run that ended well leaves a claim or a heartbeat."""
        gone = {worker.run for worker in killed}
        assert set(self.claims) <= gone
        for worker in self.workers:
            assert worker.run in gone or self.beat(worker) is None

    def close(self) -> None:
        """Ends the workers that still run."""
        for worker in self.workers:
            worker.kill()
        if self.web is not None:
            self.web.close()


@pytest.fixture
def fleet(valkey: ValkeyServer, namespace: str, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with the session's server."""
    made = Fleet(valkey.url, namespace, tmp_path)
    yield made
    made.close()


@pytest.fixture
def either_fleet(fleet: Fleet, reactor: bool) -> Fleet:  # noqa: FBT001 (a fixture)
    """A fleet in both ways to run Scrapy."""
    if not reactor:
        fleet.settings["TWISTED_REACTOR_ENABLED"] = False
    return fleet


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[tuple[Fleet, ValkeyServer]]:
    """A fleet with its own server, which the test may stop or kill."""
    with a_server(persistent=True) as server:
        made = Fleet(server.url, "fragile", tmp_path)
        made.settings["VALKEY_DEDUP_TIMEOUT"] = 0.3
        yield made, server
        made.close()


def posts_of(path: str) -> set[str]:
    """The posts of a page."""
    return {f"{path}.{number}" for number in range(2)}


def page(path: str, links: Iterable[str] = (), delay: float = 0) -> Reply:
    """A page with its posts."""
    return posts(*posts_of(path), links=links, delay=delay)


def graph(pages: int) -> dict[str, Route]:
    """A site of pages that link to 15 others each, and an index that links to 2 of 5.

    So many that a worker which a busy machine stops for a moment still finds some.
    """
    chance = random.Random(3)
    paths = [f"/{number}" for number in range(pages)]
    site: dict[str, Route] = {"/": posts(links=chance.sample(paths, pages * 2 // 5))}
    for path in paths:
        site[path] = page(path, chance.sample(paths, 15), chance.uniform(0.05, 0.1))
    return site


def posts_of_all(paths: Iterable[str]) -> set[str]:
    """The posts of pages."""
    return {post for path in paths if path != "/" for post in posts_of(path)}


def assert_all_is_done_once(fleet: Fleet, site: dict[str, Route]) -> None:
    """Every page is downloaded once, the index by each worker, and every post is stored once."""
    once = Counter(dict.fromkeys(site, 1)) | Counter({"/": len(fleet.workers)})
    assert fleet.web.served == once
    assert fleet.stored == dict.fromkeys(posts_of_all(site), 1)


def assert_each_page_once(workers: Iterable[Worker]) -> None:
    """No page except the index was downloaded twice by these workers."""
    asked = sum((worker.asked for worker in workers), Counter())
    del asked["/"]
    assert set(asked.values()) == {1}


def test_a_fleet_shares_a_site(either_fleet: Fleet) -> None:
    """Four workers download each page once, at least 15 % each, and end by themselves.

    Who is faster, as the machine lets it, waits for the others: there must be pages left for them.
    A worker claims at most 8 pages ahead for each that it downloads at once, and one: three that
    wait hold no more than 84, and 106 are left when they wait no longer.
    """
    fleet, site = either_fleet, graph(PAGES)
    web = fleet.serve(site)
    web.ahead = (0.66 * PAGES, PAGES / 60)
    stats = [worker.wait() for worker in fleet.start_many(4, CONCURRENT_REQUESTS=3)]
    assert_all_is_done_once(fleet, site)
    assert [found["finish_reason"] for found in stats] == ["finished"] * 4
    assert min(sum(paths.values()) for paths in web.asked_by.values()) >= 0.15 * PAGES
    fleet.assert_settled()


@pytest.mark.long
def test_survivors_finish_the_pages_of_the_dead(fleet: Fleet) -> None:
    """Two of four workers are killed: the others do every page whose link they know, and end."""
    web = fleet.serve(graph(400))
    web.most = 200
    workers = fleet.start_many(4, doomed=2)
    wait_until(lambda: web.total > 100)
    dead, survivors = workers[:2], workers[2:]
    for worker in dead:
        assert worker.kill()
    web.most = inf
    stats = [worker.wait() for worker in survivors]
    heard = set().union(*(worker.heard for worker in survivors))
    assert [found["finish_reason"] for found in stats] == ["finished"] * 2
    assert heard <= set(web.served)
    assert posts_of_all(heard) <= set(fleet.stored)
    assert sum(found.get("dedup/requests/taken_over", 0) for found in stats) > 0
    assert_each_page_once(survivors)
    fleet.assert_settled(killed=dead)


@pytest.mark.long
@pytest.mark.parametrize("frozen_for", ["less than a lease", "longer"])
def test_a_frozen_worker_loses_nothing(fleet: Fleet, frozen_for: str) -> None:
    """A worker is frozen and resumes, after its lease or before: all is done, and all end."""
    long = frozen_for == "longer"
    site = graph(400)
    web = fleet.serve(site)
    web.most = 200
    workers = fleet.start_many(3, doomed=1 if long else 0)
    wait_until(lambda: web.total > 100)
    frozen = workers[0]
    frozen.signal(signal.SIGSTOP)
    known, web.most = web.total, inf
    if long:
        stats = [worker.wait() for worker in workers[1:]]  # they take over what it held
        assert sum(found.get("dedup/requests/taken_over", 0) for found in stats) > 0
    else:
        wait_until(lambda: web.total > known + 50)
    frozen.signal(signal.SIGCONT)
    for worker in workers:
        worker.wait()
    assert set(web.served) == set(site)
    assert set(fleet.stored) == posts_of_all(site)
    if long:
        assert_each_page_once(workers[1:])
    else:
        assert_all_is_done_once(fleet, site)
    fleet.assert_settled()


# -- a page that another run is fetching -----------------------------------------------------------


def start_two(
    fleet: Fleet,
    held: Route,
    *,
    of_holder: dict[str, Any] | None = None,
    of_waiter: dict[str, Any] | None = None,
) -> tuple[Worker, Worker, Event]:
    """A worker that holds a page until the event, and one that only waits for that page."""
    site = {
        "/a": posts(links=["/held"]),
        "/b": posts(links=["/1", "/2", "/held", "/3", "/4"]),
        "/held": held,
        **{f"/{number}": page(f"/{number}") for number in range(1, 5)},
    }
    web, go = fleet.serve(site), Event()
    web.gates["/held"] = go.is_set
    holder = fleet.start("/a", **(of_holder or {}))
    wait_until(lambda: web.askers("/held"))
    waiter = fleet.start("/b", CONCURRENT_REQUESTS=1, **(of_waiter or {}))
    wait_until(lambda: fleet.is_idle(waiter))
    return holder, waiter, go


OTHERS = {"/b": 1, "/1": 1, "/2": 1, "/3": 1, "/4": 1}


def test_a_held_page_takes_no_slot(fleet: Fleet) -> None:
    """A held page delays nothing, keeps the spider open, and is dropped when it is done."""
    holder, waiter, go = start_two(fleet, page("/held"))
    assert waiter.asked == OTHERS
    assert waiter.process.is_alive()
    go.set()
    stats = [worker.wait() for worker in (holder, waiter)]
    assert [found["finish_reason"] for found in stats] == ["finished"] * 2
    assert waiter.asked == OTHERS
    assert stats[1]["dedup/requests/in_flight"] == 1
    assert stats[1]["dupefilter/filtered"] == 1
    assert fleet.stored == dict.fromkeys(posts_of_all(["/held", *OTHERS]) - posts_of("/b"), 1)
    fleet.assert_settled()


@pytest.mark.parametrize("fault", ["storage", "download"])
def test_a_held_page_whose_holder_fails_is_fetched(fleet: Fleet, fault: str) -> None:
    """A held page is fetched when the storage of its holder fails, or the download."""
    held = [RESET, page("/held")] if fault == "download" else page("/held")
    refused = ["/held.1"] if fault == "storage" else []
    holder, waiter, go = start_two(fleet, held, of_holder={"refuse": refused})
    go.set()
    stats = [worker.wait() for worker in (holder, waiter)]
    assert waiter.asked == OTHERS | {"/held": 1}
    assert stats[0]["dedup/requests/released"] == stats[1]["dedup/requests/in_flight"] == 1
    assert fleet.stored == dict.fromkeys(posts_of_all(["/held", *OTHERS]) - posts_of("/b"), 1)
    fleet.assert_settled()


@pytest.mark.long
def test_a_held_page_whose_holder_dies_is_taken_over(fleet: Fleet) -> None:
    """A held page is taken over when its holder has died."""
    holder, waiter, go = start_two(fleet, page("/held"), of_holder=SHORT)
    assert holder.kill()
    go.set()
    stats = waiter.wait()
    assert waiter.asked == OTHERS | {"/held": 1}
    assert stats["dedup/requests/taken_over"] == 1
    assert posts_of("/held") <= set(fleet.stored)
    fleet.assert_settled(killed=[holder])


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_waits_can_be_stopped(fleet: Fleet, stop: signal.Signals) -> None:
    """A signal ends a worker that only waits for a held page."""
    holder, waiter, go = start_two(fleet, page("/held"))
    waiter.signal(stop)
    assert waiter.wait()["finish_reason"] == "shutdown"
    go.set()
    holder.wait()
    fleet.assert_settled()


@pytest.mark.parametrize("confirm", ["exported", "manual"])
def test_pages_that_stay_claimed_to_the_end(fleet: Fleet, confirm: str) -> None:
    """Workers whose posts are stored when they close do not wait for each other."""
    site: dict[str, Route] = {f"/{number}": page(f"/{number}", (), 0.02) for number in range(40)}
    web = fleet.serve({"/": posts(links=list(site)), **site})
    storage = {
        "exported": {"ITEM_PIPELINES": {}, "FEEDS": {"posts.jsonl": {"format": "jsonlines"}}},
        "manual": {"ITEM_PIPELINES": {f"{HERE}.LateStore": 300}},
    }[confirm]
    workers = fleet.start_many(3, CONCURRENT_REQUESTS=4, VALKEY_DEDUP_CONFIRM=confirm, **storage)
    stats = [worker.wait() for worker in workers]
    assert [found["finish_reason"] for found in stats] == ["finished"] * 3
    assert web.served == Counter(dict.fromkeys(site, 1)) + Counter({"/": 3})
    if confirm == "manual":
        stored = fleet.stored
    else:
        feeds = [Path(worker.job.directory, "posts.jsonl").read_text() for worker in workers]
        lines = [line for feed in feeds for line in feed.splitlines()]
        stored = Counter(json.loads(line)["post_id"] for line in lines)
    assert stored == dict.fromkeys(posts_of_all(site), 1)
    fleet.assert_settled()


# -- stopped in the middle -------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_fleet_leaves_no_claim_and_goes_on(fleet: Fleet, stop: signal.Signals) -> None:
    """Workers with JOBDIRs are stopped and started again: every page and post is done once."""
    site = graph(300)
    web = fleet.serve(site)
    directories = [str(fleet.directory / f"job-{number}") for number in range(3)]
    web.gates["/"], web.most = lambda: web.askers("/") >= 3, 150
    first = [fleet.start("/", JOBDIR=directory) for directory in directories]
    wait_until(lambda: web.total > 60)
    for worker in first:
        worker.signal(stop)
    web.most = inf
    assert [worker.wait()["finish_reason"] for worker in first] == ["shutdown"] * 3
    fleet.assert_settled()
    assert web.total < 300
    second = [fleet.start(JOBDIR=directory) for directory in directories]
    assert [worker.wait()["finish_reason"] for worker in second] == ["finished"] * 3
    assert web.served == Counter(dict.fromkeys(site, 1)) + Counter({"/": 2})
    assert fleet.stored == dict.fromkeys(posts_of_all(site), 1)
    fleet.assert_settled()


@pytest.mark.long
@pytest.mark.parametrize("fate", ["lives", "dies"])
def test_held_pages_are_in_the_jobdir(fleet: Fleet, fate: str) -> None:
    """A worker stopped while a page is held asks again later, and fetches it if the holder died."""
    jobdir = {"JOBDIR": str(fleet.directory / "job")}
    lease = SHORT if fate == "dies" else {}
    holder, waiter, go = start_two(fleet, page("/held"), of_holder=lease, of_waiter=jobdir)
    waiter.signal(signal.SIGINT)
    assert waiter.wait()["finish_reason"] == "shutdown"
    if fate == "dies":
        assert holder.kill()
        go.set()
    again = fleet.start(**jobdir)  # its queue is all that it has
    if fate == "lives":
        wait_until(lambda: fleet.is_idle(again))
        go.set()
        holder.wait()
    stats = again.wait()
    assert stats["dedup/requests/in_flight"] == 1
    assert again.asked == ({"/held": 1} if fate == "dies" else {})
    assert posts_of("/held") <= set(fleet.stored)
    fleet.assert_settled(killed=[holder] if fate == "dies" else [])


@contextmanager
def proxy(server: ValkeyServer, milliseconds: float) -> Iterator[tuple[str, int]]:
    """Another address of a server, with so much delay in each direction; and its process."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "bench.servers.slow_line",
        str(port),
        str(server.port),
        str(milliseconds),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield server.url_through(port), process.pid
        finally:
            process.kill()


# -- Valkey is away --------------------------------------------------------------------------------


def test_a_stopped_server_stops_no_fleet(fragile: tuple[Fleet, ValkeyServer]) -> None:
    """Valkey is frozen in the middle: pages are fetched unchecked, and claims settle later."""
    fleet, server = fragile
    site = graph(400)
    web = fleet.serve(site)
    web.most = 200
    workers = fleet.start_many(2, CONCURRENT_REQUESTS=4)
    wait_until(lambda: web.total > 60)
    server.freeze()
    web.most += 100
    try:
        wait_until(lambda: all(BEGIN in worker.log for worker in workers))
        known, web.most = web.total, inf
        wait_until(lambda: web.total > known + 40)
    finally:
        server.thaw()
    stats = [worker.wait() for worker in workers]
    assert set(web.served) == set(site)
    assert set(fleet.stored) == posts_of_all(site)
    assert sum(found["dedup/requests/unchecked"] for found in stats) > 0
    assert sum(found.get("dedup/requests/unconfirmed", 0) for found in stats) == 0
    fleet.assert_settled()


def test_a_worker_that_is_cut_off(fleet: Fleet, valkey: ValkeyServer) -> None:
    """One worker loses Valkey for longer than its lease: nothing is lost, its claims settle."""
    site = graph(300)
    web = fleet.serve(site)
    web.gates["/"], web.most = lambda: web.askers("/") >= 2, 150
    with proxy(valkey, 0) as (url, process):
        # Both work slowly: there is much to do yet when they can speak again.
        slow = {"CONCURRENT_REQUESTS": 2}
        other = fleet.start("/", **slow)
        cut = {"VALKEY_DEDUP_URL": url, "VALKEY_DEDUP_TIMEOUT": 0.3}
        worker = fleet.start("/", **cut, **slow, **SHORT)
        wait_until(lambda: web.total > 60)
        os.kill(process, signal.SIGSTOP)
        try:
            web.most = 200
            wait_until(lambda: BEGIN in worker.log)
            web.most = inf
            wait_until(lambda: fleet.beat(worker) is None)
        finally:
            os.kill(process, signal.SIGCONT)
        stats = [each.wait() for each in (worker, other)]
    assert [found["finish_reason"] for found in stats] == ["finished"] * 2
    assert set(web.served) == set(site)
    assert set(fleet.stored) == posts_of_all(site)
    assert BEGIN not in other.log
    assert stats[0]["dedup/requests/unchecked"] > 0
    assert "dedup/requests/unconfirmed" not in stats[0]
    fleet.assert_settled()


def test_a_server_that_is_gone_for_good(fragile: tuple[Fleet, ValkeyServer]) -> None:
    """Valkey is killed in the middle: every page is fetched, every post stored, the workers end."""
    fleet, server = fragile
    site = graph(200)
    web = fleet.serve(site)
    web.most = 100
    workers = fleet.start_many(2)
    wait_until(lambda: web.total > 60)
    server.kill()
    web.most = inf
    stats = [worker.wait() for worker in workers]
    assert [found["finish_reason"] for found in stats] == ["finished"] * 2
    assert set(web.served) == set(site)
    assert set(fleet.stored) == posts_of_all(site)


def test_a_held_page_is_fetched_during_an_outage(
    fragile: tuple[Fleet, ValkeyServer],
) -> None:
    """A worker that waits for a page when Valkey is killed fetches it unchecked, and ends."""
    fleet, server = fragile
    holder, waiter, go = start_two(fleet, page("/held"))
    server.kill()
    wait_until(lambda: waiter.asked["/held"])
    go.set()
    stats = [worker.wait() for worker in (holder, waiter)]
    assert stats[1]["dedup/requests/unchecked"] == 1
    assert posts_of("/held") <= set(fleet.stored)


# -- how far ahead pages are claimed ---------------------------------------------------------------


@pytest.mark.parametrize(
    "polite",
    [
        {"DOWNLOAD_DELAY": 0.05, "RANDOMIZE_DOWNLOAD_DELAY": False},
        {"CONCURRENT_REQUESTS_PER_DOMAIN": 1},
    ],
    ids=lambda polite: next(iter(polite)),
)
def test_a_polite_worker_leaves_pages_to_others(fleet: Fleet, polite: dict[str, Any]) -> None:
    """A slow worker claims only a page or two ahead; a worker that starts later gets its share.

    The first is halted in the middle until its claims are those of pages that it waits for, and
    until the other is there, too.
    """
    site: dict[str, Route] = {f"/{number}": page(f"/{number}", (), 0.1) for number in range(60)}
    web = fleet.serve({"/": posts(links=list(site)), **site})
    both = False
    for path in site:
        web.gates[path] = lambda: both or web.total <= 10
    first = fleet.start("/", **polite)
    wait_until(lambda: web.total > 10)
    wait_until(lambda: 1 <= fleet.pages_claimed[first.run] <= 8)  # CONCURRENT_REQUESTS allows 16
    second = fleet.start("/", **polite)
    wait_until(lambda: second.asked.total() > 1)
    both = True
    for worker in (first, second):
        worker.wait()
    assert second.asked.total() >= 12
    assert web.served == Counter(dict.fromkeys(site, 1)) + Counter({"/": 2})
    fleet.assert_settled()


def test_claiming_ahead_downloads_no_more_at_once(fleet: Fleet, valkey: ValkeyServer) -> None:
    """With Valkey far away, CONCURRENT_REQUESTS downloads run at once, and no more."""
    paths = [f"/{number}" for number in range(60)]
    links = [f"{{site}}{path}" for path in paths] + [f"{{other}}{path}" for path in paths]
    web = fleet.serve({"/": posts(links=links), **{path: page(path, (), 0.05) for path in paths}})
    with proxy(valkey, 20) as (url, _):
        worker = fleet.start("/", CONCURRENT_REQUESTS=4, VALKEY_DEDUP_URL=url)
        worker.wait()
    assert web.most_at_once == 4
    assert web.served == Counter(dict.fromkeys(paths, 2)) + Counter({"/": 1})
    fleet.assert_settled()


def test_a_fleet_far_away_shares_a_site(fleet: Fleet, valkey: ValkeyServer) -> None:
    """With Valkey as far away as the site, four workers download each page once, all get some."""
    site = graph(200)
    web = fleet.serve(site)
    with proxy(valkey, 40) as (url, _):
        for worker in fleet.start_many(4, VALKEY_DEDUP_URL=url):
            worker.wait()
    assert_all_is_done_once(fleet, site)
    assert min(sum(paths.values()) for paths in web.asked_by.values()) >= 0.05 * len(site)
    fleet.assert_settled()


def test_known_pages_far_away_are_asked_for_together(fleet: Fleet, valkey: ValkeyServer) -> None:
    """A worker that knows 300 links, all of them done, asks Valkey in less than 20 round trips.

    Known pages use up no place of a claim: at 9 claims at once it would be 34.
    """
    paths = [f"/{number}" for number in range(300)]
    fleet.serve({"/": posts(links=paths), **{path: page(path) for path in paths}})
    fleet.start("/").wait()
    with proxy(valkey, 40) as (url, _):
        stats = fleet.start("/", VALKEY_DEDUP_URL=url).wait()
    assert stats["dedup/requests/duplicate"] == len(paths)
    assert stats["dedup/valkey/batches"] < 20
    fleet.assert_settled()


# -- redirects -------------------------------------------------------------------------------------


def test_a_page_that_two_runs_are_redirected_to(fleet: Fleet) -> None:
    """It is fetched once if one run comes after the other, by a redirect or by its own URL."""
    web = fleet.serve(
        {
            "/a": posts(links=["/from-a"]),
            "/b": posts(links=["/from-b", "/target"]),
            "/from-a": redirect("{site}/target"),
            "/from-b": redirect("{site}/target"),
            "/target": page("/target"),
        }
    )
    for start in ("/a", "/b"):
        assert fleet.start(start).wait()["finish_reason"] == "finished"
    assert web.served == {"/a": 1, "/b": 1, "/from-a": 1, "/from-b": 1, "/target": 1}
    assert fleet.stored == dict.fromkeys(posts_of("/target"), 1)
    fleet.assert_settled()
