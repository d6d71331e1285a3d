"""`scrapy dedup watch`: shows a fleet at work, live."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from time import time

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import connect
from scrapy_valkey_dedup.commands.shared.screen import has_rich
from scrapy_valkey_dedup.commands.shared.usage import FAILED, FINE, CommandError
from scrapy_valkey_dedup.commands.shared.watching.lines import as_json, line
from scrapy_valkey_dedup.commands.shared.watching.watcher import Watcher
from scrapy_valkey_dedup.parsing import seconds

SUMMARY = "Show a fleet at work, live: new and duplicate posts a second, latency, memory"
EXAMPLE = """keys: q quit, p pause, s sort, g one row a spider instead of one a run

examples:
  scrapy dedup watch
  scrapy dedup watch --interval 30s --by-spider
  scrapy dedup watch --count 2 --interval 10s --json | tail -n 1
  scrapy dedup watch --plain >> fleet.log

exit code: 0; 2 if the ledger does not answer when it starts, or at the last look of --count;
130 after Ctrl-C"""

_SHORTEST = 1.0
_SORTS = ("activity", "spider", "host", "age", "claims")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `watch`."""
    parser.add_argument(
        "--interval",
        default="5s",
        metavar="TIME",
        help="time between two looks (default: 5s); each run reports about every 10 s",
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help="end after so many looks (default: go on)"
    )
    parser.add_argument(
        "--sort", choices=_SORTS, default="activity", help="order of the rows (default: activity)"
    )
    parser.add_argument(
        "--by-spider", action="store_true", help="one row a spider instead of one a run"
    )
    parser.add_argument(
        "--plain", action="store_true", help="one line for each look, also on a terminal"
    )


async def run(job: Job) -> int:
    """Shows the fleet until it is told to end, and changes nothing."""
    interval, count = _interval(job.options.interval), job.options.count
    if count is not None and count < 1:
        raise CommandError("--count: write a number of looks, at least 1")
    async with connect(job.project.settings) as connection:
        watcher = Watcher(connection)
        try:
            await watcher.start()
            if _can_be_live(job):
                return await _live(job, watcher, interval)
            return await _lines(job, watcher, interval)
        finally:
            await watcher.close()


def _interval(written: str) -> float:
    try:
        found = seconds(written)
    except ValueError as error:
        raise CommandError(f"--interval {written}: {error}") from None
    if found < _SHORTEST:
        raise CommandError(f"--interval {written}: the shortest is 1s")
    return found


def _can_be_live(job: Job) -> bool:
    """Whether there is a terminal that can be drawn on; says so if only rich is missing."""
    options = job.options
    if options.json or options.plain or not sys.stdout.isatty():
        return False
    if os.environ.get("TERM", "dumb").lower() in ("dumb", "unknown") or os.name != "posix":
        return False
    if not has_rich():
        job.screen.note(
            'plain lines, as rich is missing; for a live picture: pip install "'
            'scrapy-valkey-dedup[cli]"'
        )
        return False
    return True


async def _live(job: Job, watcher: Watcher, interval: float) -> int:
    from scrapy_valkey_dedup.commands.shared.watching.live import Live  # noqa: PLC0415 (rich)
    from scrapy_valkey_dedup.commands.shared.watching.picture import View  # noqa: PLC0415

    options = job.options
    view = View(interval, options.sort, by_spider=options.by_spider)
    return await Live(watcher, view, options.count).run()


async def _lines(job: Job, watcher: Watcher, interval: float) -> int:
    looks = 1
    while True:
        job.screen.line(line(watcher, time()))
        job.screen.result(as_json(watcher, time()))
        if looks == job.options.count:
            return FINE if watcher.failure is None else FAILED
        await asyncio.sleep(interval)
        await watcher.refresh()
        looks += 1
