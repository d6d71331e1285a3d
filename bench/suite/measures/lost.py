"""Posts lost and stored twice when something fails: two runs over a site, a fault in the first.

The storage fails for half of the posts; the spider is killed; the server is away for two seconds;
or several spiders crawl the same site at once. The second run meets no fault. A post is lost if no
run has stored it, and doubled for each further copy. Each post has a page of its own, so that ways
that ask about pages are not at a disadvantage.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.crawls.helpers import helper
from bench.servers import ValkeyServer, free_port, wait_for
from bench.suite.peers import Usable
from bench.suite.processes import CrawlError, Spider, crawl
from bench.suite.results import Row
from bench.suite.sizes import Sizes
from bench.suite.spider import Job
from bench.suite.ways import OURS, PLAIN, Place

STORAGE, KILLED, OUTAGE, RACE = "the storage fails", "SIGKILL", "Valkey is away", "race"
LOST, DOUBLED, SECONDS = "lost", "doubled", "seconds of both runs"
_AT_ONCE = 3
"""Trials: the processes wait most of the time."""
_STORE_SECONDS, _ANSWER_MS = 0.02, 20
_FAULT_AFTER = 0.4  # of the posts are stored
_AWAY_SECONDS = 2.0
_TIMEOUT = 120.0
_LISTED = 100


@dataclass(frozen=True)
class Trial:
    """One way and one fault, with a server, a site and a folder of its own."""

    usable: Usable
    fault: str
    posts: int
    racers: int

    def run(self) -> tuple[int, int, float, list[str]]:
        """Returns the posts lost and doubled, the seconds it took, and what was odd."""
        began = time.monotonic()
        with ExitStack() as stack:
            scene = Scene(stack, self)
            odd = [text for text in getattr(scene, _DEEDS[self.fault])() if text]
            copies = Counter(scene.stored())
        lost = self.posts - len(copies)
        return lost, copies.total() - len(copies), time.monotonic() - began, odd


class Scene:
    """What a trial needs."""

    def __init__(self, stack: ExitStack, trial: Trial) -> None:
        self._stack, self._trial = stack, trial
        self._server = stack.enter_context(ValkeyServer(port=free_port(), persistent=True))
        self._folder = Path(stack.enter_context(TemporaryDirectory(prefix="svd-bench-")))
        lists = -(-trial.posts // _LISTED)
        site = free_port()
        links = ("--lists", lists, "--listed", _LISTED)
        helper(stack, "crawls.site", site, trial.posts, 1, "--delay", _ANSWER_MS, *links)
        store = str(self._folder / "stored")
        self._job = Job(site, lists, self._settings(""), store=store, store_seconds=_STORE_SECONDS)

    def _settings(self, machine: str) -> dict[str, object]:
        """A way that shares nothing has a folder for each machine."""
        shared = self._trial.usable.way.shares
        folder = self._folder / ("remembered" if shared else f"remembered{machine}")
        return self._trial.usable.settings(Place(self._server.port or 0, "posts", str(folder)))

    def stored(self) -> list[int]:
        """The posts that were stored, with their copies."""
        path = Path(self._job.store)
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def storage_fails(self) -> Iterator[str]:
        """Half of the posts are not stored by the first run."""
        yield self._crawl(replace(self._job, fail_odd=True))
        yield self._crawl(self._job)

    def killed(self) -> Iterator[str]:
        """The first run is killed in its midst."""
        with self._spider(self._job) as spider:
            spider.wait_until_ready().go()
            self._wait_for_the_midst()
        yield self._crawl(self._job)

    def outage(self) -> Iterator[str]:
        """The server is away in the midst of the first run."""
        with self._spider(self._job) as spider:
            spider.wait_until_ready().go()
            self._wait_for_the_midst()
            self._server.kill()
            back = threading.Timer(_AWAY_SECONDS, self._server.start)
            back.start()
            try:
                yield self._outcome(spider)
            finally:
                back.join()
        yield self._crawl(self._job)

    def race(self) -> Iterator[str]:
        """Spiders on several machines crawl the site at once, and one more later."""
        racers = [
            self._stack.enter_context(
                self._spider(replace(self._job, settings=self._settings(str(number))))
            )
            for number in range(self._trial.racers)
        ]
        for racer in racers:
            racer.wait_until_ready()
        for racer in racers:
            racer.go()
        for racer in racers:
            yield self._outcome(racer)
        yield self._crawl(replace(self._job, settings=self._settings("0")))

    def _wait_for_the_midst(self) -> None:
        enough = self._trial.posts * _FAULT_AFTER
        wait_for(lambda: len(self.stored()) >= enough, _TIMEOUT, "the midst of the crawl")

    def _spider(self, job: Job) -> Spider:
        return Spider(job, self._trial.usable.environment)

    def _outcome(self, spider: Spider) -> str:
        """What went wrong beside the fault: a spider that hangs or crashes."""
        try:
            spider.outcome(_TIMEOUT)
        except CrawlError as error:
            return str(error)
        return ""

    def _crawl(self, job: Job) -> str:
        try:
            crawl(job, self._trial.usable.environment, _TIMEOUT)
        except CrawlError as error:
            return str(error)
        return ""


_DEEDS = {
    STORAGE: Scene.storage_fails.__name__,
    KILLED: Scene.killed.__name__,
    OUTAGE: Scene.outage.__name__,
    RACE: Scene.race.__name__,
}


def _is_tried(usable: Usable, fault: str, sizes: Sizes) -> bool:
    if not sizes.all_faults and usable.way is not OURS:
        return fault == STORAGE
    return fault != OUTAGE or usable.way.shares


def measure(row: Row, sizes: Sizes, usable: Iterable[Usable]) -> Iterator[str]:
    """All ways and all faults, some at once: no time is measured that a target is about."""
    ways = [way for way in usable if way.way is not PLAIN or way.newest]
    trials = [
        Trial(way, fault, sizes.fault_posts, sizes.racers)
        for way in ways
        for fault in _DEEDS
        for _ in range(sizes.kills if fault == KILLED else 1)
        if _is_tried(way, fault, sizes)
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = {pool.submit(trial.run): trial for trial in trials}
        for done in as_completed(running):
            trial = running[done]
            lost, doubled, seconds, odd = done.result()
            for what, value in ((LOST, lost), (DOUBLED, doubled), (SECONDS, seconds)):
                row.add(what, trial.fault, trial.usable.label, 0, value)
            for text in dict.fromkeys(odd):
                row.note(f"{trial.usable.label}, {trial.fault}: {text}")
            assert not (lost and trial.usable.way is OURS), f"{lost} posts lost: {trial.fault}"
            yield f"{trial.usable.label}, {trial.fault}: {lost} lost, {doubled} doubled"
