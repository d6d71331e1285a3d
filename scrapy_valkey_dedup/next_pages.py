"""The next pages that spiders want only if there is something new: ``meta={"dedup": "if_new"}``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from scrapy.http import Request

from scrapy_valkey_dedup.pages import Visit
from scrapy_valkey_dedup.session import Session
from scrapy_valkey_dedup.stats import REQUESTS, Stats
from scrapy_valkey_dedup.timelines import Reading

TIMELINE = "dedup_timeline"
"""The key in ``meta`` by which a request of this kind names the timeline that it reads on."""
READING = "_dedup_reading"
"""The key by which such a request carries the run that reads, also through a JOBDIR."""


class NextPages:
    """Sends a next page if the page before it brought a new post, else leaves it out.

    Of a named timeline: unless an earlier reading, which came to its end, has met all the posts of
    the page before it.
    """

    def __init__(
        self,
        session: Session,
        stats: Stats,
        spider: str,
        send: Callable[[Request], None],
        discard: Callable[[Request], None],
    ) -> None:
        """``discard`` wakes the engine, which may have nothing else to do but to close."""
        self._session = session
        self._stats = stats
        self._spider = spider
        self._send = send
        self._discard = discard
        self._readings: dict[str, Reading] = {}
        self._deciding: set[asyncio.Task[None]] = set()

    @property
    def deciding(self) -> bool:
        """Whether it is still being found out if a next page is sent."""
        return bool(self._deciding)

    def begin(self, request: Request | None, visit: Visit) -> None:
        """A response has come: maybe the next page of a timeline."""
        run = request.meta.get(READING) if request is not None else None
        if request is None or run is None:
            return
        name = str(request.meta.get(TIMELINE))
        reading = self._readings.get(name)
        if reading is None or run != self._session.run:  # it was waiting in a JOBDIR
            reading = self._reading(name)
            reading.fail()
            reading.expect_page()
        self._join(visit, name, reading)

    def let_pass(self, request: Request, visit: Visit) -> bool:
        """Whether a next page that a callback wants goes at once; else it waits."""
        name = request.meta.get(TIMELINE)
        if name is None:
            if not visit.new:
                visit.waiting.append(request)
            return visit.new
        name = str(name)
        if name not in visit.readings:  # the reading begins with this page
            reading = self._reading(name)
            reading.expect_page()
            self._join(visit, name, reading)
        visit.next_pages.append((name, request))
        return False

    def fetch_again(self, visit: Visit) -> None:
        """A callback wants the page itself once more."""
        for reading in visit.readings.values():
            reading.expect_page()

    def scraped(self, visit: Visit, *, failed: bool) -> None:
        """Everything of a page has come, and its items have ended."""
        for reading in visit.readings.values():
            reading.meet(visit.posts)
        if failed or visit.says_nothing:
            visit.found_new()
        self._stats.count_some(REQUESTS.not_new, len(visit.waiting))
        if not visit.next_pages:
            visit.page.end_leg(failed=failed)
            return
        task = asyncio.get_running_loop().create_task(self._read_on(visit, failed=failed))
        self._deciding.add(task)
        task.add_done_callback(self._deciding.discard)

    async def _read_on(self, visit: Visit, *, failed: bool) -> None:
        try:
            for name, request in visit.next_pages:
                if failed or visit.says_nothing or not await self._all_met(name, visit):
                    visit.readings[name].expect_page()
                    request.meta[READING] = self._session.run
                    self._send(request)
                else:
                    self._stats.count(REQUESTS.not_new)
                    self._discard(request)
        finally:
            visit.page.end_leg(failed=failed)

    async def _all_met(self, name: str, visit: Visit) -> bool:
        timelines = self._session.timelines
        if not visit.posts:
            return True  # an empty page: the timeline ends here
        return timelines is not None and await timelines.all_met(self._full(name), visit.posts)

    def _reading(self, name: str) -> Reading:
        return self._readings.setdefault(name, Reading(self._full(name)))

    def _full(self, name: str) -> str:
        """Another spider reads other things from a timeline of the same name."""
        return f"{self._spider} {name}"

    def _join(self, visit: Visit, name: str, reading: Reading) -> None:
        visit.readings[name] = reading
        visit.page.watch(partial(self._page_done, reading))

    def _page_done(self, reading: Reading, well: bool) -> None:  # noqa: FBT001 (a callback)
        timelines = self._session.timelines
        if reading.page_done(well=well) and timelines is not None:
            timelines.remember(reading)
