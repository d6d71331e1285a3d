"""The next pages that spiders want only if there is something new: ``meta={"dedup": "if_new"}``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from scrapy.http import Request

from scrapy_valkey_dedup.marks import Marks
from scrapy_valkey_dedup.pages import Page, Visit
from scrapy_valkey_dedup.session import Session
from scrapy_valkey_dedup.stats import REQUESTS, Stats
from scrapy_valkey_dedup.timelines import Reading


class NextPages:
    """Sends a next page if the page before it brought a new post, else leaves it out.

    Of a named timeline: unless an earlier reading, which came to its end, has met all the posts of
    the page before it.
    """

    def __init__(
        self,
        session: Session,
        stats: Stats,
        marks: Marks,
        *,
        send: Callable[[Request], None],
        discard: Callable[[Request], None],
    ) -> None:
        """``discard`` wakes the engine, which may have nothing else to do but to close."""
        self._session = session
        self._stats = stats
        self._marks = marks
        self.send = send
        self._discard = discard
        self._readings: dict[str, Reading] = {}
        self._undecided: set[Visit] = set()
        self._deciding: set[asyncio.Task[None]] = set()

    @property
    def undecided(self) -> bool:
        """Whether there are next pages that may still be sent."""
        return bool(self._undecided)

    def begin(self, request: Request | None, visit: Visit) -> None:
        """A response has come: maybe the next page of a timeline."""
        mine = self._marks.reading(request) if request is not None else None
        name = self._marks.timeline(request) if request is not None else None
        if mine is None or name is None or name in visit.page.readings:
            return
        reading = self._readings.get(name)
        if reading is None or not mine:  # it was waiting in a JOBDIR
            reading = self._reading(name)
            reading.fail()
            reading.expect_page()
        self._join(visit.page, name, reading)

    def let_pass(self, request: Request, visit: Visit) -> bool:
        """Whether a next page that a callback wants goes at once; else it waits."""
        name = self._marks.timeline(request)
        if name is None and visit.new:
            return True
        self._undecided.add(visit)
        if name is None:
            visit.waiting.append(request)
            return False
        if name not in visit.page.readings:  # the reading begins with this page
            reading = self._reading(name)
            reading.expect_page()
            self._join(visit.page, name, reading)
        visit.next_pages.append((name, request))
        return False

    def fetch_again(self, visit: Visit) -> None:
        """A callback wants the page itself once more."""
        for reading in visit.page.readings.values():
            reading.expect_page()

    def scraped(self, visit: Visit, *, failed: bool) -> None:
        """Everything of a page has come, and its items have ended."""
        for reading in visit.page.readings.values():
            reading.meet(visit.posts)
        if failed or visit.says_nothing:
            visit.found_new()
        for request in visit.waiting:
            self._leave_out(request)
        if not visit.next_pages:
            self._undecided.discard(visit)
            visit.page.end_leg(failed=failed)
            return
        task = asyncio.get_running_loop().create_task(self._read_on(visit, failed=failed))
        self._deciding.add(task)
        task.add_done_callback(self._deciding.discard)

    async def _read_on(self, visit: Visit, *, failed: bool) -> None:
        done = False
        try:
            while visit.next_pages:
                name, request = visit.next_pages[0]
                known = not (failed or visit.says_nothing) and await self._all_met(name, visit)
                if not visit.next_pages:  # sent meanwhile
                    break
                del visit.next_pages[0]
                if known:
                    self._leave_out(request)
                else:
                    self._send_next(name, request, visit)
            done = True
        finally:
            self._undecided.discard(visit)
            visit.page.end_leg(failed=failed or not done)

    def _leave_out(self, request: Request) -> None:
        self._stats.count(REQUESTS.not_new)
        self._discard(request)

    def _send_next(self, name: str, request: Request, visit: Visit) -> None:
        visit.page.readings[name].expect_page()
        self._marks.put_reading(request)
        self.send(request)

    def forget(self) -> None:
        """Nothing is under way: what a reading still waits for does not come, the next is new."""
        self._readings.clear()

    def send_undecided(self) -> None:
        """The spider is stopped: what is not decided yet belongs in the JOBDIR."""
        for visit in self._undecided:
            visit.found_new()
            next_pages, visit.next_pages = visit.next_pages, []
            for name, request in next_pages:
                self._send_next(name, request, visit)
        self._undecided.clear()

    async def _all_met(self, name: str, visit: Visit) -> bool:
        timelines = self._session.timelines
        if not visit.posts:
            return True  # an empty page: the timeline ends here
        return timelines is not None and await timelines.all_met(name, visit.posts)

    def _reading(self, name: str) -> Reading:
        """The reading that is under way, or a new one."""
        reading = self._readings.get(name)
        if reading is None or reading.ended:
            reading = self._readings[name] = Reading(name)
        return reading

    def _join(self, page: Page, name: str, reading: Reading) -> None:
        page.readings[name] = reading
        page.watch(partial(self._page_done, reading))

    def _page_done(self, reading: Reading, well: bool) -> None:  # noqa: FBT001 (a callback)
        timelines = self._session.timelines
        if reading.page_done(well=well) and timelines is not None:
            timelines.remember(reading)
        if reading.ended and self._readings.get(reading.name) is reading:
            del self._readings[reading.name]
