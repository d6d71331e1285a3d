"""What earlier readings of timelines have met, in Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import KEY_BYTES, DedupError, Key
from scrapy_valkey_dedup.requests.timelines.reading import Reading
from scrapy_valkey_dedup.session.batching import Batcher
from scrapy_valkey_dedup.session.outage import Outage


class Timelines:
    """Remembers complete readings, and says whether one of them has met some posts."""

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
    scope = blake2b(name.encode("utf-8", "surrogatepass")).digest()
    return [blake2b(post, digest_size=KEY_BYTES, key=scope).digest() for post in posts]
