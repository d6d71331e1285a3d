"""Judges from the heartbeats of other runs which are dead: rules W1 and W2 of docs/ledger.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

UNKNOWN = b"?"
"""The heartbeat of a run that may be dead, or that an outage has kept from beating."""
_BETWEEN_LOOKS = 1.0
"""Time between two looks counts up to this many seconds: more of it shows nothing."""


def number_of(beat: bytes) -> int:
    """The number of a heartbeat, which its run counts up."""
    number, _, _ = beat.partition(b" ")
    return int(number) if number.isdigit() else 0


@dataclass
class _Observation:
    """The same heartbeat of a run, or none, was seen for so many seconds of looking."""

    beat: bytes | None
    last: float
    seconds: float = 0.0

    def extend(self, now: float) -> None:
        self.seconds += min(now - self.last, _BETWEEN_LOOKS)
        self.last = now


class FailureDetector:
    """A run is dead when its heartbeat is missing, or has not changed, for too long."""

    def __init__(self, grace: float, lifetime: float) -> None:
        """``grace``: see :class:`Heartbeat`. ``lifetime`` of a heartbeat. Both in seconds."""
        self._longest_missing = 2 * grace
        self._longest_unchanged = lifetime + grace
        self._observed: dict[str, _Observation] = {}

    def judge(self, run: str, beat: bytes | None, *, in_grace: bool) -> bytes | None:
        """The beat; UNKNOWN if it is missing and that means nothing; None for a dead run."""
        now, observed = monotonic(), self._observed.get(run)
        if observed is None or observed.beat != beat:
            observed = self._observed[run] = _Observation(beat, now)
        else:
            observed.extend(now)
        limit = self._longest_missing if beat is None else self._longest_unchanged
        if (beat is None and not in_grace) or observed.seconds >= limit:
            return None
        return UNKNOWN if beat is None else beat

    def forget_all_but(self, runs: Sequence[str]) -> None:
        """Forgets runs that are not asked for any more, when there are many."""
        if len(self._observed) > 2 * len(runs) + 1000:
            self._observed = {run: self._observed[run] for run in runs if run in self._observed}
