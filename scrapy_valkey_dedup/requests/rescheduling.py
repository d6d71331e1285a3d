"""Requests that go back to the scheduler without a download: known, held, or left out."""

from __future__ import annotations

from scrapy.crawler import Crawler
from scrapy.http import Request

from scrapy_valkey_dedup.model import Key, Token, Verdict
from scrapy_valkey_dedup.requests.held_pages import HeldPages
from scrapy_valkey_dedup.requests.in_progress import PagesInProgress
from scrapy_valkey_dedup.requests.meta.marks import Marks
from scrapy_valkey_dedup.requests.meta.options import RequestOptions
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.requests.states import RequestState, RequestStates
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.stats import REQUESTS, Stats


class Rescheduling:
    """Sends requests to the scheduler, each with the state that says what happens to it there."""

    def __init__(  # noqa: PLR0913 (all but one are keywords)
        self,
        crawler: Crawler,
        *,
        session: Session,
        stats: Stats,
        options: RequestOptions,
        marks: Marks,
        states: RequestStates,
        pages: PagesInProgress,
    ) -> None:
        self._crawler = crawler
        self._session = session
        self._stats = stats
        self._options = options
        self._marks = marks
        self._states = states
        self._pages = pages
        self._held_pages: HeldPages | None = None

    def open(self, claims: Claims) -> None:
        """Valkey can be asked: pages may be held from now on."""
        self._held_pages = HeldPages(
            claims, self._session.beat_of, lambda: self._session.idle, self._decided
        )

    # -- one request -----------------------------------------------------------------------------

    def send(self, request: Request) -> None:
        """Sends a request to the scheduler."""
        engine = self._crawler.engine
        if engine is not None and engine.spider is not None:
            engine.crawl(request)

    def leave_out(self, request: Request) -> None:
        """A request is not sent. Wakes the engine, which may have nothing left to do."""
        self._states.set(request, RequestState.LEFT_OUT)
        self.send(request)

    def drop(self, request: Request) -> None:
        """The filter drops a request when it comes to the scheduler again."""
        request.dont_filter = False  # a retry has it
        self._states.set(request, RequestState.KNOWN)

    def hold(self, request: Request, key: Key, holder: Token) -> None:
        """A request waits until it is known what becomes of its page, which another run holds."""
        self._stats.count(REQUESTS.in_flight)
        assert self._held_pages is not None  # noqa: S101 (opened before the first claim)
        self._held_pages.add(key, request, holder)
        self._states.set(request, RequestState.HELD)

    # -- held pages ------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """How many requests wait for other runs."""
        return len(self._held_pages) if self._held_pages is not None else 0

    def ask_at_once(self) -> None:
        """The run has nothing else to do than to ask for the held pages again."""
        if self._held_pages is not None:
            self._held_pages.hurry()

    def _decided(self, request: Request, outcome: Claim | Verdict) -> None:
        """It is known what becomes of a held page."""
        self._states.pop(request)
        page = self._pages.of(request)  # the page that redirects to it, if any
        if page is not None:
            page.target_is_held = False
        if isinstance(outcome, Claim):
            self._fetch(request, page, outcome)
        elif page is None and outcome is Verdict.SEEN and self._options.wants_errback(request):
            self._call_errback(request)
        else:
            self.drop(request)
            if page is not None:
                page.end_attempt(failed=True)
        self.send(request)

    def _fetch(self, request: Request, page: Page | None, claim: Claim) -> None:
        self._session.idle = False
        if page is None:
            page = self._pages.add(claim)
        else:
            page.claims.append(claim)
        page.scheduled += 1
        self._marks.pass_filter(request)

    def _call_errback(self, request: Request) -> None:
        key = self._marks.page(request)
        assert key is not None  # noqa: S101 (marked before it was held)
        self._pages.queue(request, key)
        self._states.set(request, RequestState.KNOWN_ERRBACK)
        self._marks.pass_filter(request)

    def put_back(self) -> None:
        """The spider is stopped: the held requests go to the ``JOBDIR``."""
        for request in self._held_pages.take_all() if self._held_pages is not None else ():
            self._states.pop(request)
            self._marks.pass_filter(request)
            self.send(request)

    def close(self) -> None:
        """Stops asking for held pages."""
        if self._held_pages is not None:
            self._held_pages.close()
