"""One run as its watcher sees it: what it does now, and what it did over the last minutes."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from scrapy_valkey_dedup.ledger.runs import IDLE_MARK
from scrapy_valkey_dedup.stats import RunInfo

WINDOW = 300.0
"""Seconds that are shown of the past."""
_NOTES = 400
"""Notes that are kept of a run; a run writes one in ten seconds or so."""
_STALE = 4.0
"""A rate is no longer known when no note has come for so many times the usual."""


class State(Enum):
    """What a run is doing."""

    AT_WORK = "at work"
    WAITING = "waiting"
    """It has nothing left to do but to wait for what other runs hold."""
    STARTING = "starting"
    """It has a heartbeat, and has written no note yet."""
    LOST = "lost"
    """Its heartbeat is over, and it has not signed off: it was killed, or is cut off."""
    ENDED = "ended"

    @property
    def is_over(self) -> bool:
        """Whether the run does nothing any more."""
        return self in (State.LOST, State.ENDED)


class Rates(NamedTuple):
    """Posts a second."""

    new: float
    duplicate: float


@dataclass(frozen=True)
class _Note:
    at: float
    """By the watcher's clock."""
    age: float
    new: int
    duplicate: int


class WatchedRun:
    """A run, with its notes of the last minutes. Times are seconds of the watcher's clock."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.info: RunInfo | None = None
        """Its last note."""
        self.state = State.STARTING
        self.since = now
        """When its state was seen first."""
        self._misses = 0
        self._started = float("inf")
        self._notes: deque[_Note] = deque(maxlen=_NOTES)

    def saw(self, beat: bytes | None, info: RunInfo | None, now: float) -> None:
        """Takes in its heartbeat and its note, as they are at this moment."""
        if info is not None and (self.info is None or info.age != self.info.age):
            if self.info is not None and info.age < self.info.age:
                self._notes.clear()  # the server has gone back, or it is another run's
            # A note is read a while after it was written: the least delay tells the start best.
            self._started = min(self._started, now - info.age)
            self._notes.append(_Note(now, info.age, info.new, info.duplicate))
        if info is not None:
            self.info = info
        self._misses = 0 if beat is not None else self._misses + 1
        state = self._state(beat)
        if state is not self.state:
            self.state, self.since = state, now

    def _state(self, beat: bytes | None) -> State:
        if self.info is not None and self.info.ended:
            return State.ENDED
        if beat is None:
            # After an outage of the server the first look may come before the runs have beaten.
            is_sure = self._misses > 1 or self.state is State.STARTING
            return State.LOST if is_sure else self.state
        if beat.endswith(IDLE_MARK.encode()):
            return State.WAITING
        return State.STARTING if self.info is None else State.AT_WORK

    def age(self, now: float) -> float | None:
        """For how long it runs, or ran; None if it has not said yet."""
        if self.info is None:
            return None
        if self.state.is_over:
            return self.info.age
        return self.info.age + max(now - self._notes[-1].at, 0)

    def rates(self, now: float) -> Rates | None:
        """Posts a second between the last two notes, by the run's own clock; None: not known."""
        if self.state.is_over or len(self._notes) < 2:  # noqa: PLR2004 (two notes)
            return None
        before, last = self._notes[-2], self._notes[-1]
        seconds = last.age - before.age
        if seconds <= 0 or now - last.at > _STALE * seconds:
            return None
        return Rates(
            max(last.new - before.new, 0) / seconds,
            max(last.duplicate - before.duplicate, 0) / seconds,
        )

    def trend(self, ends: list[float], width: float, now: float) -> list[Rates | None]:
        """Posts a second in each of the cells that end then, and are so many seconds wide."""
        if not self._notes:
            return [None] * len(ends)
        line = self._line(now)
        return [_slope(line, end - width, end) for end in ends]

    def _line(self, now: float) -> list[tuple[float, float, float]]:
        """Moments, with new and duplicate posts until then: of the notes, and up to now."""
        line: list[tuple[float, float, float]] = [
            (self._started + note.age, note.new, note.duplicate) for note in self._notes
        ]
        rates, (at, new, duplicate) = self.rates(now), line[-1]
        if rates is not None and now > at:
            seconds = now - at
            line.append((now, new + rates.new * seconds, duplicate + rates.duplicate * seconds))
        return line


def _slope(line: list[tuple[float, float, float]], start: float, end: float) -> Rates | None:
    low, high = max(start, line[0][0]), min(end, line[-1][0])
    if low >= high:
        return None
    (new, duplicate), (new_then, duplicate_then) = _at(line, low), _at(line, high)
    seconds = high - low
    return Rates(max(new_then - new, 0) / seconds, max(duplicate_then - duplicate, 0) / seconds)


def _at(line: list[tuple[float, float, float]], moment: float) -> tuple[float, float]:
    """New and duplicate posts until a moment, which lies within the line."""
    index = min(bisect_right(line, (moment, float("inf"), 0.0)), len(line) - 1)
    (at, *before), (then, *after) = line[max(index - 1, 0)], line[index]
    share = (moment - at) / (then - at) if then > at else 1.0
    new, duplicate = (low + (high - low) * share for low, high in zip(before, after, strict=True))
    return new, duplicate
