"""The first links of a run are gathered for a moment, so that there is a choice among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_MOMENT = 0.01  # seconds


class Gathering:
    """Begins with the first link, and ends a moment later. Without :meth:`begin` there is none."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The first link is yet to come."""
        self._is_due = True

    def goes_on(self) -> bool:
        """Whether a link that comes now is to wait for others."""
        if self._is_due and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_MOMENT, self._end)
        return self._is_due

    def _end(self) -> None:
        self._is_due = False
        self._ended()
