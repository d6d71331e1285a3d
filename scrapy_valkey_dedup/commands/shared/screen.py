"""What the operator sees: tables and a bar on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

Advance = Callable[[int], None]

_SECONDS_BETWEEN_LINES = 10.0


class Screen:
    """Standard output for what was asked for, standard error for everything else."""

    def __init__(self, *, json_output: bool = False) -> None:
        """``machine``: one object of JSON on standard output, and nothing else there."""
        self.json_output = json_output
        self._rich = not json_output and sys.stdout.isatty() and _has_rich()

    def line(self, text: str) -> None:
        """A line of the answer."""
        if not self.json_output:
            print(printable(text), flush=True)  # noqa: T201

    def note(self, text: str) -> None:
        """A line beside the answer."""
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()

    def result(self, found: Mapping[str, Any]) -> None:
        """The whole answer, for machines."""
        if self.json_output:
            print(json.dumps(found, ensure_ascii=True, default=str), flush=True)  # noqa: T201

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Names with what there is to say of them, one a line."""
        self.table(None, facts)

    def table(self, titles: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> None:
        """Rows of texts."""
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
        """A bar while something long is done; what it yields is told how much was done since."""
        if not self.json_output and sys.stderr.isatty() and _has_rich():
            with _rich_progress(what, total, unit) as advance:
                yield advance
        else:
            yield _Lines(what, total, unit, None if self.json_output else sys.stderr).advance

    def ask(self, question: str) -> bool | None:
        """Whether the operator says yes; None if there is nobody to ask. Ctrl-C is a no."""
        if self.json_output or not sys.stdin.isatty():
            return None
        # While it waits for a line the loop does not turn, and would hear of no signal.
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


class _Lines:
    """Progress without a terminal: a line now and then."""

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
        self._out.write(f"{self._what}: {self._done:,}{of} {self._unit}\n")
        self._out.flush()


def printable(text: str) -> str:
    """A text without what a terminal would obey: a post may hold anything."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text
    )


def _has_rich() -> bool:
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
        progress.TextColumn("{task.completed:,}" + (f" {unit}" if unit else ""), markup=False),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
