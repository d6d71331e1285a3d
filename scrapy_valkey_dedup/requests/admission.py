"""When a request may claim its page: just before its download, and early enough to lose no time."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import ceil, inf
from typing import Any, Protocol

from scrapy.http import Request

_LOOK = 1.0  # seconds
_NEWEST = 0.1  # the weight of the newest of the times measured, against all before it


class Queue(Protocol):
    """The requests that the engine will take, as it finds room for them."""

    def next_priority(self) -> int | None:
        """That of the request which comes next; None if no request may be taken at this moment."""

    def take(self) -> None:
        """Has the engine take that request now."""


@dataclass(eq=False)
class ClaimWait:
    """A request's place in the order of admission."""

    request: Request
    slot: str
    allowed: asyncio.Future[None]
    taken: bool = field(default=False)
    """It may ask for its page, or it is being downloaded."""


@dataclass(eq=False)
class DownloadWait:
    """Of a request that has claimed its page, or claims none, and waits until it may download."""

    request: Request
    given: asyncio.Future[None]


def _urgency(waiting: ClaimWait | DownloadWait) -> int:
    """The urgent come first, and among equals who has waited longest."""
    return -waiting.request.priority


class Admission:
    """Lets as many requests claim their page as can be downloaded at once, and a few ahead.

    Without a limit here a run would claim pages that only wait for a free slot of the downloader,
    or for ``DOWNLOAD_DELAY``, while the other runs of its fleet have nothing to do. With none ahead
    a download would begin only when Valkey has answered: with Valkey 20 ms away and pages that take
    50 ms a third of the downloads would be missing. So when the engine has taken as many requests
    as the user's ``CONCURRENT_REQUESTS``, this has it take a few more from the scheduler, and a
    request that has claimed its page waits here until the downloads are fewer than that.

    The engine's own limit stays what the user has set: it backs out as in plain Scrapy, so a
    ``start()`` that asks it does not run ahead. And urgent requests are not overtaken: each is
    taken and let through as if those of less priority that wait here were still in the scheduler.
    """

    def __init__(self, downloader: Any, delay: float = 0.0, *, queue: Queue | None = None) -> None:
        """``downloader``: the engine's. One of another kind that has no such limits gets none.

        ``delay``: that of a site which has no slot in the downloader yet. ``queue``: from which a
        few more requests are taken; None if they cannot be.
        """
        self._downloader = downloader
        self._delay = delay
        self._queue = queue
        self._will_look = False
        self._limit: int = getattr(downloader, "total_concurrency", 0)
        self._answer_time = 0.0
        self._download_time: float | None = None  # not known yet
        self._taken: Counter[str] = Counter()
        self._waiting: defaultdict[str, list[ClaimWait]] = defaultdict(list)
        self._claimed: list[DownloadWait] = []
        self._outside: set[Request] = set()
        """Who is in the downloader's middlewares, but does not download yet."""
        self._early: dict[Request, ClaimWait] = {}
        """Of these, who has taken a place."""

    # -- asking for a page -----------------------------------------------------------------------

    async def wait_to_claim(self, request: Request, task: asyncio.Task[Any]) -> None:
        """Waits until a request may ask for its page; ``task`` runs its download to the end."""
        loop = asyncio.get_running_loop()
        place = ClaimWait(request, self._downloader.get_slot_key(request), loop.create_future())
        self._outside.add(request)
        task.add_done_callback(partial(self._leave, place))
        insort(self._waiting[place.slot], place, key=_urgency)
        self._allow(place.slot)
        self.look_ahead()
        await place.allowed

    @contextmanager
    def timing_claim(self) -> Iterator[None]:
        """Around a question to Valkey: how long the answer takes decides how many go ahead."""
        clock = asyncio.get_running_loop().time
        began = clock()
        yield
        self._answer_time += _NEWEST * (clock() - began - self._answer_time)
        self.look_ahead()

    def _leave(self, place: ClaimWait, _: object) -> None:
        self._outside.discard(place.request)
        self._early.pop(place.request, None)
        if place.taken:
            self._taken[place.slot] -= 1
        else:
            self._waiting[place.slot].remove(place)
        self._allow(place.slot)
        if (
            not self._taken[place.slot] and not self._waiting[place.slot]
        ):  # a broad crawl has a million of them
            del self._taken[place.slot], self._waiting[place.slot]
        self.download_ended()

    def _allow(self, slot: str) -> None:
        waiting, room = self._waiting[slot], self._room(slot)
        while waiting and self._taken[slot] < room + self._less_urgent_than(waiting[0]):
            place = waiting.pop(0)
            place.taken = True
            self._taken[slot] += 1
            self._early[place.request] = place
            if not place.allowed.done():
                place.allowed.set_result(None)

    def _less_urgent_than(self, place: ClaimWait) -> int:
        """How many of the same site have taken a place, and would yield the download to it."""
        return sum(
            early.slot == place.slot and early.request.priority < place.request.priority
            for early in self._early.values()
        )

    def _room(self, key: str) -> float:
        """How many requests of a downloader slot may hold their pages."""
        slot = getattr(self._downloader, "slots", {}).get(key)
        if slot is None:
            concurrency = getattr(self._downloader, "domain_concurrency", 0)
            own = getattr(self._downloader, "per_slot_settings", {}).get(key, {})
            concurrency = own.get("concurrency", concurrency)
            delay = own.get("delay", self._delay)
        else:
            concurrency, delay = slot.concurrency, slot.delay
        if not concurrency:
            return inf
        if delay:  # the downloads are fewer: one begins with each delay
            concurrency = min(concurrency, ceil((self._download_time or delay) / delay))
        return float(concurrency + self._ahead(concurrency))

    # -- the download ----------------------------------------------------------------------------

    async def wait_to_download(self, request: Request) -> None:
        """Waits until one more download is within the limit."""
        turn = DownloadWait(request, asyncio.get_running_loop().create_future())
        self._outside.add(request)
        insort(self._claimed, turn, key=_urgency)
        self.download_ended()
        try:
            while not turn.given.done():
                # Nobody tells of the end of requests that another middleware answers before ours.
                await asyncio.wait([turn.given], timeout=_LOOK)
                self.download_ended()
        finally:
            turn.given.cancel()
            self._begin(request)

    def download_took(self, seconds: float | None) -> None:
        """How long a download took."""
        if seconds and self._download_time is None:
            self._download_time = seconds
        elif seconds and self._download_time is not None:
            self._download_time += _NEWEST * (seconds - self._download_time)

    def download_ended(self, _: object = None) -> None:
        """A download has ended, or a question: the most urgent of those who wait is next."""
        while self._claimed and (not self._limit or self._downloads < self._limit):
            if self._claimed[0].given.done():  # cancelled
                self._claimed.pop(0)
            elif self._is_overtaken(self._claimed[0]):
                break
            else:
                turn = self._claimed.pop(0)
                self._begin(turn.request)
                turn.given.set_result(None)
        self.look_ahead()

    def _begin(self, request: Request) -> None:
        self._outside.discard(request)
        self._early.pop(request, None)

    def _is_overtaken(self, turn: DownloadWait) -> bool:
        """Whether a more urgent request will have its answer in a moment.

        The first of those who have theirs is asked for: so who is more urgent is still asking.
        """
        return any(request.priority > turn.request.priority for request in self._early)

    @property
    def _downloads(self) -> int:
        """The requests that are being downloaded, with those for media and robots.txt."""
        active: set[Request] = self._downloader.active
        return len(active) - len(active & self._outside)

    # -- going ahead -----------------------------------------------------------------------------

    def look_ahead(self) -> None:
        """Looks, in a moment, whether more requests may be taken: the engine has the first say."""
        if self._queue is not None and self._limit and not self._will_look:
            self._will_look = True
            asyncio.get_running_loop().call_soon(self._take_ahead, self._queue)

    def _take_ahead(self, queue: Queue) -> None:
        self._will_look = False
        active: set[Request] = self._downloader.active
        while len(active) >= self._limit and (priority := queue.next_priority()) is not None:
            yielding = sum(request.priority < priority for request in self._outside)
            if len(active) - yielding >= self._limit + self._ahead(self._limit):
                break
            before = len(active)
            queue.take()
            if len(active) <= before:  # a downloader of another kind
                break

    def _ahead(self, downloads: int) -> int:
        """How many pages are claimed while others are downloaded: Little's law, and one more."""
        if self._download_time is None:
            return 1
        return 1 + min(ceil(downloads * self._answer_time / self._download_time), downloads)
