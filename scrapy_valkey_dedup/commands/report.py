"""`scrapy dedup report`: makes a page that shows what deduplication has done, and what it costs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from time import time

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import NoLedgerError, connect
from scrapy_valkey_dedup.commands.shared.estimates.prices import known_prices, with_prices
from scrapy_valkey_dedup.commands.shared.reports.gathering import (
    Report,
    add_ledger,
    empty_periods,
    file_periods,
    history_periods,
)
from scrapy_valkey_dedup.commands.shared.reports.page import NO_HISTORY, page_of
from scrapy_valkey_dedup.commands.shared.reports.stats_files import FORM, read_stats
from scrapy_valkey_dedup.commands.shared.reports.words import headline
from scrapy_valkey_dedup.commands.shared.usage import FAILED, FINE, CommandError
from scrapy_valkey_dedup.ledger.history import DAYS_KEPT
from scrapy_valkey_dedup.model import DedupError

SUMMARY = "Make a page of charts: posts, duplicates, pages saved, memory, outages, cost"
EXAMPLE = """examples:
  scrapy dedup report report.html
  scrapy dedup report --days 90 report.html
  scrapy dedup report report.html --stats runs.jsonl

The page is one file, and needs no network. The numbers are those of the ledger's history, which
each run writes. With --stats they are those of the files instead; what the ledger holds now is
added if it answers.

exit code: 0, or 2 if the usage is wrong, or the ledger does not answer"""


def _days(written: str) -> int:
    if written.isascii() and written.isdigit() and 1 <= int(written) <= DAYS_KEPT:
        return int(written)
    raise argparse.ArgumentTypeError(f"{written!r}: write a number of days, 1 to {DAYS_KEPT}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `report`."""
    parser.add_argument("page", metavar="FILE.html", help="the page to write")
    parser.add_argument(
        "--days", type=_days, default=30, metavar="N", help="how many days it shows (30)"
    )
    parser.add_argument(
        "--stats", nargs="+", default=[], metavar="FILE", help=f"instead of the history: {FORM}"
    )
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="another price, such as usd_per_gb_hour=0.101; see `estimate`",
    )


async def run(job: Job) -> int:
    """Makes the page. The ledger is only read."""
    options, now = job.options, time()
    prices = with_prices(known_prices(), options.price)
    settings = job.project.settings
    report = Report(settings.namespace, now, empty_periods(options.days, now), options.days)
    if options.stats:
        report.from_files = True
        report.periods = file_periods(read_stats(options.stats), options.days, now)
    try:
        async with connect(settings) as connection:
            if not options.stats:
                history = connection.ledger(own=True).history
                report.periods = await history_periods(history, options.days, now)
            await add_ledger(report, connection, prices)
    except DedupError as error:
        report.error = str(error)
        is_new = isinstance(error, NoLedgerError)
        if not options.stats and not is_new:
            raise CommandError(str(error)) from None
    _write(Path(options.page), page_of(report))
    _tell(job, report)
    return FINE if not report.error or options.stats else FAILED


def _write(path: Path, page: str) -> None:
    """Replaces the file as a whole: a reader never sees half a page."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(page, "utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


def _tell(job: Job, report: Report) -> None:
    screen, totals = job.screen, report.periods.totals
    if report.periods.is_empty:
        screen.note(NO_HISTORY)
    else:
        screen.line("".join(text for text, _ in headline(report)))
    screen.line(f"written to {job.options.page}")
    if report.error:
        screen.note(f"without what the ledger holds: {report.error}")
    screen.result({"page": job.options.page, "namespace": report.namespace, **totals})
