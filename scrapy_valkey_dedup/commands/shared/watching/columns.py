"""The table of runs: which columns there is room for, and what stands in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.cells import cell_len

from scrapy_valkey_dedup.commands.shared.screen import one_line
from scrapy_valkey_dedup.commands.shared.watching.figures import (
    duration,
    percent,
    short,
    sparkline,
)
from scrapy_valkey_dedup.commands.shared.watching.fleet import total_rates, total_trend
from scrapy_valkey_dedup.commands.shared.watching.watched_run import State, WatchedRun

NEW, DUPLICATE = "new", "duplicate"
"""Styles."""
_MARKS = {State.AT_WORK: "●", State.WAITING: "○", State.STARTING: "◌", State.LOST: "✗",
          State.ENDED: "✓"}  # fmt: skip
_PLAIN_MARKS = {State.AT_WORK: "*", State.WAITING: "o", State.STARTING: ".", State.LOST: "x",
                State.ENDED: "="}  # fmt: skip
WORST_FIRST = (State.LOST, State.STARTING, State.AT_WORK, State.WAITING, State.ENDED)


@dataclass(frozen=True)
class Row:
    """One or more runs that are shown as one."""

    name: str
    place: str
    """The host, or how many runs they are."""
    runs: Sequence[WatchedRun]
    now: float
    plain: bool = False
    """Without characters that a terminal may not have."""
    is_total: bool = False
    """It is the row of all runs, whose states are told above the table."""

    @property
    def state(self) -> State:
        """That of the run for which an operator is needed most."""
        return min((run.state for run in self.runs), key=WORST_FIRST.index, default=State.ENDED)

    @property
    def mark(self) -> str:
        """The state in one character."""
        return (_PLAIN_MARKS if self.plain else _MARKS)[self.state]

    @property
    def told(self) -> str:
        """The state in words, with what else an operator needs to know."""
        if self.is_total:
            return ""
        words = [self._of_one(self.runs[0])] if len(self.runs) == 1 else []
        if len(self.runs) != 1:
            numbers = Counter(run.state for run in self.runs)
            words = [f"{numbers[state]:,} {state.value}" for state in WORST_FIRST if numbers[state]]
        if unchecked := self.sum("unchecked"):
            words.append(f"{short(unchecked)} unchecked")
        return ", ".join(words)

    def _of_one(self, run: WatchedRun) -> str:
        if run.state is State.LOST:
            return f"lost {duration(self.now - run.since)} ago"
        reason = run.info.ended if run.info is not None else ""
        return f"ended: {one_line(reason)}" if reason not in ("", "finished") else run.state.value

    def sum(self, name: str) -> int:
        """Of a fact of the runs' notes."""
        return sum(getattr(run.info, name) for run in self.runs if run.info is not None)

    @property
    def open(self) -> int:
        """Claims of runs that are not over: those of a lost run are ignored by the others."""
        return sum(
            run.info.open for run in self.runs if run.info is not None and not run.state.is_over
        )

    @property
    def activity(self) -> float:
        """Posts a second."""
        return sum(total_rates(self.runs, self.now) or ())

    def rate(self, of: str) -> str:
        """New or duplicate posts a second."""
        rates = total_rates(self.runs, self.now)
        if rates is None and all(run.state.is_over for run in self.runs):
            return ""
        return short(None if rates is None else getattr(rates, of))

    def trend(self, of: str, cells: int) -> str:
        """The same over the last minutes."""
        found = total_trend(self.runs, cells, self.now)
        return sparkline(
            [None if each is None else getattr(each, of) for each in found], plain=self.plain
        )

    @property
    def age(self) -> str:
        """For how long the oldest of them runs."""
        ages = [age for run in self.runs if (age := run.age(self.now)) is not None]
        return duration(max(ages, default=None))

    @property
    def share(self) -> str:
        """Of duplicates in all that they have seen."""
        duplicate = self.sum(DUPLICATE)
        return percent(duplicate, duplicate + self.sum(NEW))


class Column(NamedTuple):
    """A column of the table."""

    title: str
    width: int
    """The least that it needs; with a trend it may grow."""
    cell: Callable[[Row, int], str]
    """What stands there; the number is the width that it got."""
    style: str = ""
    is_left: bool = False
    grows: bool = False


SPIDER = Column("spider", 10, lambda row, _: row.name, "spider", is_left=True)
HOST = Column("host", 8, lambda row, _: row.place, is_left=True)
_TABLE = (
    SPIDER,
    HOST,
    Column("for", 6, lambda row, _: row.age),
    Column("new/s", 5, lambda row, _: row.rate(NEW), NEW),
    Column("5 min", 8, lambda row, width: row.trend(NEW, width), NEW, is_left=True, grows=True),
    Column("dup/s", 5, lambda row, _: row.rate(DUPLICATE), DUPLICATE),
    Column("5 min", 8, lambda row, width: row.trend(DUPLICATE, width), DUPLICATE, is_left=True,
           grows=True),
    Column("dup", 4, lambda row, _: row.share),
    Column("open", 5, lambda row, _: short(row.open)),
    Column("new", 11, lambda row, _: f"{row.sum(NEW):,}"),
    Column("duplicate", 11, lambda row, _: f"{row.sum(DUPLICATE):,}"),
    Column("state", 14, lambda row, _: row.told, is_left=True),
)  # fmt: skip
_FIRST = (0, 3, 5, 8, 7, 4, 6, 2, 1, 11, 9, 10)
"""The columns by importance: a narrow terminal shows only the first ones."""
_LONGEST_NAME, _LONGEST_TREND = 30, 30
_STATE_AT = 11


class Table:
    """The columns that fit into a width, with the width of each."""

    def __init__(self, width: int, rows: Sequence[Row]) -> None:
        """``width`` is what is left beside the marks."""
        self._gap = 1 if width < 100 else 2  # noqa: PLR2004 (as wide as many terminals)
        chosen: list[int] = []
        for at in _FIRST:
            if self._needed([*chosen, at]) > width:
                break
            chosen.append(at)
        self.columns = {at: _TABLE[at].width for at in sorted(chosen)}
        self._grow(width - self._needed(chosen), rows)

    def _needed(self, chosen: Sequence[int]) -> int:
        return sum(_TABLE[at].width for at in chosen) + self._gap * max(len(chosen) - 1, 0)

    def _grow(self, spare: int, rows: Sequence[Row]) -> None:
        """Gives what is left to names that are cut, then to trends."""
        for at in (0, 1, _STATE_AT):
            if at in self.columns:
                longest = max((cell_len(_TABLE[at].cell(row, 0)) for row in rows), default=0)
                more = min(longest, _LONGEST_NAME) - self.columns[at]
                more = max(min(more, spare), 0)
                self.columns[at] += more
                spare -= more
        trends = [at for at in self.columns if _TABLE[at].grows]
        for at in trends:
            more = min(spare // len(trends), _LONGEST_TREND - self.columns[at])
            self.columns[at] += more

    def cells(self, row: Row | None) -> list[tuple[str, str]]:
        """The texts of a row with their styles, in widths that fit; None: of the titles."""
        found: list[tuple[str, str]] = []
        for at, width in self.columns.items():
            column = _TABLE[at]
            text = column.title if row is None else column.cell(row, width)
            if found:
                found.append((" " * self._gap, ""))
            found.append((fitted(text, width, is_left=column.is_left), column.style))
        return found


def fitted(text: str, width: int, *, is_left: bool = True) -> str:
    """A text in exactly so many cells of a terminal, cut with an ellipsis if it is longer."""
    if (length := cell_len(text)) <= width:
        padding = " " * (width - length)
        return text + padding if is_left else padding + text
    while text and cell_len(text) > width - 1:
        text = text[:-1]
    return f"{text}…" + " " * (width - 1 - cell_len(text)) if width else ""
