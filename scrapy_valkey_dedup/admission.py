"""When a request may claim its page: just before its download, and early enough to lose no time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import ceil, inf
from typing import Any

from scrapy.http import Request

_LOOK = 1.0  # seconds
_NEWEST = 0.1  # the weight of the newest of the times measured, against all before it


@dataclass(eq=False)
class Place:
    """A request's place in the order of admission."""

    request: Request
    slot: str
    allowed: asyncio.Future[None]
    taken: bool = field(default=False)
    """It may ask for its page, or it is being downloaded."""


class Admission:
    """Lets as many requests claim their page as can be downloaded at once, and a few ahead.

    Without a limit here a run would claim pages that only wait for a free slot of the downloader,
    or for ``DOWNLOAD_DELAY``, while the other runs of its fleet have nothing to do. With none ahead
    a download would begin only when Valkey has answered: with Valkey 20 ms away and pages that take
    50 ms a third of the downloads would be missing. So the downloader may take that many more
    requests from the scheduler, and who has claimed its page waits here until the downloads are
    fewer than the user's own ``CONCURRENT_REQUESTS``.
    """

    def __init__(self, downloader: Any, delay: float = 0.0, *, extends: bool = True) -> None:
        """``downloader``: the engine's. One of another kind that has no such limits gets none.

        ``delay``: that of a site which has no slot in the downloader yet. ``extends``: whether the
        downloader may take more requests from the scheduler than the user allows to download.
        """
        self._downloader = downloader
        self._delay = delay
        self._extends = extends
        self._limit: int = getattr(downloader, "total_concurrency", 0)
        self._answer_time = 0.0
        self._download_time: float | None = None  # not known yet
        self._taken: Counter[str] = Counter()
        self._waiting: defaultdict[str, deque[Place]] = defaultdict(deque)
        self._claimed: deque[tuple[Request, asyncio.Future[None]]] = deque()
        self._outside: set[Request] = set()
        """Who is in the downloader's middlewares, but does not download yet."""

    async def place(self, request: Request, task: asyncio.Task[Any]) -> None:
        """Waits until a request may ask for its page; ``task`` runs its download to the end."""
        loop = asyncio.get_running_loop()
        place = Place(request, self._downloader.get_slot_key(request), loop.create_future())
        self._outside.add(request)
        task.add_done_callback(partial(self._leave, place))
        self._waiting[place.slot].append(place)
        self._allow(place.slot)
        await place.allowed

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around a question to Valkey: how long the answer takes decides how many go ahead."""
        clock = asyncio.get_running_loop().time
        began = clock()
        yield
        self._answer_time += _NEWEST * (clock() - began - self._answer_time)
        if self._limit and self._extends:
            self._downloader.total_concurrency = self._limit + self._ahead(self._limit)

    async def turn(self, request: Request) -> None:
        """Waits until one more download is within the limit."""
        turn = asyncio.get_running_loop().create_future()
        self._outside.add(request)
        self._claimed.append((request, turn))
        self.left()
        try:
            while not turn.done():
                # Nobody tells of the end of requests that another middleware answers before ours.
                await asyncio.wait([turn], timeout=_LOOK)
                self.left()
        finally:
            turn.cancel()
            self._outside.discard(request)

    def took(self, seconds: float | None) -> None:
        """How long a download took."""
        if seconds and self._download_time is None:
            self._download_time = seconds
        elif seconds and self._download_time is not None:
            self._download_time += _NEWEST * (seconds - self._download_time)

    def left(self, _: object = None) -> None:
        """A download has ended: who has waited longest for his turn is next."""
        while self._claimed and (not self._limit or self._downloads < self._limit):
            request, turn = self._claimed.popleft()
            if not turn.done():
                self._outside.discard(request)
                turn.set_result(None)

    @property
    def _downloads(self) -> int:
        """The requests that are being downloaded, with those for media and robots.txt."""
        active: set[Request] = self._downloader.active
        return len(active) - len(active & self._outside)

    def _leave(self, place: Place, _: object) -> None:
        self._outside.discard(place.request)
        if place.taken:
            self._taken[place.slot] -= 1
        else:
            self._waiting[place.slot].remove(place)
        self._allow(place.slot)
        if (
            not self._taken[place.slot] and not self._waiting[place.slot]
        ):  # a broad crawl has a million of them
            del self._taken[place.slot], self._waiting[place.slot]
        self.left()

    def _allow(self, slot: str) -> None:
        waiting, room = self._waiting[slot], self._room(slot)
        while waiting and self._taken[slot] < room:
            place = waiting.popleft()
            place.taken = True
            self._taken[slot] += 1
            if not place.allowed.done():
                place.allowed.set_result(None)

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

    def _ahead(self, downloads: int) -> int:
        """How many pages are claimed while others are downloaded: Little's law, and one more."""
        if self._download_time is None:
            return 1
        return 1 + min(ceil(downloads * self._answer_time / self._download_time), downloads)
