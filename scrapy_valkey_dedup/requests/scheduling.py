"""What comes to the scheduler: which requests enter it, and which are to claim a page."""

from __future__ import annotations

from scrapy.http import Request

from scrapy_valkey_dedup.requests.in_progress import PagesInProgress
from scrapy_valkey_dedup.requests.meta.marks import Marks
from scrapy_valkey_dedup.requests.meta.options import RequestOptions
from scrapy_valkey_dedup.requests.states import RequestState, RequestStates


class Scheduling:
    """Marks requests on their way into the scheduler, before its filter and in it."""

    def __init__(
        self,
        options: RequestOptions,
        marks: Marks,
        states: RequestStates,
        pages: PagesInProgress,
    ) -> None:
        self._options = options
        self._marks = marks
        self._states = states
        self._pages = pages

    def may_enter(self, request: Request) -> bool:
        """Whether a request may enter the scheduler."""
        return self._states.enter_scheduler(request)

    def include(self, request: Request) -> None:
        """A request is queued. If it skips the filter, it may be opted in to claim its page."""
        if (
            self._states.of(request) is RequestState.QUEUED
            and self._options.is_opted_in(request)
            and not self._marks.passes_filter(request)
            and self._pages.of(request) is None
        ):
            self._pages.queue(request, self._options.page_key(request))

    def is_known(self, request: Request) -> bool:
        """Whether Valkey was asked about a request, and knows its page."""
        return self._states.of(request) is RequestState.KNOWN

    def filtered(self, request: Request, *, seen: bool) -> None:
        """The filter has ``seen`` a request before, and drops it; or lets it pass."""
        page = self._pages.of(request)
        if page is not None and page.downloading:  # a redirect continues its page
            self._pages.add_redirect(page, self._options.page_key(request))
            if not seen:
                self._states.set(request, RequestState.REDIRECT)
        elif not seen and self._options.is_shared(request):
            self._pages.queue(request, self._options.page_key(request))
        else:
            self._marks.remove_page(request)
