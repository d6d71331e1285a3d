"""A run's own book of the posts it is at, so that Valkey never hears of twins within one run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from scrapy_valkey_dedup.model import Key, Verdict
from scrapy_valkey_dedup.session.claim import NO_CLAIM, Claim

_LOOK = 0.5  # seconds between two looks whether a pause has ended


class Book:
    """Which posts this run has asked for, from the question until Valkey knows what became of them.

    A post leaves the book only when its settlement was acknowledged: before that, Valkey would tell
    a twin that the claim is still the run's own, and the twin would be stored as well.
    """

    def __init__(self, wait: float, is_paused: Callable[[], bool]) -> None:
        """``wait``: seconds a twin waits for the one before it, while nothing ``is_paused``."""
        self._wait = wait
        self._is_paused = is_paused
        self._open: dict[Key, Claim] = {}
        self._told: dict[Key, bool] = {}
        self._twins: dict[Key, asyncio.Future[Verdict]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._open or key in self._told

    @property
    def claims(self) -> list[Claim]:
        """The claims that are not settled."""
        return list(self._open.values())

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self._open)

    def find(self, key: Key) -> Claim:
        """The claim on a key that is not settled, or one that stands for none."""
        return self._open.get(key, NO_CLAIM)

    def is_asked_for(self, key: Key) -> bool:
        """Whether there is a claim on it that is not settled, or a question for one."""
        return key in self._open

    def enter(self, claim: Claim) -> None:
        """The claim is being asked for."""
        self._open[claim.key] = claim

    def accept(self, claim: Claim) -> None:
        """Every pipeline has accepted the item, and its storing comes later: twins may go."""
        claim.accepted = True
        self._answer(claim.key, Verdict.SEEN)

    def strike(self, key: Key, verdict: Verdict) -> None:
        """The answer left nothing to settle."""
        self._open.pop(key).void(stored=verdict is Verdict.SEEN)
        self._answer(key, verdict)

    def settle(self, key: Key, *, stored: bool) -> None:
        """The claim is settled, and Valkey is being told."""
        del self._open[key]
        self._told[key] = stored
        if stored:
            self._answer(key, Verdict.SEEN)

    def tell_again(self, key: Key, *, stored: bool) -> bool:
        """Enters a settlement that is told again; False if the post is asked for anew."""
        if key in self:
            return False
        self._told[key] = stored
        return True

    def told_as_stored(self) -> list[Key]:
        """The posts that are stored, and of which Valkey is being told."""
        return [key for key, stored in self._told.items() if stored]

    def acknowledge(self, keys: Iterable[Key], *, stored: bool) -> None:
        """Valkey knows what became of these, or will not be told now.

        A post that was released may have been stored since then: that is another settlement.
        """
        for key in keys:
            if self._told.get(key) is stored:
                del self._told[key]
                if not stored:
                    self._answer(key, Verdict.NEW)

    async def wait_for_twin(self, key: Key) -> Verdict:
        """Returns ``NEW`` when no other item of the run has the post, or it was given back.

        ``SEEN``: another item was stored. ``HELD``: it has been on its way for too long.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait
        while key in self:
            twin = self._open.get(key)
            if self._told.get(key) or (twin is not None and twin.accepted):
                return Verdict.SEEN
            settled = self._twins.setdefault(key, loop.create_future())
            await asyncio.wait([settled], timeout=max(deadline - loop.time(), 0))
            if not settled.done():
                if not self._is_paused():
                    return Verdict.HELD
                deadline = loop.time() + max(self._wait, _LOOK)
                continue
            if settled.result() is not Verdict.NEW:
                return settled.result()
        return Verdict.NEW

    def _answer(self, key: Key, verdict: Verdict) -> None:
        settled = self._twins.pop(key, None)
        if settled is not None:
            settled.set_result(verdict)
