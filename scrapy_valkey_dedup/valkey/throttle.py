"""How fast the server is asked: more slowly while it throttles."""

from __future__ import annotations

import asyncio
from random import uniform
from time import monotonic

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_NO_PAUSE = 0.01
"""Seconds: a pause that would be shorter than half of this is none."""
_FEW, _MANY = 8, 500
"""Scripts at once: fewer would be too slow even if others use up the limit; more is no limit."""


def jittered(seconds: float) -> float:
    """A pause of about this length, so that questions that were throttled together spread out."""
    return uniform(0.5, 1) * seconds  # noqa: S311 (no secret)


class Throttle:
    """Shared by all questions to a server.

    Each time it throttles, the pause doubles, and the number that it answered becomes the limit of
    scripts at once. Each success halves the pause and doubles the limit.
    """

    def __init__(self, timeout: float) -> None:
        """``timeout``: seconds, of which a pause takes an eighth at most."""
        self._longest = min(_LONGEST_PAUSE, timeout / 8)
        self._pause = 0.0
        self._until = 0.0
        self.limit: int | None = None
        """How many scripts may run at once; None: any number."""
        self._answers = self._script_answers = 0

    def hold(self, seconds: float) -> None:
        """No question is asked for so long."""
        self._until = monotonic() + seconds

    async def wait(self) -> bool:
        """Waits until a question may be asked; returns whether that took any time."""
        left = self._until - monotonic()
        if left > 0:
            await asyncio.sleep(left)
        return left > 0

    def throttled(self, answered: int) -> None:
        """The server throttled: of the questions asked together it answered only this many."""
        if monotonic() < self._until:
            return  # they were on their way already when others were throttled
        self.limit = max(answered, _FEW)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), self._longest)
        self.hold(jittered(self._pause))

    def answered(self, answers: int, *, scripts: bool) -> None:
        """Of the questions asked together this many were answered."""
        self._answers += answers
        if scripts:
            self._script_answers += answers

    def succeeded(self) -> None:
        """Scripts were run together, and none was throttled."""
        if self.limit is not None:
            self.limit = 2 * self.limit if self.limit < _MANY else None
        if self._pause:
            self._pause = self._pause / 2 if self._pause > _NO_PAUSE else 0.0

    def answers(self, *, scripts: bool) -> int:
        """How many were answered so far.

        Heartbeats, which take little and so come through, do not show that scripts do.
        """
        return self._script_answers if scripts else self._answers
