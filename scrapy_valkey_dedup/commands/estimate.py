"""`scrapy dedup estimate`: estimates what a ledger costs on ElastiCache Serverless."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from math import inf

from scrapy_valkey_dedup.commands import Job
from scrapy_valkey_dedup.commands.shared.connection import connect
from scrapy_valkey_dedup.commands.shared.estimates.bill import Grounds, tell
from scrapy_valkey_dedup.commands.shared.estimates.costs import estimate
from scrapy_valkey_dedup.commands.shared.estimates.measured import Measured, measure
from scrapy_valkey_dedup.commands.shared.estimates.prices import Prices, known_prices, with_prices
from scrapy_valkey_dedup.commands.shared.estimates.workload import Workload
from scrapy_valkey_dedup.commands.shared.usage import FINE, CommandError
from scrapy_valkey_dedup.parsing import retention
from scrapy_valkey_dedup.session.heartbeat import beat_interval
from scrapy_valkey_dedup.settings import DedupSettings

SUMMARY = "Estimate what a ledger costs on ElastiCache Serverless for Valkey"
EXAMPLE = """examples:
  scrapy dedup estimate --posts-a-day 100000 --sightings 20 --spiders 10
  scrapy dedup estimate --from-ledger
  scrapy dedup estimate --posts-a-day 1e6 --price usd_per_gb_hour=0.101

exit code: 0, or 2 if the usage is wrong, or --from-ledger finds no ledger"""

_BY_BENCH = "ECPU as bench.ecpu measured them at best"
_SOON = 86400.0
"""Seconds of counting below which a note says that a month may be different."""


def _number(least: float, most: float = inf) -> Callable[[str], float]:
    def parse(written: str) -> float:
        try:
            found = float(written.replace(",", ""))
        except ValueError:
            found = inf
        if not least <= found <= most or found == inf:
            limits = f"{least:g} or more" if most == inf else f"from {least:g} to {most:g}"
            raise argparse.ArgumentTypeError(f"{written!r}: write a number, {limits}")
        return found

    return parse


def _retention(written: str) -> str:
    try:
        retention(written)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{written!r}: {error}") from None
    return written


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `estimate`."""
    asked = parser.add_argument_group("what the fleet does")
    asked.add_argument(
        "--posts-a-day", type=_number(0), metavar="N", help="new posts a day, of the whole fleet"
    )
    asked.add_argument(
        "--sightings", type=_number(1), metavar="N", help="how often each post is met in total (1)"
    )
    asked.add_argument(
        "--retention", type=_retention, metavar="TIME", help="VALKEY_DEDUP_RETENTION, such as 90d"
    )
    asked.add_argument(
        "--pages-a-day", type=_number(0), metavar="N",
        help='pages of a JOB, or new ones with REQUESTS = "stored" (0)',
    )  # fmt: skip
    asked.add_argument("--spiders", type=_number(1), metavar="N", help="runs at the same time (1)")
    asked.add_argument(
        "--hours", type=_number(0, 24), metavar="N", help="hours a day that each spider runs (24)"
    )
    asked.add_argument(
        "--starts", type=_number(0), metavar="N", help="starts of each spider a day (1)"
    )
    asked.add_argument(
        "--together", type=_number(1), metavar="N",
        help="posts that wait at the same time, such as those of a page (1, the most expensive)",
    )  # fmt: skip
    parser.add_argument(
        "--from-ledger",
        action="store_true",
        help="measure this ledger; with --posts-a-day only what it holds",
    )
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="another price, such as usd_per_gb_hour=0.101; --json shows all names",
    )


_GIVEN = ("sightings", "pages_a_day", "spiders", "hours", "starts", "together")
_FIELDS = {"posts_a_day": "posts", "pages_a_day": "pages"}


async def run(job: Job) -> int:
    """Shows an estimate. With ``--from-ledger`` it only reads the ledger."""
    options = job.options
    prices = with_prices(known_prices(), options.price)
    if options.posts_a_day is None and not options.from_ledger:
        raise CommandError(
            "the number of new posts is missing: --posts-a-day 100000, or measure it: --from-ledger"
        )
    settings = job.project.settings
    work = _workload(options, settings)
    if not options.from_ledger:
        grounds = Grounds(["what you gave"], [_BY_BENCH, *_assumed(options)])
        tell(job.screen, estimate(work, prices), grounds)
        return FINE
    async with connect(settings) as connection:
        found = await measure(connection)
    return _of_ledger(job, found, work, prices)


def _workload(options: argparse.Namespace, settings: DedupSettings) -> Workload:
    names = ("posts_a_day", *_GIVEN)
    given = {_FIELDS.get(name, name): getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    kept = settings.retention
    if options.retention is not None:
        kept = retention(options.retention)
    return Workload(
        **{"posts": 0.0, **given},
        retention=kept,
        page_retention=settings.request_retention,
        interval=beat_interval(settings.lease, settings.wait),
    )


def _assumed(options: argparse.Namespace) -> list[str]:
    defaults = Workload(0)
    return [
        f"--{name.replace('_', '-')} {getattr(defaults, _FIELDS.get(name, name)):g}"
        for name in _GIVEN
        if getattr(options, name) is None
    ]


def _of_ledger(job: Job, found: Measured, work: Workload, prices: Prices) -> int:
    options, grounds = job.options, Grounds(["posts, pages"], when="what is remembered now")
    if found.is_weighed:
        grounds.known.append("bytes (MEMORY USAGE)")
    else:
        grounds.assumed.append("bytes, as docs/ledger.md has them")
    if found.counted is not None and options.posts_a_day is None:
        _note(job, found.counted.seconds)
        grounds.known.append("commands of the whole server (INFO commandstats)")
        grounds.assumed.append("each month is like the time in which they were counted")
        grounds.counted = found.counted
        tell(job.screen, found.as_counted(prices), grounds)
        return FINE
    if options.posts_a_day is None:
        work = found.work(work, job.project.settings.retention)
        grounds.known.append("posts a day")
    else:
        grounds.known.append("what you gave")
    grounds.assumed.append(f"{_BY_BENCH} ({found.unknown})" if found.unknown else _BY_BENCH)
    assumed = _assumed(options)
    met = found.sightings()
    if options.sightings is None and met is not None:
        work = replace(work, sightings=met)
        grounds.known.append("sightings, by the runs that are at work")
        assumed = [each for each in assumed if not each.startswith("--sightings")]
    grounds.assumed += assumed
    tell(job.screen, found.as_modelled(work, prices), grounds)
    return FINE


def _note(job: Job, seconds: float) -> None:
    """Notes options that are not used, and a time of counting that is short."""
    unused = [name for name in (*_GIVEN, "retention") if getattr(job.options, name) is not None]
    if unused:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        job.screen.note(f"{listed} not used: the server has counted the commands themselves")
    if seconds < _SOON:
        job.screen.note(
            f"the server has counted for {seconds / 3600:.1f} hours only, and a month is expected "
            "to go on like that: say what is usual with --posts-a-day"
        )
