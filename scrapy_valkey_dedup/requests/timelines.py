"""Timelines that are read newest first: how far an earlier reading came, if it came to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import KEY_BYTES, DedupError, Key
from scrapy_valkey_dedup.session.batching import Batcher
from scrapy_valkey_dedup.session.outage import Outage

# Of a reading's posts these are kept: the next one needs a single page of them to know where it is.
_KEPT_POSTS, _KEPT_PAGES = 2000, 3


class Reading:
    """A run's reading of one timeline, page by page.

    What it met is remembered only when every page of it was done well: a reading that was killed
    or failed half way has left posts below that nobody has read, and the next one must come by.
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
        """No page of it is asked for any more."""
        return self._outstanding == 0

    def expect_page(self) -> None:
        """A page is asked for."""
        self._outstanding += 1

    def meet(self, posts: Sequence[Key], redirects: int = 0) -> None:
        """The posts of a page, to which so many redirects led; the newest page comes first."""
        if posts:
            self._usual.add(redirects)
        if self._pages < _KEPT_PAGES or len(self.met) < _KEPT_POSTS:
            self.met += posts
        self._pages += 1

    def is_usual(self, redirects: int) -> bool:
        """Whether posts have come by so many redirects. If not, it may be a block page."""
        return redirects in self._usual

    def page_done(self, *, well: bool) -> bool:
        """Returns whether the reading has come to its end, and every page of it went well."""
        self._outstanding -= 1
        self._failed |= not well
        return self.ended and not self._failed

    def fail(self) -> None:
        """Pages of it were read by another run."""
        self._failed = True


class Timelines:
    """What earlier readings met, in the ledger."""

    def __init__(self, ledger: Ledger, outage: Outage) -> None:
        self._ledger = ledger
        self._outage = outage
        self._questions = Batcher(self._ask)
        self._news = Batcher(self._deliver)

    async def all_met(self, name: str, posts: Sequence[Key]) -> bool:
        """Whether an earlier reading met all of the posts; no, if Valkey cannot be asked."""
        sightings = _sightings(name, posts)
        while True:
            try:
                return all(await asyncio.gather(*map(self._questions.ask, sightings)))
            except DedupError:
                if not await self._outage.over():
                    return False

    def remember(self, reading: Reading) -> None:
        """The reading has come to its end."""
        for sighting in _sightings(reading.name, reading.met):
            self._news.tell(sighting)

    async def flush(self, patience: float) -> None:
        """Delivers what is to be remembered; what cannot be delivered will be read again."""
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
    """What stands for posts met in a timeline."""
    whose = blake2b(name.encode("utf-8", "surrogatepass")).digest()
    return [blake2b(post, digest_size=KEY_BYTES, key=whose).digest() for post in posts]
