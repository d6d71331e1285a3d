"""Timelines that are read newest first: what an earlier reading met, if it was complete."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import KEY_BYTES, DedupError, Key
from scrapy_valkey_dedup.session.batching import Batcher
from scrapy_valkey_dedup.session.outage import Outage

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
        """Whether pages with posts came by so many redirects. If not, it may be a block page."""
        return redirects in self._usual

    def page_done(self, *, well: bool) -> bool:
        """A page has ended. Returns whether the reading is complete, and no page has failed."""
        self._outstanding -= 1
        self._failed |= not well
        return self.ended and not self._failed

    def fail(self) -> None:
        """It is not complete: another run has read pages of it, or pages were not read."""
        self._failed = True


class Timelines:
    """What earlier readings met, in the ledger."""

    def __init__(self, ledger: Ledger, outage: Outage) -> None:
        self._ledger = ledger
        self._outage = outage
        self._questions = Batcher(self._ask)
        self._news = Batcher(self._deliver)

    async def all_met(self, name: str, posts: Sequence[Key]) -> bool:
        """Whether an earlier reading met all of the posts. False if Valkey cannot be asked."""
        sightings = _sightings(name, posts)
        while True:
            try:
                return all(await asyncio.gather(*map(self._questions.ask, sightings)))
            except DedupError:
                if not await self._outage.over():
                    return False

    def remember(self, reading: Reading) -> None:
        """Remembers a reading that is complete."""
        for sighting in _sightings(reading.name, reading.met):
            self._news.tell(sighting)

    async def flush(self, patience: float) -> None:
        """Delivers what is to be remembered. What cannot be delivered is read again next time."""
        try:
            await asyncio.wait_for(self._news.drain(), patience)
        except asyncio.TimeoutError:
            await self._news.close()

    async def _ask(self, sightings: Sequence[Key]) -> list[bool]:
        self._outage.check()
        try:
            return await self._ledger.seen_many(sightings)
        except DedupError as error:
            self._outage.failed(error)
            raise

    async def _deliver(self, sightings: Sequence[Key]) -> Sequence[None]:
        try:
            self._outage.check()
            await self._ledger.confirm_many(sightings)
        except DedupError as error:
            self._outage.failed(error)
        return [None] * len(sightings)


def _sightings(name: str, posts: Iterable[Key]) -> list[Key]:
    """The keys of posts that were met in a timeline."""
    whose = blake2b(name.encode("utf-8", "surrogatepass")).digest()
    return [blake2b(post, digest_size=KEY_BYTES, key=whose).digest() for post in posts]
