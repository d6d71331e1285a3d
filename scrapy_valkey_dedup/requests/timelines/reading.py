"""One reading of a timeline, newest first: which posts it has met, and whether it is complete."""

from __future__ import annotations

from collections.abc import Sequence

from scrapy_valkey_dedup.model import Key

# So many posts of a reading are remembered: the next reading stops at one page of them.
_KEPT_POSTS, _KEPT_PAGES = 2000, 3


class Reading:
    """A run's reading of one timeline, page by page.

    It is remembered only if it is complete, and no page of it failed. A reading that was killed, or
    that failed, has left posts below that no run has read; the next reading must go past them.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.met: list[Key] = []
        """The posts of its newest pages."""
        self._pages = 0
        self._usual = {0}
        self._outstanding = 0
        self._failed = False

    @property
    def ended(self) -> bool:
        """No page of it is expected any more."""
        return self._outstanding == 0

    def expect_page(self) -> None:
        """A page is requested."""
        self._outstanding += 1

    def meet(self, posts: Sequence[Key], redirects: int = 0) -> None:
        """The posts of a page, and how many redirects led to it. The newest page comes first."""
        if posts:
            self._usual.add(redirects)
        if self._pages < _KEPT_PAGES or len(self.met) < _KEPT_POSTS:
            self.met += posts
        self._pages += 1

    def is_usual(self, redirects: int) -> bool:
        """Whether a page with posts came by so many redirects. Always true of 0."""
        return redirects in self._usual

    def page_done(self, *, well: bool) -> bool:
        """A page has ended. Returns whether the reading is complete, and no page has failed."""
        self._outstanding -= 1
        self._failed |= not well
        return self.ended and not self._failed

    def fail(self) -> None:
        """It is not complete: another run has read pages of it, or pages were not read."""
        self._failed = True
