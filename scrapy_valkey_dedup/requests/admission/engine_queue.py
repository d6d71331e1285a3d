"""The queue of Scrapy's scheduler, seen from the engine: what comes next, and to take it early."""

from __future__ import annotations

from typing import Any


class EngineQueue:
    """The requests that wait in the memory of Scrapy's own scheduler.

    Another scheduler, or queues that have no ``peek()``, show no request and let none be taken:
    there requests claim their pages when the engine itself takes them.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        # Private, and the same in Scrapy 2.14 to 2.19: takes one request, ignoring the limits.
        self._take = getattr(engine, "_start_scheduled_request", None)

    def next_priority(self) -> int | None:
        """The priority of the next request; None if the engine has none, or must take none."""
        slot = getattr(self._engine, "_slot", None)
        if self._take is None or slot is None or slot.closing is not None:
            return None
        if self._engine.paused or not self._engine.running:
            return None
        if self._engine.scraper.slot.needs_backout():
            return None
        peek = getattr(getattr(slot.scheduler, "mqs", None), "peek", None)
        if peek is None:
            return None
        try:
            request = peek()
        except (AttributeError, KeyError, NotImplementedError):
            return None  # the user's own queues; or between two priorities, where peek() fails
        return None if request is None else int(request.priority)

    def take(self) -> None:
        """Lets the engine take that request now."""
        if self._take is not None:
            self._take()
