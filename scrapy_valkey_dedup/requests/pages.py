"""A page in progress: when all of it has ended, and whether it is done."""

from __future__ import annotations

from collections.abc import Callable

from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.requests.timelines.reading import Reading
from scrapy_valkey_dedup.session.claim import Claim


class Page:
    """A page from its claim until it is known whether the page is done.

    An attempt is one download and the scraping of its response. A retry and a redirect belong to
    the attempt of the request before them. A retry that a callback sends begins another attempt.
    """

    __slots__ = (
        "__weakref__",
        "_all_stored",
        "_any_post",
        "_attempts",
        "_failed",
        "_items",
        "_only_if_stored",
        "_settled",
        "_unsettled",
        "_watchers",
        "claims",
        "downloading",
        "readings",
        "scheduled",
        "shares_target",
        "target",
        "target_is_held",
    )

    def __init__(self, *claims: Claim, only_if_stored: bool = False) -> None:
        """``only_if_stored``: its claims are confirmed only if it had items and all are stored."""
        self.claims = list(claims)
        """The first is on the page itself, the others are on pages that it redirects to."""
        self.downloading = 0
        """How many of its requests are being downloaded."""
        self.scheduled = 0
        """How many of its requests are in the scheduler: redirects, retries and held targets."""
        self.target: Key | None = None
        """The page that is downloaded for it: itself, or the last page that it redirects to."""
        self.target_is_held = False
        """Another run is fetching the page that it redirects to."""
        self.shares_target = False
        """Another page in progress redirects to the same page."""
        self.readings: dict[str, Reading] = {}
        """The readings of timelines that it is part of, by name."""
        self._only_if_stored = only_if_stored
        self._attempts = 1
        self._unsettled = 0
        self._items = 0
        self._failed = False
        self._settled = False
        self._all_stored = True
        self._any_post = False
        self._watchers: list[Callable[[bool], None]] = []

    def watch(self, watcher: Callable[[bool], None]) -> None:
        """Calls a reading back when the page has ended, with whether nothing of it failed."""
        self._watchers.append(watcher)

    def has(self, key: Key) -> bool:
        """Whether one of its claims is on this page."""
        return any(claim.key == key for claim in self.claims)

    def begin_attempt(self) -> None:
        """Its callback sends a request for it again."""
        self._attempts += 1
        self.scheduled += 1

    def end_attempt(self, *, failed: bool) -> None:
        """A response of it is scraped, or none will come."""
        self._attempts -= 1
        self._failed |= failed
        self._settle()

    def give_up(self) -> None:
        """Its attempts will not end: a middleware has swallowed a request or a response."""
        if self._attempts > 0 and not self.target_is_held:
            self._attempts = 0
            self._failed = True
            self._settle()

    def add_item(self, *, stored: bool, failed: bool, is_post: bool = True) -> None:
        """An item of it has ended. ``is_post``: it has an identity."""
        self._items += 1
        self._all_stored &= stored
        self._any_post |= stored and is_post
        self._failed |= failed

    def await_claim(self, claim: Claim) -> None:
        """An item of it was scraped; its claim, when settled, tells whether it is stored."""
        self._unsettled += 1
        claim.watch(self._claim_settled)

    def _claim_settled(self, stored: bool) -> None:  # noqa: FBT001 (the shape Claim calls)
        self._unsettled -= 1
        self.add_item(stored=stored, failed=not stored)
        self._settle()

    def _settle(self) -> None:
        if self._settled or self._attempts > 0 or self._unsettled > 0:
            return
        self._settled = True
        done = not self._failed
        if self._only_if_stored:
            done = done and self._items > 0 and self._all_stored
        for claim in self.claims:
            if done and (claim.key == self.target or self._redirects_well):
                claim.confirm()
            else:
                claim.release()
        for watcher in self._watchers:
            watcher(not self._failed)

    @property
    def _redirects_well(self) -> bool:
        """Whether a page that redirects is done when the page that it leads to is.

        It may redirect to a block page: a login, a consent form, "too many requests". A block page
        has no post, or several pages redirect to it at once. A "no" that is wrong costs one more
        redirect; a "yes" that is wrong would cost the page's posts.
        """
        return self.target is None or (self._any_post and not self.shares_target)
