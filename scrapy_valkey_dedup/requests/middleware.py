"""The asynchronous half of the request filter: no page is fetched twice by a fleet.

Scrapy runs all of a request's download in one task of the event loop (2.14 to 2.19, with and
without a reactor). The middleware adds a callback to it, which so is called however the
download ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary, ref

from scrapy import signals, version_info
from scrapy.crawler import Crawler
from scrapy.exceptions import DontCloseSpider, IgnoreRequest
from scrapy.http import Request, Response
from scrapy.utils.defer import deferred_from_coro
from scrapy.utils.job import job_dir
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.model import DedupError, DuplicatePage, Key, Token, Verdict
from scrapy_valkey_dedup.requests.admission import Admission
from scrapy_valkey_dedup.requests.held_pages import HeldPages
from scrapy_valkey_dedup.requests.lookahead import EngineQueue
from scrapy_valkey_dedup.requests.marks import Marks
from scrapy_valkey_dedup.requests.next_pages import NextPages
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.requests.scraping import Scraping
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.refusals import refused
from scrapy_valkey_dedup.session.registry import session_of, spider_name
from scrapy_valkey_dedup.stats import REQUESTS, Stats

logger = logging.getLogger(__name__)

_middlewares: WeakKeyDictionary[Crawler, ref[RequestDedupMiddleware]] = WeakKeyDictionary()


def _refuse_other_filters(crawler: Crawler) -> None:
    path = crawler.settings["DUPEFILTER_CLASS"]
    if not getattr(load_object(path), "marks_requests", False):
        cure = (
            "set scrapy_valkey_dedup.DupeFilter or a class that extends it, or "
            "VALKEY_DEDUP_REQUESTS = 'off'"
        )
        fault = f"DUPEFILTER_CLASS = {path!r} cannot share requests with a fleet: {cure}"
        raise refused(crawler, [fault])


class RequestDedupMiddleware:
    """Claims a page just before its download, and settles the claim when its items are settled.

    For both ``DOWNLOADER_MIDDLEWARES`` and ``SPIDER_MIDDLEWARES``, closest to the engine. Scrapy
    gets one object for the two. ``docs/requests.md`` describes what it does.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._session = session_of(crawler)
        self._settings = settings = self._session.settings
        self._stats = Stats(crawler.stats)
        self.asks = settings.pages_are_shared
        """Whether Valkey is asked about requests."""
        if self.asks:
            _refuse_other_filters(crawler)
            self._session.when_ledger_opens(self._open_claims)
        self._marks = Marks(crawler, settings, spider_name(crawler), self._session.run)
        self._pages: dict[Key, Page] = {}
        self._waiting: Counter[Key] = Counter()
        """Pages whose requests wait in the scheduler since they passed the filter."""
        self._page_of_response: WeakKeyDictionary[Response, Page] = WeakKeyDictionary()
        self._targets: WeakValueDictionary[Key, Page] = WeakValueDictionary()
        """By the page that a redirect leads to: the first page under way that leads there."""
        self._held_pages: HeldPages | None = None
        # What is known of requests that come, or come again, to the filter. By object, not in their
        # meta, which spiders copy.
        self._held: WeakSet[Request] = WeakSet()
        self._scheduled: WeakSet[Request] = WeakSet()
        self._dropped: WeakSet[Request] = WeakSet()
        self._redirected: WeakSet[Request] = WeakSet()
        self._refused: WeakSet[Request] = WeakSet()
        self._next_pages = NextPages(
            self._session,
            self._stats,
            self._marks,
            send=self._send,
            discard=self._discard,
        )
        self._scraping = Scraping(crawler, self._session, self._marks, self._next_pages)
        if version_info < (2, 16):
            self._take_synchronous_output()
        if job_dir(crawler.settings):
            self._session.before_scheduler_closes.append(self._put_back)
        crawler.signals.connect(self._request_scheduled, signals.request_scheduled)
        crawler.signals.connect(self._spider_opened, signals.spider_opened)
        crawler.signals.connect(self._spider_idle, signals.spider_idle)
        crawler.signals.connect(self._spider_closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> RequestDedupMiddleware:
        """Built by Scrapy, twice; returns the crawler's one object."""
        known = _middlewares.get(crawler)
        middleware = known() if known is not None else None
        if middleware is None:
            middleware = cls(crawler)
            _middlewares[crawler] = ref(middleware)
        return middleware

    # -- the beginning ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects to Valkey."""
        try:
            await self._session.open()
        except DedupError:
            if self._session.has_pipeline:
                # It will raise the same, and other pipelines, which Scrapy closes, are open then.
                return
            raise
        self._held_pages = HeldPages(
            self._claims, self._session.beat_of, lambda: self._session.idle, self._resolve
        )
        engine = self._crawler.engine
        assert engine is not None  # noqa: S101
        # From a disk queue come other objects than went in: those could not be told from requests
        # that some component waits for, and have to wait for a turn of their own.
        queue = None if job_dir(self._crawler.settings) else EngineQueue(engine)
        self._admission = Admission(engine.downloader, self._first_delay(), queue=queue)

    def _open_claims(self) -> None:
        kept = self._settings.request_retention
        self._claims = self._session.shelf_claims("pages", REQUESTS, retention=kept)

    def _first_delay(self) -> float:
        """The delay with which Scrapy begins at a site, in seconds."""
        settings = self._crawler.settings
        delay = getattr(self._crawler.spider, "download_delay", settings["DOWNLOAD_DELAY"])
        if settings.getbool("AUTOTHROTTLE_ENABLED"):
            return max(float(delay), settings.getfloat("AUTOTHROTTLE_START_DELAY"))
        return float(delay)

    def _spider_opened(self) -> None:
        if self.asks and self._held_pages is None:
            logger.error(
                "The scheduler has not opened DUPEFILTER_CLASS, so requests cannot be shared with "
                "the fleet: call super().open() and super().from_crawler() in a class that extends "
                "scrapy_valkey_dedup.DupeFilter, and use a SCHEDULER that opens its filter."
            )
            engine = self._crawler.engine
            assert engine is not None  # noqa: S101
            # Scrapy 2.14 does not heed a CloseSpider here.
            self._closing = deferred_from_coro(
                engine.close_spider_async(reason="dupefilter_not_opened")
            )
        if self.asks and job_dir(self._crawler.settings) and not self._session.has_pipeline:
            logger.warning(
                "JOBDIR without DedupPipeline in ITEM_PIPELINES: pages that are set aside when the "
                "spider is stopped will not be in its queue when it goes on."
            )

    # -- the filter's part -----------------------------------------------------------------------

    def tell_pages_apart_by(self, fingerprint: Callable[[Request], bytes]) -> None:
        """Has the fleet go by the fingerprint that the filter itself goes by."""
        self._marks.fingerprint = fingerprint

    def is_known(self, request: Request) -> bool:
        """Whether the fleet was asked about a request and knows its page."""
        return request in self._dropped

    def mark(self, request: Request, *, seen: bool) -> None:
        """A request has come to the filter, which has ``seen`` it or lets it pass."""
        if not self.asks:
            return
        page = self._page_of(request)
        if page is not None and page.downloading:  # a redirect carries its page on
            self._lead(page, self._marks.key(request))
            if not seen:
                self._redirected.add(request)
        elif not seen and self._marks.is_subject(request):
            self._mark_as_waiting(request)
        else:
            self._marks.remove_page(request)

    def _lead(self, page: Page, target: Key) -> None:
        """A redirect leads from a page to another."""
        first = self._targets.setdefault(target, page)
        if first is not page:
            first.shares_target = page.shares_target = True

    def _mark_as_waiting(self, request: Request) -> None:
        key = self._marks.key(request)
        self._marks.put(request, key)
        self._waiting[key] += 1

    def _page_of(self, request: Request) -> Page | None:
        """The page of this run that a request is marked with."""
        key = self._marks.page(request)
        return self._pages.get(key) if key is not None and self._marks.is_mine(request) else None

    def _request_scheduled(self, request: Request) -> None:
        if request in self._held:
            self._held.discard(request)
            raise IgnoreRequest("set aside, or left out because there is nothing new")
        if not self.asks:
            self._marks.warn_if_ignored(request)
            return
        self._scheduled.add(request)
        if self._held_pages is not None:
            self._admission.look_ahead()
        if self._marks.is_included(request) and self._page_of(request) is None:
            self._mark_as_waiting(request)

    # -- before the download ---------------------------------------------------------------------

    async def process_request(self, request: Request) -> Request | None:
        """Lets a request go on, or gives it back to the scheduler, where it is dropped."""
        await self._session.resumed()
        task = asyncio.current_task()
        if self._held_pages is None or task is None:
            return None
        self._session.idle = False
        is_scheduled = request in self._scheduled
        self._scheduled.discard(request)
        key, page = self._marks.page(request), self._page_of(request)
        if key is not None:
            self._marks.restore(request)
        if page is not None and page.scheduled:
            page.scheduled -= 1
            if await self._leads_to_known_page(request, page):
                return request
            self._begin_download(page, task)
        elif key is not None and (key in self._waiting or not self._marks.is_mine(request)):
            return await self._claim_page(request, key, task)
        elif key is not None:
            self._marks.remove_page(request)  # copied with the meta of another request
        task.add_done_callback(self._admission.download_ended)
        if is_scheduled:
            # The others come from components that wait for them: to wait here for requests that
            # wait for robots.txt would be to wait for ever.
            await self._admission.wait_to_download(request)
        return None

    async def _claim_page(
        self, request: Request, key: Key, task: asyncio.Task[Any]
    ) -> Request | None:
        if self._marks.is_mine(request):
            self._stop_waiting(key)
        if request in self._refused:
            raise DuplicatePage("another run has fetched it")
        self._marks.put(request, key)  # in the place of an earlier run's, from the JOBDIR
        await self._admission.wait_to_claim(request, task)
        page = await self._claim(request, key)
        if page is None:
            return request
        page.target = self._marks.key(request)  # a redirect that waited in the JOBDIR has another
        self._begin_download(page, task)
        await self._admission.wait_to_download(request)
        return None

    def _stop_waiting(self, key: Key) -> None:
        self._waiting[key] -= 1
        if self._waiting[key] <= 0:
            del self._waiting[key]

    def _begin_download(self, page: Page, task: asyncio.Task[Any]) -> None:
        page.downloading += 1
        task.add_done_callback(partial(self._downloaded, page))

    async def _claim(self, request: Request, key: Key) -> Page | None:
        with self._admission.timing_claim():
            outcome = await self._claims.attempt(key)
        if isinstance(outcome, Claim):
            return self._add_page(outcome)
        if outcome.verdict is Verdict.HELD:
            self._hold(request, key, outcome.holder)
        elif self._marks.wants_errback(request):
            raise DuplicatePage("it is known")
        else:
            self._drop(request)
        return None

    def _hold(self, request: Request, key: Key, holder: Token) -> None:
        self._stats.count(REQUESTS.in_flight)
        assert self._held_pages is not None  # noqa: S101 (else no request comes as far as this)
        self._held_pages.add(key, request, holder)
        self._held.add(request)

    def _add_page(self, claim: Claim) -> Page:
        page = Page(claim, only_if_stored=self._settings.requests == "stored")
        self._pages[claim.key] = page
        claim.watch(lambda _: self._forget(claim.key))
        return page

    def _forget(self, key: Key) -> None:
        self._pages.pop(key, None)

    async def _leads_to_known_page(self, request: Request, page: Page) -> bool:
        """A redirect: claims the page that it leads to, too. Returns whether it is not to go on."""
        page.target = key = self._marks.key(request)
        if page.has(key) or not self._marks.is_subject(request):
            return False
        self._lead(page, key)
        try:
            outcome = await self._claims.attempt(key)
        except BaseException:  # cancelled: no download of it has begun that could end
            page.end_attempt(failed=True)
            raise
        if isinstance(outcome, Claim):
            page.claims.append(outcome)
            return False
        if outcome.verdict is Verdict.SEEN:
            self._drop(request)
            page.end_attempt(failed=True)  # the target may be a block page
        else:
            page.target_is_held = True
            self._hold(request, key, outcome.holder)
        return True

    def _resolve(self, request: Request, outcome: Claim | Verdict) -> None:
        """It is known what becomes of a page that was set aside."""
        page = self._page_of(request)  # one that leads there by a redirect
        if page is not None:
            page.target_is_held = False
        if isinstance(outcome, Claim):
            self._session.idle = False
            if page is None:
                page = self._add_page(outcome)
            else:
                page.claims.append(outcome)
            page.scheduled += 1
            self._marks.pass_filter(request)
        elif page is None and outcome is Verdict.SEEN and self._marks.wants_errback(request):
            self._refuse(request)
        else:
            self._drop(request)
            if page is not None:
                page.end_attempt(failed=True)
        self._send(request)

    def _drop(self, request: Request) -> None:
        """Has the filter drop a request when it comes to the scheduler again."""
        request.dont_filter = False  # a retry has it
        self._dropped.add(request)

    def _refuse(self, request: Request) -> None:
        """Has a request refused when it comes from the scheduler again: its errback is called."""
        key = self._marks.page(request)
        assert key is not None  # noqa: S101 (marked before it was set aside)
        self._waiting[key] += 1
        self._refused.add(request)
        self._marks.pass_filter(request)

    def _discard(self, request: Request) -> None:
        """Has the engine look whether there is anything left to do."""
        self._held.add(request)
        self._send(request)

    def _send(self, request: Request) -> None:
        engine = self._crawler.engine
        if engine is not None and engine.spider is not None:
            engine.crawl(request)

    # -- after the download ----------------------------------------------------------------------

    def _downloaded(self, page: Page, download: asyncio.Task[Response | Request]) -> None:
        """All downloader middlewares are through with a request."""
        page.downloading -= 1
        if download.cancelled() or download.exception() is not None:
            page.end_attempt(failed=True)
            return
        result = download.result()
        if isinstance(result, Response):
            self._page_of_response[result] = page
            if result.request is not None:
                self._admission.download_took(result.request.meta.get("download_latency"))
        elif self._page_of(result) is not page:
            page.end_attempt(failed=True)  # a middleware has made another request of it
        elif result.dont_filter or result in self._redirected:
            page.scheduled += 1
        else:  # It leads to what this process has seen, or off-site: nothing is fetched for it.
            page.end_attempt(failed=True)

    # -- the response ----------------------------------------------------------------------------

    def process_spider_input(self, response: Response) -> None:
        """The scraping of a response begins."""
        self._scraping.begin(response, self._page_of_response.pop(response, Page()))

    async def process_spider_output(
        self, response: Response, result: AsyncIterator[Any]
    ) -> AsyncIterator[Any]:
        """Hands everything on, but for the requests that wait for something new."""
        with self._scraping.output_of(response) as goes:
            async for output in result:
                if goes(output):
                    yield output

    def _hand_on_synchronously(self, response: Response, result: Iterable[Any]) -> Iterable[Any]:
        with self._scraping.output_of(response) as goes:
            yield from filter(goes, result)

    def _take_synchronous_output(self) -> None:
        """Before Scrapy 2.16: lets a synchronous callback's output stay synchronous.

        There what ``process_spider_exception`` recovers from such a callback is lost if a
        middleware closer to the engine has made it asynchronous. A subclass that has an output
        method of its own is called as it is written.
        """
        ours = RequestDedupMiddleware.process_spider_output
        if type(self).process_spider_output is ours:
            self.process_spider_output_async = self.process_spider_output
            self.process_spider_output = self._hand_on_synchronously  # type: ignore[assignment, method-assign]

    # -- the end ---------------------------------------------------------------------------------

    def _spider_idle(self) -> None:
        """Nothing is under way: what nobody has ended will not end, what is held is waited for."""
        if self._next_pages.undecided:
            raise DontCloseSpider("it is not known yet whether a next page is sent")
        if not self._scraping.busy:  # Scrapy may come to this a moment before the end is told here
            for page in list(self._pages.values()):
                page.give_up()
            if not self._held_pages:
                self._next_pages.forget()
        if self._held_pages and not self._session.idle:
            self._held_pages.hurry()
        self._session.idle = bool(self._held_pages)
        if self._session.idle:
            raise DontCloseSpider("pages that other runs are at must be known to be done")

    def _put_back(self) -> None:
        """The spider is stopped: what is set aside or not decided yet belongs in the JOBDIR."""
        self._next_pages.send_undecided()
        for request in self._held_pages.take_all() if self._held_pages is not None else ():
            self._marks.pass_filter(request)
            self._send(request)

    def _spider_closed(self) -> None:
        if self._held_pages is not None:
            self._held_pages.close()
