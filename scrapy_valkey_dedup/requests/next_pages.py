"""The next pages that spiders want only if there is something new: ``meta={"dedup": "if_new"}``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from scrapy.http import Request

from scrapy_valkey_dedup.requests.marks import Marks
from scrapy_valkey_dedup.requests.pages import CallbackOutput, Page
from scrapy_valkey_dedup.requests.timelines import Reading, Timelines
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.stats import REQUESTS, Stats

logger = logging.getLogger(__name__)


class NextPages:
    """Sends a next page if the page before it brought a new post, else leaves it out.

    Of a named timeline: unless an earlier reading, which came to its end, has met all the posts of
    the page before it. A page without posts tells nothing of what is below it: the next one is
    sent, up to ``VALKEY_DEDUP_EMPTY_PAGES`` pages without anything.
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
        self._send = send
        self._discard = discard
        self._limit = session.settings.empty_pages
        self._warned = False
        self._timelines: Timelines | None = None
        session.when_ledger_opens(self._open_timelines)
        self._readings: dict[str, Reading] = {}
        self._undecided: set[CallbackOutput] = set()
        self._deciding: set[asyncio.Task[None]] = set()

    def _open_timelines(self) -> None:
        shelf = self._session.shelf("timelines", retention=self._session.settings.retention)
        self._timelines = Timelines(shelf, self._session.outage)
        self._session.flushers.append(self._timelines.flush)

    @property
    def undecided(self) -> bool:
        """Whether there are next pages that may still be sent."""
        return bool(self._undecided)

    # -- a page is scraped -----------------------------------------------------------------------

    def begin(self, request: Request | None, page: Page) -> CallbackOutput:
        """A response has come: maybe the next page of a timeline."""
        output = CallbackOutput(page, partial(self._send_on, page))
        mark = self._marks.reading(request) if request is not None else None
        if request is not None:
            output.empty_before = self._marks.empty_pages(request)
        if request is None or mark is None:
            return output
        if mark.page != self._marks.key(request):
            output.redirects = int(request.meta.get("redirect_times", 0))
        if mark.timeline not in page.readings:
            reading = self._readings.get(mark.timeline)
            if reading is None or not mark.is_mine:  # it was waiting in a JOBDIR
                reading = self._reading(mark.timeline)
                reading.fail()
                reading.expect_page()
            self._join(page, mark.timeline, reading)
        return output

    def let_pass(self, request: Request, output: CallbackOutput, *, is_same_page: bool) -> bool:
        """Whether a next page that a callback wants goes at once; else it waits.

        ``is_same_page``: it is the one that is being scraped, as far as the filter can tell.
        """
        if is_same_page:
            self._mark_page(request, output.page)
        name = self._marks.timeline(request)
        if name is None and output.new:
            self._go_on(output.page, request)
            return True
        self._undecided.add(output)
        if name is None:
            output.waiting.append(request)
            return False
        if name not in output.page.readings:  # the reading begins with this page
            reading = self._reading(name)
            reading.expect_page()
            self._join(output.page, name, reading)
        output.next_pages.append((name, request))
        return False

    def fetch_again(self, request: Request, output: CallbackOutput, first: Request) -> None:
        """A callback wants its page, which came by the request ``first``, once more."""
        output.fetched_again = True
        is_read = self._marks.reading(first) is not None
        self._marks.hand_on(first, request)
        self._mark_page(request, output.page)
        if self._marks.page(request) is not None:
            output.page.begin_attempt()  # the same page, so for its readings, too
        elif is_read:
            for reading in output.page.readings.values():
                reading.expect_page()

    def scraped(self, output: CallbackOutput, *, failed: bool) -> None:
        """Everything of a page has come, and its items have ended."""
        self._doubt_redirect(output)
        for reading in output.page.readings.values():
            reading.meet(output.posts, redirects=output.redirects)
        self._count_empty(output)
        gives_up = not failed and self._gives_up(output)
        if gives_up and (output.waiting or output.next_pages):
            self._give_up(output)
        if failed or (output.says_nothing and not gives_up):
            output.found_new()
        for request in output.waiting:
            self._leave_out(request, output)
        if not output.next_pages:
            self._undecided.discard(output)
            output.page.end_attempt(failed=failed)
            return
        task = asyncio.get_running_loop().create_task(self._read_on(output, failed=failed))
        self._deciding.add(task)
        task.add_done_callback(self._deciding.discard)

    # -- what becomes of its next pages ----------------------------------------------------------

    async def _read_on(self, output: CallbackOutput, *, failed: bool) -> None:
        done = False
        try:
            while output.next_pages:
                name, request = output.next_pages[0]
                known = not failed and await self._is_known(name, output)
                if not output.next_pages:  # sent meanwhile
                    break
                del output.next_pages[0]
                if known:
                    self._leave_out(request, output)
                else:
                    self._send_next(name, request, output)
            done = True
        finally:
            self._undecided.discard(output)
            output.page.end_attempt(failed=failed or not done)

    async def _is_known(self, name: str, output: CallbackOutput) -> bool:
        """Whether what is below a page was read before, or is not to be looked for any more."""
        if output.says_nothing:
            return self._gives_up(output)
        known = self._timelines
        return known is not None and await known.all_met(name, output.posts)

    def _gives_up(self, output: CallbackOutput) -> bool:
        """Whether as many pages without anything have come as one is to read over."""
        return self._limit is not None and 0 < output.empty_pages >= self._limit

    def _give_up(self, output: CallbackOutput) -> None:
        """Too many pages without anything: whether there is something below nobody knows."""
        if not self._limit:
            return  # an empty page is the end, says the user
        for name, _ in output.next_pages:
            output.page.readings[name].fail()
        if not self._warned:
            self._warned = True
            wanted = [*output.waiting, *(request for _, request in output.next_pages)]
            logger.warning(
                "VALKEY_DEDUP_EMPTY_PAGES = %d: so many pages in a row had nothing, and %s is not "
                "sent. What is below them was not read, so this reading is not complete. If an "
                "empty page is the end there, send no next page from it, or set 0; if posts come "
                "below, set a higher number. Further ones are not reported.",
                self._limit,
                wanted[0],
            )

    def _doubt_redirect(self, output: CallbackOutput) -> None:
        """A page that redirects to one without a post and a next page may have met a block page."""
        if output.posts or output.fetched_again:
            return
        goes_on = {name for name, _ in output.next_pages}
        for name, reading in output.page.readings.items():
            if name not in goes_on and not reading.is_usual(output.redirects):
                reading.fail()

    def _leave_out(self, request: Request, output: CallbackOutput) -> None:
        after_empty = self._limit and self._gives_up(output)
        self._stats.count(REQUESTS.after_empty if after_empty else REQUESTS.not_new)
        self._discard(request)

    def _send_next(self, name: str, request: Request, output: CallbackOutput) -> None:
        self._marks.put_reading(request, name)
        if self._marks.page(request) is None:  # else it goes on with a page of the reading
            output.page.readings[name].expect_page()
        self._send_on(output.page, request)

    def _send_on(self, page: Page, request: Request) -> None:
        self._go_on(page, request)
        self._send(request)

    def _go_on(self, page: Page, request: Request) -> None:
        """A next page is sent, which for the filter may be the same page."""
        if self._marks.page(request) is not None:
            page.begin_attempt()

    def _count_empty(self, output: CallbackOutput) -> None:
        """Has its next pages know how many pages without anything came before them."""
        for request in (*output.waiting, *(request for _, request in output.next_pages)):
            self._marks.put_empty_pages(request, output.empty_pages)

    def _mark_page(self, request: Request, page: Page) -> None:
        """Has a request go on with a page, if this run has claimed it."""
        self._marks.remove_page(request)
        if page.claims:
            self._marks.put(request, page.claims[0].key)

    # -- the end ---------------------------------------------------------------------------------

    def forget(self) -> None:
        """Nothing is under way: what a reading still waits for does not come, the next is new."""
        self._readings.clear()

    def send_undecided(self) -> None:
        """The spider is stopped: what is not decided yet belongs in the JOBDIR."""
        for output in self._undecided:
            self._count_empty(output)  # its items have ended, though nobody was told yet
            output.found_new()
            next_pages, output.next_pages = output.next_pages, []
            for name, request in next_pages:
                self._send_next(name, request, output)
        self._undecided.clear()

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
        if reading.page_done(well=well) and self._timelines is not None:
            self._timelines.remember(reading)
        if reading.ended and self._readings.get(reading.name) is reading:
            del self._readings[reading.name]
