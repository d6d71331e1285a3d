"""The posts that a run is storing now, so that it asks Valkey for each of them only once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from scrapy_valkey_dedup.model import Key, Verdict
from scrapy_valkey_dedup.session.claim import NO_CLAIM, Claim

_LOOK = 0.5  # seconds between two looks whether a pause has ended


class InFlightClaims:
    """Which posts this run has asked for, from the question until Valkey knows what became of them.

    A post is removed only when its settlement was acknowledged. Before that, Valkey would answer
    that the claim is still the run's own, and a second item of that post would be stored as well.
    """

    def __init__(self, wait: float, is_paused: Callable[[], bool]) -> None:
        """``wait``: seconds an item waits for an earlier one of its post, if not ``is_paused``."""
        self._wait = wait
        self._is_paused = is_paused
        self._open: dict[Key, Claim] = {}
        self._settlements: dict[Key, bool] = {}
        self._waiters: dict[Key, asyncio.Future[Verdict]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._open or key in self._settlements

    @property
    def open(self) -> list[Claim]:
        """The claims that are not settled."""
        return list(self._open.values())

    @property
    def open_count(self) -> int:
        """How many they are."""
        return len(self._open)

    def get(self, key: Key) -> Claim:
        """The claim on a key that is not settled; if there is none, :data:`NO_CLAIM`."""
        return self._open.get(key, NO_CLAIM)

    def is_open(self, key: Key) -> bool:
        """Whether there is a claim on it that is not settled, or a question for one."""
        return key in self._open

    def add(self, claim: Claim) -> None:
        """The claim is being asked for."""
        self._open[claim.key] = claim

    def accept(self, claim: Claim) -> None:
        """Every pipeline has accepted the item. It will be stored later; others are duplicates."""
        claim.accepted = True
        self._answer(claim.key, Verdict.SEEN)

    def remove(self, key: Key, verdict: Verdict) -> None:
        """The answer left nothing to settle."""
        self._open.pop(key).void(stored=verdict is Verdict.SEEN)
        self._answer(key, verdict)

    def settle(self, key: Key, *, stored: bool) -> None:
        """The claim is settled, and Valkey is being told."""
        del self._open[key]
        self._settlements[key] = stored
        if stored:
            self._answer(key, Verdict.SEEN)

    def add_settlement(self, key: Key, *, stored: bool) -> bool:
        """Adds a settlement that is sent again; False if the post is being asked for again."""
        if key in self:
            return False
        self._settlements[key] = stored
        return True

    def stored_unacknowledged(self) -> list[Key]:
        """The posts that are stored, and of which Valkey is being told."""
        return [key for key, stored in self._settlements.items() if stored]

    def acknowledge(self, keys: Iterable[Key], *, stored: bool) -> None:
        """Valkey knows what became of these, or will not be told now.

        A post that was released may have been stored since then: that is another settlement.
        """
        for key in keys:
            if self._settlements.get(key) is stored:
                del self._settlements[key]
                if not stored:
                    self._answer(key, Verdict.NEW)

    async def wait_for_other_item(self, key: Key) -> Verdict:
        """Returns ``NEW`` when no other item of the run has the post, or it was given back.

        ``SEEN``: another item was stored. ``HELD``: it has been on its way for too long.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait
        while key in self:
            other = self._open.get(key)
            if self._settlements.get(key) or (other is not None and other.accepted):
                return Verdict.SEEN
            settled = self._waiters.setdefault(key, loop.create_future())
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
        settled = self._waiters.pop(key, None)
        if settled is not None:
            settled.set_result(verdict)
