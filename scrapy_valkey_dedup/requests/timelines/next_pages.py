"""Decides which next pages are sent: requests with ``meta={"dedup": "if_new"}``."""

from __future__ import annotations

import asyncio
from functools import partial

from scrapy.http import Request

from scrapy_valkey_dedup.requests.callback_output import CallbackOutput
from scrapy_valkey_dedup.requests.meta.marks import Marks
from scrapy_valkey_dedup.requests.meta.options import RequestOptions
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.requests.rescheduling import Rescheduling
from scrapy_valkey_dedup.requests.timelines.empty_pages import EmptyPageLimit
from scrapy_valkey_dedup.requests.timelines.readings import Readings
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.stats import REQUESTS, Stats


class NextPages:
    """Sends a next page if the page before it has a new post, else leaves it out.

    In a named timeline, a post is new unless an earlier reading that was complete has met it. A
    page without posts says nothing about the pages below it: the next one is sent, up to
    ``VALKEY_DEDUP_EMPTY_PAGES`` empty pages in a row.
    """

    def __init__(
        self,
        session: Session,
        stats: Stats,
        options: RequestOptions,
        marks: Marks,
        rescheduling: Rescheduling,
    ) -> None:
        self._stats = stats
        self._options = options
        self._marks = marks
        self._rescheduling = rescheduling
        self._readings = Readings(session)
        self._limit = EmptyPageLimit(session.settings.empty_pages)
        self._undecided: set[CallbackOutput] = set()
        self._deciding: set[asyncio.Task[None]] = set()

    @property
    def undecided(self) -> bool:
        """Whether there are next pages that may still be sent."""
        return bool(self._undecided)

    # -- a page is scraped -----------------------------------------------------------------------

    def begin(self, request: Request | None, page: Page) -> CallbackOutput:
        """A response has come: it may be the next page of a timeline."""
        output = CallbackOutput(page, partial(self._continue, page))
        if request is None:
            return output
        output.empty_before = self._marks.empty_pages(request)
        mark = self._marks.reading(request)
        if mark is not None:
            if mark.page != self._options.page_key(request):
                output.redirects = int(request.meta.get("redirect_times", 0))
            self._readings.add_next_page(mark, page)
        return output

    def passes(self, request: Request, output: CallbackOutput, *, is_same_page: bool) -> bool:
        """Whether a next page that a callback yields is sent at once; if not, it waits.

        ``is_same_page``: its key is that of the page that is being scraped.
        """
        if is_same_page:
            self._mark_page(request, output.page)
        name = self._options.timeline(request)
        if name is None and output.new:
            self._begin_attempt(output.page, request)
            return True
        self._undecided.add(output)
        if name is None:
            output.waiting.append(request)
        else:
            self._readings.begin(name, output.page)
            output.next_pages.append((name, request))
        return False

    def fetch_again(self, request: Request, output: CallbackOutput, first: Request) -> None:
        """A callback requests its own page again, which the request ``first`` has fetched."""
        output.fetched_again = True
        is_read = self._marks.reading(first) is not None
        self._marks.continue_readings(first, request)
        self._mark_page(request, output.page)
        if self._marks.page(request) is not None:
            output.page.begin_attempt()  # its readings wait for the page
        elif is_read:
            for reading in output.page.readings.values():
                reading.expect_page()

    def scraped(self, output: CallbackOutput, *, failed: bool) -> None:
        """The output for a response is complete, and its items have ended."""
        self._doubt_redirect(output)
        for reading in output.page.readings.values():
            reading.meet(output.posts, redirects=output.redirects)
        self._count_empty(output)
        gives_up = not failed and self._limit.is_reached(output)
        if gives_up and (output.waiting or output.next_pages):
            self._give_up(output)
        if failed or (output.has_no_post and not gives_up):
            output.found_new()
        for request in output.waiting:
            self._leave_out(request, output)
        if not output.next_pages:
            self._undecided.discard(output)
            output.page.end_attempt(failed=failed)
            return
        task = asyncio.get_running_loop().create_task(self._decide(output, failed=failed))
        self._deciding.add(task)
        task.add_done_callback(self._deciding.discard)

    # -- its next pages in named timelines -------------------------------------------------------

    async def _decide(self, output: CallbackOutput, *, failed: bool) -> None:
        done = False
        try:
            while output.next_pages:
                name, request = output.next_pages[0]
                known = not failed and await self._is_known(name, output)
                if not output.next_pages:  # sent in the meantime
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
        """Whether the pages below were read before, or are given up."""
        if output.has_no_post:
            return self._limit.is_reached(output)
        return await self._readings.all_met(name, output.posts)

    def _give_up(self, output: CallbackOutput) -> None:
        """There were too many empty pages: it is unknown whether posts are below them."""
        if self._limit.is_end:
            return
        for name, _ in output.next_pages:
            output.page.readings[name].fail()
        self._limit.warn([*output.waiting, *(request for _, request in output.next_pages)][0])

    def _doubt_redirect(self, output: CallbackOutput) -> None:
        """A reading fails if its page redirects to one that may be a block page.

        That is one without a post and without a next page, unless pages with posts redirect, too.
        """
        if output.posts or output.fetched_again:
            return
        continued = {name for name, _ in output.next_pages}
        for name, reading in output.page.readings.items():
            if name not in continued and not reading.is_usual(output.redirects):
                reading.fail()

    # -- sending ---------------------------------------------------------------------------------

    def _leave_out(self, request: Request, output: CallbackOutput) -> None:
        after_empty = self._limit.is_reached(output) and not self._limit.is_end
        self._stats.count(REQUESTS.after_empty if after_empty else REQUESTS.not_new)
        self._rescheduling.leave_out(request)

    def _send_next(self, name: str, request: Request, output: CallbackOutput) -> None:
        self._marks.mark_reading(request, name)
        if self._marks.page(request) is None:  # else it continues a page of the reading
            output.page.readings[name].expect_page()
        self._continue(output.page, request)

    def _continue(self, page: Page, request: Request) -> None:
        self._begin_attempt(page, request)
        self._rescheduling.send(request)

    def _begin_attempt(self, page: Page, request: Request) -> None:
        """A next page is sent. If it has the key of the page itself, it is an attempt of that."""
        if self._marks.page(request) is not None:
            page.begin_attempt()

    def _count_empty(self, output: CallbackOutput) -> None:
        """Notes in the next pages how many empty pages came before them."""
        for request in (*output.waiting, *(request for _, request in output.next_pages)):
            self._marks.mark_empty_pages(request, output.empty_pages)

    def _mark_page(self, request: Request, page: Page) -> None:
        """Marks a request for a page, if this run has claimed it."""
        self._marks.remove_page(request)
        if page.claims:
            self._marks.mark_page(request, page.claims[0].key)

    # -- the end ---------------------------------------------------------------------------------

    def forget_readings(self) -> None:
        """Nothing is in progress: pages that a reading still expects will not come."""
        self._readings.forget()

    def send_undecided(self) -> None:
        """The spider is stopped: next pages that are not decided go to the ``JOBDIR``."""
        for output in self._undecided:
            self._count_empty(output)  # its items may have ended, which is not told yet
            output.found_new()
            next_pages, output.next_pages = output.next_pages, []
            for name, request in next_pages:
                self._send_next(name, request, output)
        self._undecided.clear()
