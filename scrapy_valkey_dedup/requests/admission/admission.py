"""When a request may claim its page: just before its download, and early enough to lose no time."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from scrapy.crawler import Crawler
from scrapy.http import Request
from scrapy.utils.job import job_dir

from scrapy_valkey_dedup.requests.admission.download_limits import DownloadLimits
from scrapy_valkey_dedup.requests.admission.engine_queue import EngineQueue
from scrapy_valkey_dedup.requests.admission.gathering import Gathering
from scrapy_valkey_dedup.requests.admission.lookups import Look, PageLookups
from scrapy_valkey_dedup.requests.admission.waits import ClaimWait, DownloadWait, urgency

_CHECK = 1.0  # seconds
_FAR = 0.01
"""Seconds that Valkey takes to answer: from here on it matters which of a fleet's workers asks."""


class Queue(Protocol):
    """The requests that the engine takes when it has room for them."""

    def next_priority(self) -> int | None:
        """The priority of the next request; None if no request may be taken now."""

    def take(self) -> None:
        """Lets the engine take that request now."""


def _most_urgent(waiting: Sequence[ClaimWait]) -> list[asyncio.Future[Any]]:
    """Those at the beginning that are as urgent as the first."""
    return [
        wait.allowed for wait in waiting if wait.request.priority == waiting[0].request.priority
    ]


class Admission:
    """Lets as many requests claim their page as can be downloaded at once, and a few ahead.

    Without a limit here a run would claim pages that only wait for a free slot of the downloader,
    or for ``DOWNLOAD_DELAY``, while the other runs of its fleet have nothing to do. So when the
    engine has taken as many requests as the user's ``CONCURRENT_REQUESTS``, it takes only a few
    more from the scheduler; a request that has claimed its page waits here for a free download.

    The engine's own limit stays what the user has set: ``needs_backout()`` answers as in plain
    Scrapy, so a ``start()`` that asks it does not run ahead. And urgent requests are not overtaken:
    each is taken and let through as if less urgent requests that wait here were still in the
    scheduler.
    """

    def __init__(self, downloader: Any, delay: float = 0.0, *, queue: Queue | None = None) -> None:
        """``downloader`` and ``delay``: see :class:`DownloadLimits`.

        ``queue``: a few more requests are taken from it; None if none can be.
        """
        self._limits = DownloadLimits(downloader, delay)
        self._queue = queue
        self._checks_queue = False
        self._allowed: Counter[str] = Counter()
        """How many requests of a slot may claim their page, or have claimed it."""
        self._waiting: defaultdict[str, list[ClaimWait]] = defaultdict(list)
        self._lookups = PageLookups(self._begun_meanwhile, self.look_ahead)
        self._gathering = Gathering(self._gathered)
        self._claimed: list[DownloadWait] = []
        self._not_downloading: set[Request] = set()
        """Requests in the downloader middlewares whose download has not begun."""
        self._claiming: dict[Request, ClaimWait] = {}
        """Of these, the requests that may claim their page, or have claimed it."""

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Admission:
        """For the downloader and the scheduler of a crawl."""
        engine, settings = crawler.engine, crawler.settings
        assert engine is not None  # noqa: S101
        delay = float(getattr(crawler.spider, "download_delay", settings["DOWNLOAD_DELAY"]))
        if settings.getbool("AUTOTHROTTLE_ENABLED"):
            delay = max(delay, settings.getfloat("AUTOTHROTTLE_START_DELAY"))
        # A disk queue returns other objects than it was given: they would look like requests that
        # a component waits for, which must not wait here.
        queue = None if job_dir(settings) else EngineQueue(engine)
        return cls(engine.downloader, delay, queue=queue)

    def expect(self, answer: float) -> None:
        """Valkey takes about so many seconds to answer; nothing has been claimed so far.

        If that is long, the run expects a fleet whose workers all begin with the same links: it
        claims some by chance, and looks up the others. In order, one worker would get them all.
        """
        if answer >= _FAR:
            self._limits.expect_answer(answer)
            self._lookups.expect_a_fleet()
            self._gathering.begin()

    # -- claiming a page -------------------------------------------------------------------------

    async def wait_to_claim(self, request: Request, task: asyncio.Task[Any], look: Look) -> Any:
        """Waits until a request may claim its page; ``task`` runs its download to the end.

        Its page may be looked up meanwhile. Returns what was found if it need not be claimed.
        """
        allowed = asyncio.get_running_loop().create_future()
        wait = ClaimWait(request, self._limits.slot_of(request), allowed)
        self._not_downloading.add(request)
        task.add_done_callback(partial(self._task_ended, wait))
        insort(self._waiting[wait.slot], wait, key=urgency)
        self._allow_claims(wait.slot)
        if not allowed.done():
            self._lookups.add(allowed, look)
        self.download_ended()  # until now it counted as a download
        return await allowed

    @contextmanager
    def timing_claim(self) -> Iterator[None]:
        """Around a claim: how long the answer takes decides how many are claimed ahead."""
        clock = asyncio.get_running_loop().time
        began = clock()
        yield
        self._limits.answer_took(clock() - began)
        self.look_ahead()

    def claim_answered(self, request: Request, *, granted: bool) -> None:
        """How many are granted decides how many are claimed ahead, and looked up."""
        self._limits.claim_was(granted=granted)
        wait = self._claiming.get(request)
        if wait is not None and not wait.was_looked_up:
            self._lookups.count(free=granted)
        if wait is not None and granted:
            self._allow_claims(wait.slot)

    def _begun_meanwhile(self) -> float:
        return self._limits.begun_meanwhile_in(self._waiting)

    def _task_ended(self, wait: ClaimWait, _: object) -> None:
        self._stop_waiting(wait.request)
        self._lookups.end(wait.allowed)
        slot = wait.slot
        if wait.is_allowed:
            self._allowed[slot] -= 1
        else:
            self._waiting[slot].remove(wait)
        self._allow_claims(slot)
        if not self._allowed[slot] and not self._waiting[slot]:
            del self._allowed[slot], self._waiting[slot]  # a broad crawl has a million of them
        self.download_ended()

    def _allow_claims(self, slot: str) -> None:
        if self._gathering.goes_on():
            return
        waiting, limit = self._waiting[slot], self._limits.claims(slot)
        while waiting and self._allowed[slot] < limit + self._less_urgent_than(waiting[0]):
            wait = waiting.pop(self._lookups.choose(_most_urgent(waiting)))
            wait.is_allowed = True
            wait.was_looked_up = self._lookups.end(wait.allowed)
            self._allowed[slot] += 1
            self._claiming[wait.request] = wait
            if not wait.allowed.done():
                wait.allowed.set_result(None)

    def _gathered(self) -> None:
        for slot in list(self._waiting):
            self._allow_claims(slot)
        self._lookups.begin()

    def _less_urgent_than(self, wait: ClaimWait) -> int:
        """How many requests of the same slot will let this one be downloaded first."""
        return sum(
            other.slot == wait.slot and other.request.priority < wait.request.priority
            for other in self._claiming.values()
        )

    # -- the download ----------------------------------------------------------------------------

    async def wait_to_download(self, request: Request) -> None:
        """Waits until one more download is within the limit."""
        wait = DownloadWait(request, asyncio.get_running_loop().create_future())
        self._not_downloading.add(request)
        insort(self._claimed, wait, key=urgency)
        self.download_ended()
        try:
            while not wait.allowed.done():
                # The end of a request that another middleware answers before ours is not told.
                await asyncio.wait([wait.allowed], timeout=_CHECK)
                self.download_ended()
        finally:
            wait.allowed.cancel()
            self._stop_waiting(request)

    def download_took(self, seconds: float | None) -> None:
        """How long a download took, if that is known."""
        self._limits.download_took(seconds)

    def download_ended(self, _: object = None) -> None:
        """A download may have ended: the most urgent request that waits is next."""
        limit = self._limits.total
        while self._claimed and (not limit or self._downloads < limit):
            if self._claimed[0].allowed.done():  # cancelled
                self._claimed.pop(0)
            elif self._is_overtaken(self._claimed[0]):
                break
            else:
                wait = self._claimed.pop(0)
                self._stop_waiting(wait.request)
                wait.allowed.set_result(None)
        self.look_ahead()

    def _stop_waiting(self, request: Request) -> None:
        self._not_downloading.discard(request)
        self._claiming.pop(request, None)

    def _is_overtaken(self, wait: DownloadWait) -> bool:
        """Whether a more urgent request will have claimed its page in a moment.

        ``wait`` is the most urgent of those that have. So a more urgent one is still claiming.
        """
        return any(request.priority > wait.request.priority for request in self._claiming)

    @property
    def _downloads(self) -> int:
        """The requests that are being downloaded, including those for media and robots.txt."""
        active = self._limits.active()
        return len(active) - len(active & self._not_downloading)

    # -- going ahead -----------------------------------------------------------------------------

    def look_ahead(self) -> None:
        """Checks, a moment later, whether more requests may be taken; the engine comes first."""
        if self._queue is not None and self._limits.total and not self._checks_queue:
            self._checks_queue = True
            asyncio.get_running_loop().call_soon(self._take_ahead, self._queue)

    def _take_ahead(self, queue: Queue) -> None:
        self._checks_queue = False
        active, limit = self._limits.active(), self._limits.total
        ahead = self._limits.ahead(limit) + self._lookups.ahead
        while len(active) >= limit and (priority := queue.next_priority()) is not None:
            less_urgent = sum(request.priority < priority for request in self._not_downloading)
            if len(active) - less_urgent >= limit + ahead:
                break
            before = len(active)
            queue.take()
            if len(active) <= before:  # another kind of downloader
                break
