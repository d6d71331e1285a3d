"""The responses that are being scraped: which requests of their output are sent at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.http import Request, Response
from scrapy.spidermiddlewares.httperror import HttpError, HttpErrorMiddleware

from scrapy_valkey_dedup.requests.callback_output import CallbackOutput, CallbackOutputs
from scrapy_valkey_dedup.requests.meta.marks import Marks
from scrapy_valkey_dedup.requests.meta.options import IF_NEW, RequestOptions
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.requests.timelines.next_pages import NextPages
from scrapy_valkey_dedup.session.item_in_progress import ItemInProgress, ItemOutcome
from scrapy_valkey_dedup.session.session import Session


class Scraping:
    """Follows each response from the callback's start until its items have ended.

    Scrapy runs all of a response's scraping in one task of the event loop (2.14 to 2.19, with and
    without a reactor). A callback of that task is called however the scraping ends, when all of
    the response's items have ended.
    """

    def __init__(
        self,
        crawler: Crawler,
        session: Session,
        options: RequestOptions,
        marks: Marks,
        next_pages: NextPages,
    ) -> None:
        self._crawler = crawler
        self._session = session
        self._options = options
        self._marks = marks
        self._next_pages = next_pages
        self._outputs = CallbackOutputs()
        session.item_watchers.append(self._outputs.add_item)
        self._in_progress = 0
        self._http_error: HttpErrorMiddleware | None = None
        crawler.signals.connect(self._spider_opened, signals.spider_opened)
        crawler.signals.connect(self._spider_error, signals.spider_error)

    def _spider_opened(self) -> None:
        # Without Scrapy's own check of statuses every response is a page like any other.
        self._http_error = self._crawler.get_spider_middleware(HttpErrorMiddleware)
        if not self._session.has_pipeline:
            self._crawler.signals.connect(self._item_scraped, signals.item_scraped)
            self._crawler.signals.connect(self._item_dropped, signals.item_dropped)
            self._crawler.signals.connect(self._item_failed, signals.item_error)

    @property
    def busy(self) -> bool:
        """Whether a response is being scraped, or its end is not known here yet."""
        return self._in_progress > 0

    def begin(self, response: Response, page: Page) -> None:
        """The scraping of a response begins, in the task that calls this."""
        scraping = asyncio.current_task()
        if scraping is None:
            return
        output = self._next_pages.begin(response.request, page)
        self._outputs.begin(response, output)
        self._in_progress += 1
        scraping.add_done_callback(partial(self._scraped, response, output))

    # -- the callback's output -------------------------------------------------------------------

    @contextmanager
    def output_of(self, response: Response) -> Iterator[Callable[[Request], bool]]:
        """Around a callback's output. Yields what tells whether a request of it is handed on.

        Not an iterator itself, so that it serves synchronous and asynchronous output alike.
        """
        output = self._outputs.get(response)
        if output is None:
            yield lambda _: True
            return
        output.times_begun += 1
        try:
            yield lambda request: self._passes(request, response, output)
        except Exception:
            output.failed = True
            raise

    def _passes(self, request: Request, response: Response, output: CallbackOutput) -> bool:
        """Whether a request that a callback yields is handed on now; if not, it waits."""
        first = response.request
        is_same_page = first is not None and self._is_same_page(request, output, first)
        is_next = self._options.dedup(request) == IF_NEW
        # The next page may differ from this one by a header or a cookie only: then it is no retry.
        if first is not None and is_same_page and (not is_next or self._marks.is_copy(request)):
            self._next_pages.fetch_again(request, output, first)
            return True
        self._marks.remove_copies(request, first)
        if is_next:
            return self._next_pages.passes(request, output, is_same_page=is_same_page)
        output.others += 1
        return True

    def _is_same_page(self, request: Request, output: CallbackOutput, first: Request) -> bool:
        """Whether a callback requests its own page again, by any URL of its redirects."""
        if not request.dont_filter:
            return False
        key, reading = self._options.page_key(request), self._marks.reading(first)
        if key == self._options.page_key(first) or output.page.has(key):
            return True
        return reading is not None and key == reading.page

    def _spider_error(self, response: Any) -> None:
        output = self._outputs.get(response)
        if output is not None:
            output.failed = True

    # -- its end ---------------------------------------------------------------------------------

    def _scraped(
        self, response: Response, output: CallbackOutput, scraping: asyncio.Task[Any]
    ) -> None:
        """The callback's output is exhausted and all of its items have ended."""
        self._in_progress -= 1
        self._outputs.end(response)
        broken = scraping.cancelled() or scraping.exception() is not None
        failed = broken or output.failed or output.times_begun != 1 or self._is_refused(response)
        self._next_pages.scraped(output, failed=failed)

    def _is_refused(self, response: Response) -> bool:
        """Whether the response was an error that the spider does not handle."""
        if self._http_error is None:
            return False
        try:
            self._http_error.process_spider_input(response)
        except HttpError:
            return True
        return False

    # -- items, where the item pipeline is not enabled -------------------------------------------

    def _item_scraped(self, response: Any) -> None:
        self._outputs.add_item(response, ItemOutcome.SCRAPED, ItemInProgress())

    def _item_dropped(self, response: Any) -> None:
        self._outputs.add_item(response, ItemOutcome.DROPPED, ItemInProgress())

    def _item_failed(self, response: Any) -> None:
        self._outputs.add_item(response, ItemOutcome.FAILED, ItemInProgress())
