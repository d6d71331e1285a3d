"""The pages of this run, from when their request is queued until they are settled."""

from __future__ import annotations

from collections import Counter
from functools import partial
from weakref import WeakValueDictionary

from scrapy.http import Request

from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.requests.meta.marks import Marks
from scrapy_valkey_dedup.requests.pages import Page
from scrapy_valkey_dedup.session.claim import Claim


class PagesInProgress:
    """The pages by key. A page is queued first, then claimed; several requests may ask for one."""

    def __init__(self, marks: Marks, *, only_if_stored: bool) -> None:
        """``only_if_stored``: a page is done only if it has items and all of them are stored."""
        self._marks = marks
        self._only_if_stored = only_if_stored
        self._queued: Counter[Key] = Counter()
        """How many requests in the scheduler are to claim a page."""
        self._claimed: dict[Key, Page] = {}
        self._by_target: WeakValueDictionary[Key, Page] = WeakValueDictionary()
        """By the page that it redirects to: the first page in progress that redirects there."""

    # -- queued ----------------------------------------------------------------------------------

    def queue(self, request: Request, key: Key) -> None:
        """A request is to claim its page when it comes from the scheduler."""
        self._marks.mark_page(request, key)
        self._queued[key] += 1

    def is_queued(self, key: Key) -> bool:
        """Whether a request in the scheduler is to claim a page."""
        return key in self._queued

    def unqueue(self, key: Key) -> None:
        """A request that is to claim its page has come from the scheduler."""
        self._queued[key] -= 1
        if self._queued[key] <= 0:
            del self._queued[key]

    # -- claimed ---------------------------------------------------------------------------------

    def add(self, claim: Claim) -> Page:
        """Adds a page that this run has claimed."""
        page = self._claimed[claim.key] = Page(claim, only_if_stored=self._only_if_stored)
        claim.watch(partial(self._settled, claim.key))
        return page

    def _settled(self, key: Key, _: object) -> None:
        self._claimed.pop(key, None)

    def of(self, request: Request) -> Page | None:
        """The claimed page that a request is marked with."""
        key = self._marks.page(request)
        return self._claimed.get(key) if key is not None and self._marks.is_mine(request) else None

    def add_redirect(self, page: Page, target: Key) -> None:
        """A page redirects to another."""
        first = self._by_target.setdefault(target, page)
        if first is not page:
            first.shares_target = page.shares_target = True

    def give_up(self) -> None:
        """The engine has nothing left to do: an attempt that has not ended will not end."""
        for page in list(self._claimed.values()):
            page.give_up()
