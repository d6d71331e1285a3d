"""How fast a server is asked: more slowly while it turns questions away as they are too many."""

from __future__ import annotations

import asyncio
from random import uniform
from time import monotonic

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_NO_PAUSE = 0.01
"""Seconds that a pause has at least: half of them is none."""
_FEW, _MANY = 8, 500
"""Scripts at once: less is too slow even where others use up the limit, more is none any more."""


def jittered(seconds: float) -> float:
    """A pause of about so long: what was turned away together does not come back together."""
    return uniform(0.5, 1) * seconds  # noqa: S311 (no secret)


class Throttle:
    """Shared by all who ask a server.

    Each refusal doubles the pause, and shows how many scripts may be run at once; each success
    halves the one and doubles the other.
    """

    def __init__(self, timeout: float) -> None:
        """``timeout``: seconds, of which a pause takes an eighth at most."""
        self._longest = min(_LONGEST_PAUSE, timeout / 8)
        self._pause = 0.0
        self._until = 0.0
        self.limit: int | None = None
        """So many scripts may be put at once; None: any number."""
        self._answers = self._script_answers = 0

    def hold(self, seconds: float) -> None:
        """Nobody's turn comes before that."""
        self._until = monotonic() + seconds

    async def wait(self) -> bool:
        """Waits for one's turn. Returns whether one had to wait."""
        left = self._until - monotonic()
        if left > 0:
            await asyncio.sleep(left)
        return left > 0

    def turned_away(self, answered: int) -> None:
        """Of questions that were put together only so many were answered: they were too many."""
        if monotonic() < self._until:
            return  # they were under way already when others were refused
        self.limit = max(answered, _FEW)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), self._longest)
        self.hold(jittered(self._pause))

    def answered(self, answers: int, *, scripts: bool) -> None:
        """So many of the questions that were put together were answered."""
        self._answers += answers
        if scripts:
            self._script_answers += answers

    def took_all(self) -> None:
        """Nothing was turned away of scripts that were run together."""
        if self.limit is not None:
            self.limit = 2 * self.limit if self.limit < _MANY else None
        if self._pause:
            self._pause = self._pause / 2 if self._pause > _NO_PAUSE else 0.0

    def answers(self, *, scripts: bool) -> int:
        """How many were answered so far.

        Heartbeats, which take little and so come through, do not show that scripts do.
        """
        return self._script_answers if scripts else self._answers
