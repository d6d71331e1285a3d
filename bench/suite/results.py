"""What the benchmarks found, in memory and as JSON.

The file has ``schema`` (1) and ``rows``; each row is one module of ``bench.suite.measures``::

    {"state": "measured" or "failed", "error": "", "notes": [...], "run": {...}, "figures": [...]}

``run`` says where the figures are from: date, commit, whether files differed from it, command,
size, seconds, load of the machine at the start, machine, versions. A figure is::

    {"what": "posts a second", "case": "new", "way": "scrapy-redis", "at": 20, "values": [...],
     "median": ..., "least": ..., "most": ...}

``at`` is what a curve runs over (milliseconds, posts, ...; 0 if nothing); ``values`` are those of
the rounds. ``of plain`` is the ratio to plain Scrapy's crawl of the same round, and its median is
that of the ratios. Times are in seconds unless ``what`` says otherwise.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA = 1
MEASURED, FAILED = "measured", "failed"
RATE, COST, OF_PLAIN, OF_PLAIN_CPU = (
    "posts a second", "us of processor time a post", "of plain", "of plain by processor time",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A figure of one way under one condition: a value for each round."""

    what: str
    case: str
    way: str
    at: float
    values: list[float]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        """With what readers of the file want."""
        rounded = [_rounded(value) for value in self.values]
        spread = {"median": self.median, "least": min(self.values), "most": max(self.values)}
        spread = {name: _rounded(value) for name, value in spread.items()}
        return {**asdict(self), "values": rounded, **spread}


class Key(NamedTuple):
    """Which figure."""

    row: str
    what: str
    case: str
    way: str
    at: float = 0


@dataclass
class Row:
    """What one module of the measures found."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    run: dict[str, Any] = field(default_factory=dict)

    def add(self, what: str, case: str, way: str, at: float, value: float) -> None:
        """Notes the value of one round."""
        for figure in self.figures:
            if (figure.what, figure.case, figure.way, figure.at) == (what, case, way, at):
                figure.values.append(value)
                return
        self.figures.append(Figure(what, case, way, at, [value]))

    def note(self, text: str) -> None:
        """Something that a reader must know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def as_json(self) -> dict[str, Any]:
        """Without its name."""
        return {
            "state": FAILED if self.error else MEASURED,
            "error": self.error,
            "notes": self.notes,
            "run": self.run,
            "figures": [figure.as_json() for figure in self.figures],
        }

    @classmethod
    def from_json(cls, name: str, found: dict[str, Any]) -> Row:
        """What ``as_json`` has written."""
        names = ("what", "case", "way", "at", "values")
        figures = [Figure(*(each[name] for name in names)) for each in found["figures"]]
        return cls(name, figures, found["notes"], found["error"], found["run"])


class Results:
    """All rows."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows = {row.name: row for row in rows}

    @classmethod
    def load(cls, path: Path) -> Results:
        """The results of a file; none if it is not there."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_text("utf-8"))
        assert found["schema"] == SCHEMA, f"{path.name} has another schema"
        return cls(Row.from_json(name, row) for name, row in found["rows"].items())

    def save(self, path: Path) -> None:
        """Writes the file, at once whole."""
        rows = {name: row.as_json() for name, row in self.rows.items()}
        text = json.dumps({"schema": SCHEMA, "rows": rows}, indent=1) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        beside.write_text(text, "utf-8")
        beside.replace(path)

    def figures(self, row: str, what: str, case: str | None = None) -> Iterator[Figure]:
        """The figures of a row that are about this."""
        for figure in self.rows[row].figures if row in self.rows else ():
            if figure.what == what and case in (None, figure.case):
                yield figure

    def find(self, key: Key) -> Figure | None:
        """A figure; None if it was not measured."""
        for figure in self.figures(key.row, key.what, key.case):
            if (figure.way, figure.at) == (key.way, key.at):
                return figure
        return None

    def median(self, row: str, what: str, case: str, way: str, at: float = 0) -> float | None:
        """The median of a figure; None if it was not measured."""
        found = self.find(Key(row, what, case, way, at))
        return found.median if found else None


def _rounded(value: float) -> float:
    """To five digits: more are noise."""
    return float(f"{value:.5g}")
