"""Shows results: tables and progress bars on a terminal; otherwise plain lines or JSON."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

Advance = Callable[[int], None]
"""Reports progress: called with how much was done since the last call."""

_SECONDS_BETWEEN_LINES = 10.0


def no_progress(_: int) -> None:
    """An :data:`Advance` that shows nothing."""


class Screen:
    """Writes results to standard output, and everything else to standard error."""

    def __init__(self, *, json_output: bool = False) -> None:
        """``json_output``: write one JSON object to standard output, and nothing else."""
        self.json_output = json_output
        self._rich = not json_output and sys.stdout.isatty() and has_rich()

    def line(self, text: str) -> None:
        """Writes a line of the result."""
        if not self.json_output:
            print(printable(text), flush=True)  # noqa: T201

    def note(self, text: str) -> None:
        """Writes a line to standard error."""
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()

    def result(self, found: Mapping[str, Any]) -> None:
        """Writes the whole result as JSON, if that was asked for."""
        if self.json_output:
            print(json.dumps(found, ensure_ascii=True, default=str), flush=True)  # noqa: T201

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Shows pairs of names and texts, one per line."""
        self.table(None, facts)

    def table(self, titles: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> None:
        """Shows rows of texts, under ``titles`` if they are not None."""
        if self.json_output or not rows:
            return
        shown = [[printable(cell) for cell in row] for row in rows]
        if self._rich:
            _rich_table(titles, shown)
            return
        listed = [list(titles), *shown] if titles else shown
        widths = [max(len(row[at]) for row in listed) for at in range(len(listed[0]))]
        for row in listed:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            print("  ".join(cells).rstrip())  # noqa: T201
        sys.stdout.flush()

    @contextmanager
    def progress(self, what: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """Shows the progress of something long; call what it yields with each amount done."""
        if not self.json_output and sys.stderr.isatty() and has_rich():
            with _rich_progress(what, total, unit) as advance:
                yield advance
        else:
            yield _ProgressLines(
                what, total, unit, None if self.json_output else sys.stderr
            ).advance

    def ask(self, question: str) -> bool | None:
        """Asks a yes-or-no question; None if there is no terminal. Ctrl-C means no."""
        if self.json_output or not sys.stdin.isatty():
            return None
        # The event loop stands still while it waits for a line, and cannot handle signals.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            sys.stderr.write(f"{printable(question)} [y/N] ")
            sys.stderr.flush()
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            return False
        finally:
            signal.signal(signal.SIGINT, before)


class _ProgressLines:
    """Progress without a terminal: a line every few seconds."""

    def __init__(self, what: str, total: int | None, unit: str, out: TextIO | None) -> None:
        self._what, self._total, self._unit, self._out = what, total, unit, out
        self._done, self._told = 0, time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._out is None or now - self._told < _SECONDS_BETWEEN_LINES:
            return
        self._told = now
        of = f" of {self._total:,}" if self._total else ""
        unit = singular(self._unit, self._total or self._done)
        self._out.write(f"{self._what}: {self._done:,}{of} {unit}\n")
        self._out.flush()


def singular(unit: str, count: int) -> str:
    """The unit, such as "posts", as it is written after the count."""
    return {"entries": "entry"}.get(unit, unit.removesuffix("s")) if count == 1 else unit


def printable(text: str) -> str:
    """Escapes control characters, which a post may contain and a terminal would execute."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text
    )


def one_line(text: str) -> str:
    """The same, and without line breaks: for a text that must stay in its place."""
    return printable(text).replace("\n", "\\n")


def has_rich() -> bool:
    """Whether the extra "cli" is installed."""
    try:
        import rich  # noqa: F401, PLC0415 (the extra "cli")
    except ImportError:
        return False
    return True


def _rich_table(titles: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD if titles else None, show_header=bool(titles))
    for at in range(len(rows[0])):
        bold = "bold" if at == 0 else None
        table.add_column(titles[at] if titles else "", style=bold, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


@contextmanager
def _rich_progress(what: str, total: int | None, unit: str) -> Iterator[Advance]:
    from rich import progress  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:,} {task.fields[unit]}", markup=False),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, unit=unit)
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.update(task, advance=count, unit=singular(unit, done))

        yield advance
