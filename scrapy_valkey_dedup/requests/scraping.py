"""The scraping of responses: what becomes of a page's items, and which of its requests go on.

Scrapy runs all of a response's scraping in one task of the event loop (2.14 to 2.19, with and
without a reactor). A callback of that task is called however the scraping ends,
when all of the response's items have ended.
"""

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

from scrapy_valkey_dedup.requests.marks import IF_NEW, Marks
from scrapy_valkey_dedup.requests.next_pages import NextPages
from scrapy_valkey_dedup.requests.pages import CallbackOutput, CallbackOutputs, Page
from scrapy_valkey_dedup.session.item_in_progress import ItemInProgress, ItemOutcome
from scrapy_valkey_dedup.session.session import Session


class Scraping:
    """The responses of one crawl that are being scraped."""

    def __init__(
        self, crawler: Crawler, session: Session, marks: Marks, next_pages: NextPages
    ) -> None:
        self._crawler = crawler
        self._session = session
        self._marks = marks
        self._next_pages = next_pages
        self._outputs = CallbackOutputs()
        session.item_watchers.append(self._outputs.add_item)
        self._under_way = 0
        self._http_error: HttpErrorMiddleware | None = None
        crawler.signals.connect(self._spider_opened, signals.spider_opened)
        crawler.signals.connect(self._spider_error, signals.spider_error)

    @property
    def busy(self) -> bool:
        """Whether a response is being scraped, or its end was not told yet."""
        return self._under_way > 0

    def begin(self, response: Response, page: Page) -> None:
        """The scraping of a response begins, in the task that calls this."""
        scraping = asyncio.current_task()
        if scraping is None:
            return
        output = self._next_pages.begin(response.request, page)
        self._outputs.begin(response, output)
        self._under_way += 1
        scraping.add_done_callback(partial(self._scraped, response, output))

    @contextmanager
    def output_of(self, response: Response) -> Iterator[Callable[[Any], bool]]:
        """While a callback's output is handed on: tells which of it goes on; other requests wait.

        Not an iterator itself, so that it serves synchronous and asynchronous output alike.
        """
        output = self._outputs.get(response)
        if output is None:
            yield lambda _: True
            return
        output.times_begun += 1
        try:
            yield (
                lambda result: (
                    not isinstance(result, Request) or self._passes(result, response, output)
                )
            )
        except Exception:
            output.failed = True
            raise

    def _passes(self, request: Request, response: Response, output: CallbackOutput) -> bool:
        """Whether a request that a callback has sent goes on its way now."""
        first = response.request
        is_same_page = first is not None and self._is_same_page(request, output, first)
        wish = self._marks.wish(request)
        # A header or a cookie alone may tell the next page from this one: then it is no retry.
        if first is not None and is_same_page and (wish != IF_NEW or self._marks.is_copy(request)):
            self._next_pages.fetch_again(request, output, first)
            return True
        self._marks.remove_copies(request, first)
        if wish == IF_NEW:
            return self._next_pages.let_pass(request, output, is_same_page=is_same_page)
        output.others += 1
        return True

    def _is_same_page(self, request: Request, output: CallbackOutput, first: Request) -> bool:
        """Whether a callback wants its page once more: by its address, or by that of a redirect."""
        if not request.dont_filter:
            return False
        key, reading = self._marks.key(request), self._marks.reading(first)
        if key == self._marks.key(first) or output.page.has(key):
            return True
        return reading is not None and key == reading.page

    def _spider_error(self, response: Any) -> None:
        output = self._outputs.get(response)
        if output is not None:
            output.failed = True

    def _scraped(
        self, response: Response, output: CallbackOutput, scraping: asyncio.Task[Any]
    ) -> None:
        """The callback's output is exhausted and all of its items have ended."""
        self._under_way -= 1
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

    def _item_scraped(self, response: Any) -> None:
        self._outputs.add_item(response, ItemOutcome.SCRAPED, ItemInProgress())

    def _item_dropped(self, response: Any) -> None:
        self._outputs.add_item(response, ItemOutcome.DROPPED, ItemInProgress())

    def _item_failed(self, response: Any) -> None:
        self._outputs.add_item(response, ItemOutcome.FAILED, ItemInProgress())

    def _spider_opened(self) -> None:
        # Without Scrapy's own judge of statuses every response is the spider's business.
        self._http_error = self._crawler.get_spider_middleware(HttpErrorMiddleware)
        if not self._session.has_pipeline:
            self._crawler.signals.connect(self._item_scraped, signals.item_scraped)
            self._crawler.signals.connect(self._item_dropped, signals.item_dropped)
            self._crawler.signals.connect(self._item_failed, signals.item_error)
