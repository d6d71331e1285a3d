"""A site that counts what each client asks for, and how many at once; its pages may have gates."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from tests.support.servers.web import Route, Web


class GatedWeb(Web):
    """Counts what is asked for; ``served`` counts what is let in. Clients are told by their names.

    No connection is used twice: what is cut on one that was used before, Scrapy's client repeats
    by itself.
    """

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self.asked_by: dict[str, Counter[str]] = {}
        """By user agent and path, counted when they ask."""
        self.given: Counter[str] = Counter()
        """How many pages each client was let in to."""
        self.gates: dict[str, Callable[[], bool]] = {}
        """Paths that are served from when on their condition is true."""
        self.most: float = inf
        """So many pages are served in all; the index is, and the others wait until it is more."""
        self.ahead: tuple[float, float] = (0, 0)
        """Until so many pages are served, a client gets at most so many more than any other."""
        self.at_once = 0
        self.most_at_once = 0
        super().__init__(routes, keep_alive=False)

    @property
    def asked(self) -> Counter[str]:
        """How often each path was asked for."""
        return sum((paths.copy() for paths in list(self.asked_by.values())), Counter())

    def askers(self, path: str) -> int:
        """How many clients have asked for it."""
        return sum(path in paths for paths in list(self.asked_by.values()))

    @property
    def total(self) -> int:
        """How many pages were served."""
        return sum(list(self.served.values()))

    def _is_open(self, path: str, asker: str) -> bool:
        if path in self.gates and not self.gates[path]():
            return False
        return path == "/" or (self.total < self.most and not self._is_ahead(asker))

    def _is_ahead(self, asker: str) -> bool:
        until, pages = self.ahead
        return self.total < until and self.given[asker] >= min(self.given.values()) + pages

    async def _answer(self, asked: Any, writer: asyncio.StreamWriter) -> bool:
        asker = asked.headers.get("user-agent", "")
        self.asked_by.setdefault(asker, Counter())[asked.path] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            while not self._is_open(asked.path, asker):
                await asyncio.sleep(0.005)
            self.given[asker] += 1
            return await super()._answer(asked, writer)
        finally:
            self.at_once -= 1
