"""The redirects of a page in progress: the page that they lead to is claimed, too."""

from __future__ import annotations

from scrapy.http import Request

from scrapy_valkey_dedup.model import Verdict
from scrapy_valkey_dedup.requests.in_progress import PagesInProgress
from scrapy_valkey_dedup.requests.meta.options import RequestOptions
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.requests.rescheduling import Rescheduling
from scrapy_valkey_dedup.requests.states import RequestState, RequestStates
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims


class Redirects:
    """Follows a page from one request of an attempt to the next: by a redirect, or by a retry."""

    def __init__(
        self,
        claims: Claims,
        options: RequestOptions,
        states: RequestStates,
        pages: PagesInProgress,
        rescheduling: Rescheduling,
    ) -> None:
        self._claims = claims
        self._options = options
        self._states = states
        self._pages = pages
        self._rescheduling = rescheduling

    def returned(self, page: Page, request: Request) -> None:
        """A downloader middleware has returned a request instead of the page's response."""
        is_queued = request.dont_filter or self._states.of(request) is RequestState.REDIRECT
        if self._pages.of(request) is page and is_queued:
            page.scheduled += 1
        else:
            # Another request, or one that the filter or another middleware has dropped: nothing is
            # fetched for the page.
            page.end_attempt(failed=True)

    async def may_follow(self, page: Page, request: Request) -> bool:
        """Claims the page that a request leads to. Returns whether it may be downloaded."""
        page.target = target = self._options.page_key(request)
        if page.has(target) or not self._options.is_shared(request):
            return True
        self._pages.add_redirect(page, target)
        try:
            outcome = await self._claims.attempt(target)
        except BaseException:  # cancelled: no download of it has begun that could end
            page.end_attempt(failed=True)
            raise
        if isinstance(outcome, Claim):
            page.claims.append(outcome)
            return True
        if outcome.verdict is Verdict.SEEN:
            self._rescheduling.drop(request)
            page.end_attempt(failed=True)  # what is known may be a block page
        else:
            page.target_is_held = True
            self._rescheduling.hold(request, target, outcome.holder)
        return False
