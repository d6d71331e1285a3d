"""What is known of the watched ledger besides its runs: latency, memory, posts. Asked rarely."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from time import monotonic, perf_counter
from typing import TypeVar

from scrapy_valkey_dedup.commands.shared.connection import LedgerConnection
from scrapy_valkey_dedup.commands.shared.status.server import Node, nodes
from scrapy_valkey_dedup.commands.shared.status.state import quantile
from scrapy_valkey_dedup.model import DedupError

_ROUND_TRIPS = 100
_MEMORY_EVERY, _COUNT_EVERY = 60.0, 600.0
"""Seconds. INFO takes the server a moment, and to count posts a few milliseconds."""
_EXACT = 1_000_000
"""Up to so many posts no bucket is full, and all are counted; of more there is an estimate."""
_FIRST_COUNT = 2.0
"""Seconds for which the first picture waits for the number of posts."""
_Reply = TypeVar("_Reply")


class LedgerFacts:
    """Latency of what the watcher asks, the server's memory, and how many posts there are."""

    def __init__(self, connection: LedgerConnection) -> None:
        self.round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        """Seconds."""
        self.nodes: list[Node] = []
        self.posts: int | None = None
        """How many are remembered; one in two generations counts twice."""
        self.counted = 0.0
        """When they were counted, by the monotonic clock."""
        self._server, self._namespace = connection.server, connection.settings.namespace
        self._ledger = connection.ledger()
        self._asked = self._count_began = float("-inf")
        self._count: asyncio.Task[None] | None = None

    async def timed(self, asking: Awaitable[_Reply]) -> _Reply:
        """Awaits one round trip, and notes how long it took if there was a reply."""
        began = perf_counter()
        reply = await asking
        self.round_trips.append(perf_counter() - began)
        return reply

    @property
    def latency(self) -> tuple[float, float] | None:
        """Median and 99th percentile of the last round trips, in seconds."""
        times = sorted(self.round_trips)
        return (quantile(times, 0.5), quantile(times, 0.99)) if times else None

    async def refresh(self) -> None:
        """Asks for what is old. Raises what the client raises."""
        if monotonic() - self._asked >= _MEMORY_EVERY:
            self.nodes = await nodes(self._server, self._namespace)
            self._asked = monotonic()
        is_due = monotonic() - self._count_began >= _COUNT_EVERY
        if is_due and (self._count is None or self._count.done()):
            self._count_began = monotonic()
            self._count = asyncio.ensure_future(self._count_posts())
            if self.posts is None:
                await asyncio.wait([self._count], timeout=_FIRST_COUNT)

    async def _count_posts(self) -> None:
        try:
            self.posts = await self._ledger.count_posts()
            self.counted = monotonic()
        except DedupError:
            self._count_began = float("-inf")  # the server is away: as soon as it is back

    async def close(self) -> None:
        """Stops counting."""
        if self._count is not None:
            self._count.cancel()
            await asyncio.wait([self._count])

    @property
    def is_exact(self) -> bool:
        """Whether the number of posts is no estimate."""
        return self.posts is not None and self.posts < _EXACT

    @property
    def how_many(self) -> str:
        """The number of posts in words; "" if they have not been counted."""
        if self.posts is None:
            return ""
        if self.is_exact:
            return "1 post" if self.posts == 1 else f"{self.posts:,} posts"
        return f"about {int(float(f'{self.posts:.3g}')):,} posts"

    @property
    def memory(self) -> tuple[int, int | None] | None:
        """Bytes in use and the limit, of all nodes; None if INFO is not permitted."""
        used = [node.memory for node in self.nodes]
        known = [each for each in used if each is not None]
        if not known or len(known) < len(used):
            return None
        limits = [node.limit for node in self.nodes]
        given = [each for each in limits if each is not None]
        return sum(known), sum(given) if len(given) == len(limits) else None

    @property
    def evicted(self) -> int:
        """Keys that the server has evicted since its start."""
        return sum(node.number("evicted_keys") or 0 for node in self.nodes)
