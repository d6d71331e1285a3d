"""What happens just before a download, where its page is claimed, and when it has ended."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from scrapy.http import Request, Response

from scrapy_valkey_dedup.model import Answer, DuplicatePage, Key, Verdict
from scrapy_valkey_dedup.requests.admission.admission import Admission
from scrapy_valkey_dedup.requests.in_progress import PagesInProgress
from scrapy_valkey_dedup.requests.meta.marks import Marks
from scrapy_valkey_dedup.requests.meta.options import RequestOptions
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.requests.redirects import Redirects
from scrapy_valkey_dedup.requests.rescheduling import Rescheduling
from scrapy_valkey_dedup.requests.states import RequestState, RequestStates
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims


class Downloads:
    """The requests that are in the downloader middlewares, and the pages that they are for.

    Scrapy runs all of a request's download in one task of the event loop (2.14 to 2.19, with and
    without a reactor). A callback of that task is called however the download ends.
    """

    def __init__(  # noqa: PLR0913 (all are keywords)
        self,
        *,
        claims: Claims,
        admission: Admission,
        options: RequestOptions,
        marks: Marks,
        states: RequestStates,
        pages: PagesInProgress,
        redirects: Redirects,
        rescheduling: Rescheduling,
    ) -> None:
        self._claims = claims
        self._admission = admission
        self._options = options
        self._marks = marks
        self._states = states
        self._pages = pages
        self._redirects = redirects
        self._rescheduling = rescheduling
        self._page_of_response: WeakKeyDictionary[Response, Page] = WeakKeyDictionary()

    # -- before ----------------------------------------------------------------------------------

    async def prepare(self, request: Request, task: asyncio.Task[Any]) -> Request | None:
        """Waits until a request may be downloaded, by ``task``; claims its page, if it has one.

        Returns None; or the request, which is not downloaded but goes back to the scheduler.

        Raises:
            DuplicatePage: its page is known, and its errback is to be called.

        """
        state = self._states.pop(request)
        key, page = self._marks.page(request), self._pages.of(request)
        self._marks.restore_filter(request)
        if page is not None and page.scheduled:
            page.scheduled -= 1
            if not await self._redirects.may_follow(page, request):
                return request
            self._begin(page, task)
        elif key is not None and (self._pages.is_queued(key) or not self._marks.is_mine(request)):
            return await self._prepare_claimed(request, key, task, state)
        else:
            self._marks.remove_page(request)  # it may be a copy of another request's meta
        task.add_done_callback(self._admission.download_ended)
        if state is not None:
            # A request without a state is one that a component waits for, such as robots.txt. If
            # it waited here for requests that wait for robots.txt, all would wait forever.
            await self._admission.wait_to_download(request)
        return None

    async def _prepare_claimed(
        self, request: Request, key: Key, task: asyncio.Task[Any], state: RequestState | None
    ) -> Request | None:
        if self._marks.is_mine(request):
            self._pages.unqueue(key)
        if state is RequestState.KNOWN_ERRBACK:
            raise DuplicatePage("another run has fetched it")
        self._marks.mark_page(request, key)  # from a JOBDIR it has the mark of an earlier run
        look = partial(self._look, key)
        found: Answer | None = await self._admission.wait_to_claim(request, task, look)
        if found is not None:
            self._claims.heed_look(key, found)
            self._give_back(request, key, found)
            return request
        page = await self._claim(request, key)
        if page is None:
            return request
        page.target = self._options.page_key(request)  # not the key, if a redirect was in a JOBDIR
        self._begin(page, task)
        await self._admission.wait_to_download(request)
        return None

    async def _look(self, key: Key) -> Answer | None:
        answer = await self._claims.look(key)
        return None if answer.verdict is Verdict.NEW else answer

    async def _claim(self, request: Request, key: Key) -> Page | None:
        with self._admission.timing_claim():
            outcome = await self._claims.attempt(key)
        self._admission.claim_answered(request, granted=isinstance(outcome, Claim))
        if isinstance(outcome, Claim):
            return self._pages.add(outcome)
        self._give_back(request, key, outcome)
        return None

    def _give_back(self, request: Request, key: Key, answer: Answer) -> None:
        """The page is known, or held by another run."""
        if answer.verdict is Verdict.HELD:
            self._rescheduling.hold(request, key, answer.holder)
        elif self._options.wants_errback(request):
            raise DuplicatePage("it is known")
        else:
            self._rescheduling.drop(request)

    def look_ahead(self) -> None:
        """The scheduler has one more request, which may be ready for its claim."""
        self._admission.look_ahead()

    # -- after -----------------------------------------------------------------------------------

    def _begin(self, page: Page, task: asyncio.Task[Any]) -> None:
        page.downloading += 1
        task.add_done_callback(partial(self._ended, page))

    def _ended(self, page: Page, download: asyncio.Task[Response | Request]) -> None:
        """All downloader middlewares are through with a request."""
        page.downloading -= 1
        if download.cancelled() or download.exception() is not None:
            page.end_attempt(failed=True)
            return
        result = download.result()
        if isinstance(result, Request):
            self._redirects.returned(page, result)
            return
        self._page_of_response[result] = page

    def pop_page(self, response: Response) -> Page | None:
        """The page that a response is for, once; None if it has none."""
        if response.request is not None:
            self._admission.download_took(response.request.meta.get("download_latency"))
        return self._page_of_response.pop(response, None)
