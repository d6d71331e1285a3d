"""What this package writes into the ``meta`` of requests, so that a ``JOBDIR`` keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from scrapy.http import Request

from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.requests.meta.options import RequestOptions

_PAGE = "_dedup_page"
"""The run and the key of the request's page, and whether it passes the filter."""
_PASSES_FILTER = "filtered"
_READING = "_dedup_reading"
"""Of the next page of a timeline: the run that reads it, the page's key, the timeline's name."""
_EMPTY = "_dedup_empty_pages"
"""Of a next page: how many empty pages came before it."""

_MARKS = (_PAGE, _READING, _EMPTY)


@dataclass(frozen=True)
class ReadingMark:
    """The mark of the next page of a timeline."""

    timeline: str
    page: Key
    """The page that was requested; a redirect may lead to another."""
    is_mine: bool
    """Whether this run has requested it."""


class Marks:
    """Reads and writes the marks of requests.

    Spiders copy a response's ``meta`` to the requests that they send, so a mark alone proves
    nothing: :meth:`remove_copies` from what a callback sends.
    """

    def __init__(self, run: str, options: RequestOptions) -> None:
        self._run = run
        self._options = options

    # -- the page --------------------------------------------------------------------------------

    def mark_page(self, request: Request, key: Key) -> None:
        """Marks a request for a page that this run has claimed or is about to claim."""
        request.meta[_PAGE] = f"{self._run} {key.hex()}"

    def page(self, request: Request) -> Key | None:
        """The page that this run, or an earlier one with this ``JOBDIR``, marked a request for."""
        mark = request.meta.get(_PAGE, "").split(" ")
        return bytes.fromhex(mark[1]) if len(mark) > 1 else None

    def is_mine(self, request: Request) -> bool:
        """Whether this run has marked the request."""
        return str(request.meta.get(_PAGE, "")).startswith(f"{self._run} ")

    def remove_page(self, request: Request) -> None:
        """Removes the mark of a page."""
        request.meta.pop(_PAGE, None)

    # -- the filter ------------------------------------------------------------------------------

    def pass_filter(self, request: Request) -> None:
        """Lets a marked request pass the filter, which has seen it before."""
        if not request.dont_filter:
            request.dont_filter = True
            request.meta[_PAGE] += f" {_PASSES_FILTER}"

    def passes_filter(self, request: Request) -> bool:
        """Whether a request has ``dont_filter`` only because of :meth:`pass_filter`."""
        return str(request.meta.get(_PAGE, "")).endswith(_PASSES_FILTER)

    def restore_filter(self, request: Request) -> None:
        """Undoes :meth:`pass_filter`, also that of an earlier run."""
        if self.passes_filter(request):
            request.dont_filter = False
            request.meta[_PAGE] = request.meta[_PAGE].removesuffix(f" {_PASSES_FILTER}")

    # -- the reading of a timeline ---------------------------------------------------------------

    def mark_reading(self, request: Request, timeline: str) -> None:
        """Marks a request as a next page in this run's reading of a timeline."""
        key = self._options.page_key(request)
        request.meta[_READING] = f"{self._run} {key.hex()} {timeline}"

    def reading(self, request: Request) -> ReadingMark | None:
        """The reading that a request continues, if any."""
        mark = request.meta.get(_READING, "").split(" ", 2)
        if len(mark) < 3:  # noqa: PLR2004 (run, page, timeline)
            return None
        return ReadingMark(mark[2], bytes.fromhex(mark[1]), is_mine=mark[0] == self._run)

    def mark_empty_pages(self, request: Request, count: int) -> None:
        """Notes how many empty pages in a row came before a next page."""
        if count:
            request.meta[_EMPTY] = count

    def empty_pages(self, request: Request) -> int:
        """How many empty pages in a row came before it."""
        return int(request.meta.get(_EMPTY, 0))

    # -- copies ----------------------------------------------------------------------------------

    def is_copy(self, request: Request) -> bool:
        """Whether a callback has made a request from the one that it was called for."""
        return any(mark in request.meta for mark in (*_MARKS, "retry_times"))

    def continue_readings(self, first: Request, retry: Request) -> None:
        """Lets a retry, which may be the same object, continue the readings of ``first``."""
        for mark in (_READING, _EMPTY):
            if mark in first.meta:
                retry.meta[mark] = first.meta[mark]
            else:
                retry.meta.pop(mark, None)

    def remove_copies(self, request: Request, first: Request | None) -> None:
        """Removes what a request has copied from ``first``, whose callback sends it."""
        for mark in _MARKS:
            request.meta.pop(mark, None)
        if first is not None:
            self._options.remove_copied_key(request, first)
