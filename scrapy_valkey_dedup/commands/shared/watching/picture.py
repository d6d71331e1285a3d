"""The whole picture as lines for a terminal: the ledger, the table of runs, what the keys do."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import time
from typing import TypeAlias

from rich.cells import cell_len

from scrapy_valkey_dedup.commands.shared.screen import one_line
from scrapy_valkey_dedup.commands.shared.status.server import size
from scrapy_valkey_dedup.commands.shared.watching.columns import (
    WORST_FIRST,
    Row,
    Table,
    fitted,
)
from scrapy_valkey_dedup.commands.shared.watching.figures import clock, duration, percent
from scrapy_valkey_dedup.commands.shared.watching.watched_run import State, WatchedRun
from scrapy_valkey_dedup.commands.shared.watching.watcher import Watcher
from scrapy_valkey_dedup.stats import quantity

Line: TypeAlias = list[tuple[str, str]]
"""Texts with the names of their styles."""
GOOD, BAD, FAINT, STRONG = "good", "bad", "faint", "strong"
_OF_STATES = {State.LOST: BAD, State.ENDED: FAINT, State.WAITING: FAINT}
_SEPARATOR = " · "
_MOST_LINES = 3
"""Of an error."""
_HIGH = 12
"""Lines of a terminal that has room for an empty line."""

SORTS: dict[str, Callable[[Row], tuple[object, ...]]] = {
    "activity": lambda row: (
        (State.LOST, None, State.ENDED).index(row.state if row.state.is_over else None),
        -row.activity,
        -row.open,
        row.name,
    ),
    "spider": lambda row: (row.name, row.place),
    "host": lambda row: (row.place, row.name),
    "age": lambda row: tuple(-(run.age(row.now) or 0) for run in row.runs),
    "claims": lambda row: (-row.open, row.name),
}
"""The orders of rows."""


@dataclass
class View:
    """How the fleet is shown."""

    interval: float
    """Seconds between two looks."""
    sort: str = "activity"
    by_spider: bool = False
    """One row a spider instead of one a run."""
    is_paused: bool = False
    plain: bool = False
    """Without characters that a terminal may not have."""
    has_keys: bool = True


def rows(watcher: Watcher, view: View) -> list[Row]:
    """One row a run, or a spider, in order."""
    named: dict[tuple[str, str], list[WatchedRun]] = {}
    for run in watcher.fleet.runs:
        spider = "(starting)" if run.info is None else one_line(run.info.spider)
        named.setdefault((spider, "" if view.by_spider else run.name), []).append(run)
    listed = []
    for (spider, name), runs in named.items():
        place = quantity(len(runs), "run")
        if name:
            place = "" if runs[0].info is None else one_line(runs[0].info.host)
        listed.append(Row(spider, place, runs, watcher.now, view.plain))
    return sorted(listed, key=SORTS[view.sort])


def picture(watcher: Watcher, view: View, width: int, height: int) -> list[Line]:
    """Exactly as many lines as the terminal has, none wider than it is."""
    shown = rows(watcher, view)
    head = [_title(watcher, view, width), *_facts(watcher, width)]
    foot = [_keys(view, width)] if view.has_keys else []
    if height >= _HIGH:
        head.append([])
    room = max(height - len(head) - len(foot), 0)
    body = _table(watcher, view, shown, width, room) if shown else []
    lines = [*head, *body]
    lines += [[] for _ in range(height - len(lines) - len(foot))]
    return [*lines[: height - len(foot)], *foot][:height]


def _title(watcher: Watcher, view: View, width: int) -> Line:
    at = f"{clock(watcher.moment)} UTC"
    how = "paused" if view.is_paused else f"every {view.interval:g}s"
    right = f"{at}{_SEPARATOR}{how}"
    left = one_line(f"{watcher.namespace} at {watcher.place}")
    room = width - cell_len(right) - 2
    if room < len(watcher.namespace):
        return [(fitted(left, width), STRONG)]
    return [(fitted(left, room), STRONG), ("  ", ""), (right, FAINT)]


def _facts(watcher: Watcher, width: int) -> list[Line]:
    """What is known of the ledger, as many facts in a line as there is room for."""
    lines: list[Line] = []
    used = 0
    for text, style in [*_of_server(watcher), *_of_runs(watcher)]:
        shown = text if cell_len(text) <= width else fitted(text, width)
        needed = len(_SEPARATOR) + cell_len(shown)
        if not lines or used + needed > width:
            lines.append([(shown, style)])
            used = cell_len(shown)
        else:
            lines[-1] += [(_SEPARATOR, FAINT), (shown, style)]
            used += needed
    return lines + _failure(watcher, width)


def _failure(watcher: Watcher, width: int) -> list[Line]:
    reasons = []
    if (failure := watcher.failure) is not None:
        since = f"{clock(failure.since)} ({duration(time() - failure.since)})"
        reasons.append(f"no answer since {since}: {failure.message}")
    elif watcher.refused:
        reasons.append(f"runs are not known: {watcher.refused}")
    return [
        [(line, BAD)]
        for reason in reasons
        for line in textwrap.wrap(one_line(reason), width, max_lines=_MOST_LINES)
    ]


def _of_server(watcher: Watcher) -> Iterable[tuple[str, str]]:
    facts = watcher.facts
    if watcher.failure is None and facts.latency is not None:
        median, slow = (1000 * seconds for seconds in facts.latency)
        yield f"answers in {median:.2f} ms (p99 {slow:.2f})", GOOD
    if facts.memory is None:
        yield "memory not known (+info)", FAINT
    else:
        used, limit = facts.memory
        of = "" if limit is None else f" of {size(limit)} ({percent(used, limit)})"
        yield f"memory {size(used)}{of}", ""
    if facts.evicted:
        yield f"{facts.evicted:,} keys evicted", BAD
    if watcher.is_empty:
        yield "no run has been here yet", FAINT
    elif facts.posts is not None:
        ago = duration(max(watcher.now - facts.counted, 0))
        yield f"{facts.how_many} ({ago} ago)", ""


def _of_runs(watcher: Watcher) -> Iterable[tuple[str, str]]:
    states = watcher.fleet.states
    if watcher.refused:
        return
    if not states:
        yield "no run is at work", FAINT
    for state in (State.AT_WORK, State.WAITING, State.STARTING, State.LOST, State.ENDED):
        if number := states[state]:
            yield f"{number:,} {state.value}", _OF_STATES.get(state, "")
    infos = [run.info for run in watcher.fleet.runs if run.info is not None]
    for what, noun in (("unchecked", "posts unchecked"), ("outages", "outages of runs")):
        if number := sum(getattr(info, what) for info in infos):
            yield f"{number:,} {noun}", BAD


def _table(watcher: Watcher, view: View, shown: Sequence[Row], width: int, room: int) -> list[Line]:
    runs = watcher.fleet.runs
    everything = Row(
        "all", quantity(len(runs), "run"), runs, watcher.now, view.plain, is_total=True
    )
    heads = 2
    space = max(room - heads, 0)
    fits = len(shown) <= space
    chosen = shown if fits else shown[: max(space - 1, 0)]
    table = Table(width - 2, [everything, *chosen])
    lines: list[Line] = [
        [("  ", ""), *((text, FAINT) for text, _ in table.cells(None))],
        [("  ", ""), *((text, f"{style} {STRONG}") for text, style in table.cells(everything))],
    ]
    for row in chosen:
        tint = _OF_STATES.get(row.state, "")
        cells = [(text, tint or style) for text, style in table.cells(row)]
        lines.append([(f"{row.mark} ", tint or GOOD), *cells])
    if not fits:
        lines.append([(fitted(_left_out(shown[len(chosen) :]), width), FAINT)])
    return lines[:room]


def _left_out(rest: Sequence[Row]) -> str:
    runs = [run for row in rest for run in row.runs]
    numbers = [(sum(run.state is state for run in runs), state.value) for state in WORST_FIRST]
    parts = ", ".join(f"{number:,} {word}" for number, word in numbers if number)
    return f"  and {len(runs):,} more runs: {parts}"


def _keys(view: View, width: int) -> Line:
    words = [
        ("q", "quit"),
        ("p", "go on" if view.is_paused else "pause"),
        ("s", f"sort: {view.sort}"),
        ("g", "one row a run" if view.by_spider else "one row a spider"),
    ]
    line: Line = []
    used = 0
    for key, word in words:
        text = f" {word}   "
        if used + len(key) + len(text.rstrip()) > width:
            break
        line += [(key, STRONG), (text, FAINT)]
        used += len(key) + len(text)
    return line
