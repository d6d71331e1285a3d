"""Looks up pages whose requests wait to claim them: known pages then take no place of a claim."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import choice
from typing import Any, TypeAlias

_MOST = 250
"""Requests that are looked up at once: each is a task in the downloader middlewares."""
_NEWEST = 0.05  # the weight of the newest answer, against all before it
_LEAST_FREE, _ALL_FREE = 0.01, 0.9
"""The share of pages that are free: it counts as no less, and as all if it is more."""
_MARGIN = 2
"""Times as many are looked up as will be needed, as the share changes: a lookup is cheap."""

_FREE_IN_A_FLEET = 0.25
"""The share at the beginning, if there may be a fleet whose workers begin with the same links."""

Look: TypeAlias = Callable[[], Awaitable[Any]]
"""Looks a page up. Returns None if it may be free; anything else is for the request that waits."""


class PageLookups:
    """The requests that wait for a claim, and what is found out about their pages meanwhile.

    To look a page up takes nothing from the other runs. So where most pages turn out to be known,
    as in a fleet, many are looked up for each one that is claimed. Nothing is looked up where all
    pages are new, or where Valkey answers so soon that it does not matter.
    """

    def __init__(self, needed: Callable[[], float], answered: Callable[[], None]) -> None:
        """``needed``: how many claims come in the time that Valkey takes to answer.

        ``answered`` is called after each answer.
        """
        self._needed = needed
        self._answered = answered
        self._share_free = 1.0
        self._begun = True
        self._waiting: dict[asyncio.Future[Any], Look] = {}
        self._looking: dict[asyncio.Future[Any], asyncio.Future[Any]] = {}
        self._free: set[asyncio.Future[Any]] = set()

    @property
    def room(self) -> int:
        """How many may be looked up at once."""
        if self._share_free > _ALL_FREE:
            return 0
        missing = self._needed() - len(self._free)
        return min(max(int(_MARGIN * missing / self._share_free), 0), _MOST)

    @property
    def ahead(self) -> int:
        """How many requests may wait for claims, besides those that wait in any case."""
        return len(self._free) + self.room

    def expect_a_fleet(self) -> None:
        """Others may begin with the same links. Nothing is looked up before :meth:`begin`."""
        self._share_free, self._begun = _FREE_IN_A_FLEET, False

    def begin(self) -> None:
        """The first pages have been chosen."""
        self._begun = True
        self._go_on()

    def add(self, wait: asyncio.Future[Any], look: Look) -> None:
        """A request waits. If its page is not free, the future ``wait`` gets what was found."""
        self._waiting[wait] = look
        self._go_on()

    def choose(self, waits: Sequence[asyncio.Future[Any]]) -> int:
        """Which of some equally urgent requests is the next to claim its page: its index.

        The oldest. But where pages turn out to be taken, the other workers of the fleet know the
        same links: if all of them asked in the same order, only one of them would get any.
        """
        if not self.ahead:
            return 0
        free = [index for index, wait in enumerate(waits) if wait in self._free]
        return choice(free or range(len(waits)))  # noqa: S311 (no secret)

    def end(self, wait: asyncio.Future[Any]) -> bool:
        """It waits no longer. Returns whether its page was found to be free."""
        self._waiting.pop(wait, None)
        looking = self._looking.pop(wait, None)
        if looking is not None:
            looking.cancel()
        was_free = wait in self._free
        self._free.discard(wait)
        return was_free

    def count(self, *, free: bool) -> None:
        """Takes note of whether a page was free that had not been looked up before."""
        self._share_free += _NEWEST * (free - self._share_free)
        self._share_free = max(self._share_free, _LEAST_FREE)

    def _go_on(self) -> None:
        while self._begun and self._waiting and len(self._looking) < self.room:
            wait = next(iter(self._waiting))
            look = self._waiting.pop(wait)
            looking = self._looking[wait] = asyncio.ensure_future(look())
            looking.add_done_callback(partial(self._looked, wait))

    def _looked(self, wait: asyncio.Future[Any], looking: asyncio.Future[Any]) -> None:
        if self._looking.get(wait) is not looking:
            return  # it had waited long enough
        del self._looking[wait]
        found = None if looking.cancelled() or looking.exception() else looking.result()
        self.count(free=found is None)
        if found is None:
            self._free.add(wait)
        elif not wait.done():
            wait.set_result(found)
        self._go_on()
        self._answered()
