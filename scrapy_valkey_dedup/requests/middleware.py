"""The middleware that Scrapy calls: claims pages before their download, follows them to the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary, ref

from scrapy import signals, version_info
from scrapy.crawler import Crawler
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Request, Response
from scrapy.utils.defer import deferred_from_coro
from scrapy.utils.job import job_dir
from scrapy.utils.misc import load_object

from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.requests.admission.admission import Admission
from scrapy_valkey_dedup.requests.closing import Closing
from scrapy_valkey_dedup.requests.downloads import Downloads
from scrapy_valkey_dedup.requests.in_progress import PagesInProgress
from scrapy_valkey_dedup.requests.meta.marks import Marks
from scrapy_valkey_dedup.requests.meta.options import RequestOptions
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.requests.redirects import Redirects
from scrapy_valkey_dedup.requests.rescheduling import Rescheduling
from scrapy_valkey_dedup.requests.scheduling import Scheduling
from scrapy_valkey_dedup.requests.scraping import Scraping
from scrapy_valkey_dedup.requests.states import RequestStates
from scrapy_valkey_dedup.requests.timelines.next_pages import NextPages
from scrapy_valkey_dedup.session.refusals import refused
from scrapy_valkey_dedup.session.registry import session_of, spider_name
from scrapy_valkey_dedup.stats import REQUESTS, Stats

logger = logging.getLogger(__name__)

_middlewares: WeakKeyDictionary[Crawler, ref[RequestDedupMiddleware]] = WeakKeyDictionary()


def _refuse_other_filters(crawler: Crawler) -> None:
    path = crawler.settings["DUPEFILTER_CLASS"]
    if not getattr(load_object(path), "marks_requests", False):
        cure = (
            "set scrapy_valkey_dedup.DupeFilter or a subclass of it, or "
            "VALKEY_DEDUP_REQUESTS = 'off'"
        )
        fault = f"DUPEFILTER_CLASS = {path!r} cannot share requests with a fleet: {cure}"
        raise refused(crawler, [fault])


class RequestDedupMiddleware:
    """Claims a page just before its download, and settles the claim when its items have ended.

    For both ``DOWNLOADER_MIDDLEWARES`` and ``SPIDER_MIDDLEWARES``, closest to the engine. Scrapy
    gets one object for the two. ``docs/requests.md`` describes what it does.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._session = session_of(crawler)
        self._stats = Stats(crawler.stats)
        settings = self._session.settings
        self.asks = settings.pages_are_shared
        """Whether Valkey is asked about requests."""
        if self.asks:
            _refuse_other_filters(crawler)
            self._session.when_ledger_opens(self._open_claims)
        self._options = RequestOptions(crawler, settings, spider_name(crawler))
        self._marks = Marks(self._session.run, self._options)
        self._states = RequestStates(keeps_queued=self.asks)
        self._pages = PagesInProgress(self._marks, only_if_stored=settings.requests == "stored")
        self._scheduling = Scheduling(self._options, self._marks, self._states, self._pages)
        self._downloads: Downloads | None = None
        self._connect_end()
        if version_info < (2, 16):
            self._take_synchronous_output()
        crawler.signals.connect(self._request_scheduled, signals.request_scheduled)
        crawler.signals.connect(self._spider_opened, signals.spider_opened)

    def _connect_end(self) -> None:
        """Makes what follows a page from its response on, and lets the spider close."""
        self._rescheduling = Rescheduling(
            self._crawler,
            session=self._session,
            stats=self._stats,
            options=self._options,
            marks=self._marks,
            states=self._states,
            pages=self._pages,
        )
        next_pages = NextPages(
            self._session, self._stats, self._options, self._marks, self._rescheduling
        )
        self._scraping = Scraping(
            self._crawler, self._session, self._options, self._marks, next_pages
        )
        self._closing = Closing(
            self._crawler,
            session=self._session,
            pages=self._pages,
            scraping=self._scraping,
            next_pages=next_pages,
            rescheduling=self._rescheduling,
        )

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
                # It raises the same, and at that time Scrapy closes the other pipelines, too.
                return
            raise
        self._rescheduling.open(self._claims)
        admission = Admission.from_crawler(self._crawler)
        admission.expect(self._session.round_trip)
        self._downloads = Downloads(
            claims=self._claims,
            admission=admission,
            options=self._options,
            marks=self._marks,
            states=self._states,
            pages=self._pages,
            redirects=Redirects(
                self._claims, self._options, self._states, self._pages, self._rescheduling
            ),
            rescheduling=self._rescheduling,
        )

    def _open_claims(self) -> None:
        retention = self._session.settings.request_retention
        self._claims = self._session.shelf_claims("pages", REQUESTS, retention=retention)

    def _spider_opened(self) -> None:
        if self.asks and self._downloads is None:
            logger.error(
                "The scheduler has not opened DUPEFILTER_CLASS, so requests cannot be shared with "
                "the fleet: call super().open() and super().from_crawler() in a subclass of "
                "scrapy_valkey_dedup.DupeFilter, and use a SCHEDULER that opens its filter."
            )
            engine = self._crawler.engine
            assert engine is not None  # noqa: S101
            # Scrapy 2.14 does not heed a CloseSpider here.
            self._closes = deferred_from_coro(
                engine.close_spider_async(reason="dupefilter_not_opened")
            )
        if self.asks and job_dir(self._crawler.settings) and not self._session.has_pipeline:
            logger.warning(
                "JOBDIR without DedupPipeline in ITEM_PIPELINES: if the spider is stopped while "
                "other runs fetch pages that it waits for, its queue will lack them when it goes "
                "on. Enable scrapy_valkey_dedup.DedupPipeline, or use the add-on."
            )

    # -- the scheduler ---------------------------------------------------------------------------

    def use_fingerprint(self, fingerprint: Callable[[Request], bytes]) -> None:
        """Identifies pages by the fingerprint that the filter itself uses."""
        self._options.fingerprint = fingerprint

    def is_known(self, request: Request) -> bool:
        """Whether Valkey was asked about a request, and knows its page."""
        return self._scheduling.is_known(request)

    def filtered(self, request: Request, *, seen: bool) -> None:
        """The filter has ``seen`` a request before, and drops it; or lets it pass."""
        if self.asks:
            self._scheduling.filtered(request, seen=seen)

    def _request_scheduled(self, request: Request) -> None:
        """A request is about to enter the scheduler and its filter."""
        if not self._scheduling.may_enter(request):
            raise IgnoreRequest("another run is fetching its page, or there is nothing new")
        if not self.asks:
            self._options.warn_if_ignored(request)
            return
        if self._downloads is not None:
            self._downloads.look_ahead()
        self._scheduling.include(request)

    # -- the download ----------------------------------------------------------------------------

    async def process_request(self, request: Request) -> Request | None:
        """Lets a request go on, or gives it back to the scheduler, where it is dropped."""
        await self._session.resumed()
        task = asyncio.current_task()
        if self._downloads is None or task is None:
            return None
        self._session.idle = False
        return await self._downloads.prepare(request, task)

    # -- the response ----------------------------------------------------------------------------

    def process_spider_input(self, response: Response) -> None:
        """The scraping of a response begins."""
        page = self._downloads.pop_page(response) if self._downloads is not None else None
        self._scraping.begin(response, page or Page())

    async def process_spider_output(
        self, response: Response, result: AsyncIterator[Any]
    ) -> AsyncIterator[Any]:
        """Hands everything on, except for the requests that wait for something new."""
        with self._scraping.output_of(response) as passes:
            async for output in result:
                # Items are many: of them nothing more is asked.
                if not isinstance(output, Request) or passes(output):
                    yield output

    def _hand_on_synchronously(self, response: Response, result: Iterable[Any]) -> Iterable[Any]:
        with self._scraping.output_of(response) as passes:
            for output in result:
                if not isinstance(output, Request) or passes(output):
                    yield output

    def _take_synchronous_output(self) -> None:
        """Before Scrapy 2.16: lets a synchronous callback's output stay synchronous.

        Those versions lose what ``process_spider_exception`` recovers from such a callback if a
        middleware closer to the engine has made it asynchronous. A subclass that overrides the
        output method is called as it is written.
        """
        ours = RequestDedupMiddleware.process_spider_output
        if type(self).process_spider_output is ours:
            self.process_spider_output_async = self.process_spider_output
            self.process_spider_output = self._hand_on_synchronously  # type: ignore[assignment, method-assign]
