"""Starting a server again that has died, as an embedded one may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scrapy_valkey_dedup.model import DedupError


class Revival:
    """Runs a blocking function in a thread, one call at a time: each may hold it for long."""

    def __init__(self, revive: Callable[[], object] | None) -> None:
        """``revive`` None: there is nothing that could be started."""
        self._revive = revive
        self._attempt: asyncio.Future[DedupError | None] | None = None

    @property
    def is_possible(self) -> bool:
        """Whether there is a way to start it."""
        return self._revive is not None

    async def attempt(self) -> DedupError | None:
        """Returns why it has failed, if it has."""
        if self._revive is None:
            return None
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.ensure_future(asyncio.to_thread(self._now))
        await asyncio.wait([self._attempt])
        return self._attempt.result()

    def _now(self) -> DedupError | None:
        """Runs in a thread."""
        try:
            if self._revive is not None:
                self._revive()
        except DedupError as error:
            return error
        return None
