"""All runs that are watched: those at work, and for a while those that have ended or are lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from scrapy_valkey_dedup.commands.shared.watching.watched_run import (
    WINDOW,
    Rates,
    State,
    WatchedRun,
)
from scrapy_valkey_dedup.stats import RunInfo

KEPT = 600.0
"""Seconds for which a run is shown that has ended or is lost."""


class Fleet:
    """Keeps the runs by name. Times are seconds of the watcher's clock."""

    def __init__(self) -> None:
        self._runs: dict[str, WatchedRun] = {}
        self._dropped: dict[str, None] = {}
        """Runs that were shown for long enough, in order: their keys may still be there."""

    @property
    def names(self) -> list[str]:
        """The runs whose keys are worth asking for."""
        return [name for name, run in self._runs.items() if run.state is not State.ENDED]

    @property
    def runs(self) -> list[WatchedRun]:
        """All that are shown."""
        return list(self._runs.values())

    def unknown(self, found: Iterable[str]) -> list[str]:
        """Those that are neither shown nor were shown for long enough."""
        return [each for each in found if each not in self._runs and each not in self._dropped]

    def update(self, seen: Mapping[str, tuple[bytes | None, RunInfo | None]], now: float) -> None:
        """Takes in heartbeats and notes of runs."""
        for name, (beat, info) in seen.items():
            if name not in self._runs:
                if beat is None and info is None:
                    continue  # it was over before it could be asked
                self._runs[name] = WatchedRun(name, now)
            self._runs[name].saw(beat, info, now)
        for name, run in list(self._runs.items()):
            if run.state.is_over and now - run.since > KEPT:
                del self._runs[name]
                self._dropped[name] = None
        while len(self._dropped) > 10_000:  # noqa: PLR2004 (so that it does not grow forever)
            del self._dropped[next(iter(self._dropped))]

    @property
    def states(self) -> Counter[State]:
        """How many runs are in each state."""
        return Counter(run.state for run in self._runs.values())


def total_rates(runs: Sequence[WatchedRun], now: float) -> Rates | None:
    """The sum of what is known; None if nothing is."""
    return _sum(run.rates(now) for run in runs)


def total_trend(runs: Sequence[WatchedRun], cells: int, now: float) -> list[Rates | None]:
    """Posts a second of all of them over the last minutes, in so many cells."""
    width = WINDOW / cells
    last = (now // width + 1) * width  # so a cell keeps its place until the next one begins
    ends = [last - width * number for number in reversed(range(cells))]
    trends = [run.trend(ends, width, now) for run in runs]
    return [_sum(at) for at in zip(*trends, strict=True)] if trends else [None] * cells


def _sum(rates: Iterable[Rates | None]) -> Rates | None:
    known = [each for each in rates if each is not None]
    if not known:
        return None
    return Rates(sum(each.new for each in known), sum(each.duplicate for each in known))
