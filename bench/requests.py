"""What it costs to ask a far Valkey about each page: ``python -m bench.requests``.

A site on loopback that answers in 50 ms, a Valkey whose answers take 20 ms to come (a proxy delays
each direction by half of it), one spider process at a time: plain Scrapy; with the plugin and a
job, so that each page is claimed and each post too; with scrapy-redis's filter, if it is installed
(``pip install -e .[bench]``). They take turns, round after round. Every page is linked to once and
goes through the filter. A task in the event loop notes how late the loop wakes it from a sleep of a
millisecond: that is how long the loop was kept from everything else.

Fails if the plugin's median time is above 1.15 times plain Scrapy's, or its median longest stall
more than 50 ms above plain Scrapy's.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec

from scrapy.settings.default_settings import CONCURRENT_REQUESTS

from bench.crawls.helpers import helper
from bench.crawls.site import AT_ONCE, counts
from bench.crawls.worker import Report, Worker, warn_if_busy, with_plugin
from bench.servers import ValkeyServer, free_port

LISTED = 100
PLAIN, PLUGIN, REDIS = "plain Scrapy", "this plugin", "scrapy-redis's filter"
TIMES, STALL = 1.15, 0.05


def settings_for(way: str, port: int) -> dict[str, object]:
    """What the way needs in its settings to ask the server on ``port``."""
    if way == PLUGIN:
        return with_plugin(f"valkey://127.0.0.1:{port}")
    if way == REDIS:
        return {
            "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
            "REDIS_URL": f"redis://127.0.0.1:{port}",
        }
    return {}


def crawl(site: int, given: argparse.Namespace, settings: dict[str, object]) -> Report:
    """Runs one spider process; returns its report if it did all of its work, within its limits."""
    pages, posts = given.pages, given.posts
    worker = Worker(site, lists_for(pages), settings)
    try:
        worker.wait_until_ready()
        worker.start()
        report = worker.report()
    finally:
        worker.kill()
    counted = counts(site)
    at_once = counted.pop(AT_ONCE)
    assert set(counted.values()) == {1}, counted
    assert at_once <= (given.concurrency or CONCURRENT_REQUESTS), at_once
    assert report.pages == pages, report.stats
    assert len(set(report.stored)) == len(report.stored) == pages * posts, report.stats
    if "VALKEY_DEDUP_JOB" in settings:
        assert report.stats["dedup/requests/confirmed"] == pages, report.stats
        assert not posts or report.stats["dedup/items/confirmed"] == pages * posts, report.stats
    return report


def lists_for(pages: int) -> int:
    """How many lists link to so many pages."""
    return -(-pages // LISTED)


def round_trip(port: int, times: int = 20) -> float:
    """The median time that a PING takes, in seconds."""
    took = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(times):
            began = time.perf_counter()
            connection.sendall(b"PING\r\n")
            assert connection.recv(100) == b"+PONG\r\n"
            took.append(time.perf_counter() - began)
    return statistics.median(took)


@dataclass(frozen=True)
class Figure:
    """The median of several runs, and how far they lay apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """Sums up a figure of each run."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Outcome:
    """The figures of a way to crawl."""

    seconds: Figure
    cpu: Figure
    stall: Figure

    @classmethod
    def of(cls, reports: list[Report]) -> Outcome:
        """Sums up the runs of a way."""
        return cls(
            Figure.of([report.seconds for report in reports]),
            Figure.of([report.cpu for report in reports]),
            Figure.of([report.longest_stall for report in reports]),
        )

    def line(self, name: str, plain: Outcome) -> str:
        """A line of the table; the ratios are to plain Scrapy's medians."""
        seconds, stall = self.seconds, self.stall
        return (
            f"{name:22} {seconds.median:7.2f} s ({seconds.least:.2f} to {seconds.most:.2f})"
            f"  ratio {seconds.median / plain.seconds.median:5.2f}"
            f"  processor {self.cpu.median:5.2f} s"
            f"  longest stall {stall.median * 1000:6.0f} ms"
            f" ({stall.least * 1000:.0f} to {stall.most * 1000:.0f})"
            f"  ratio {stall.median / plain.stall.median:6.1f}"
        )

    def missed(self, plain: Outcome) -> Iterator[str]:
        """The limits that the medians do not keep."""
        times = self.seconds.median / plain.seconds.median
        above = self.stall.median - plain.stall.median
        if times > TIMES:
            yield f"{times:.2f} times plain Scrapy's time, the limit is {TIMES}"
        if above > STALL:
            limit = f"the limit is {STALL * 1000:.0f} ms"
            yield f"a stall {above * 1000:.0f} ms above plain Scrapy's, {limit}"


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--posts", type=int, default=1, help="posts on a page")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answer", type=float, default=50, help="milliseconds, of the site")
    parser.add_argument("--away", type=float, default=20, help="milliseconds, Valkey's round trip")
    parser.add_argument(
        "--concurrency",
        type=int,
        default=16,
        help="requests at once, in all and to the site: the hard case, as no slot can wait unused; "
        "0: Scrapy's defaults, 16 in all and 8 to a site, more than which Scrapy itself downloads "
        "when no delay is set",
    )
    parser.add_argument(
        "--judge",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fail if a limit is missed; that all was crawled and stored is always judged",
    )
    return parser.parse_args()


def ways() -> Iterator[str]:
    """What is compared."""
    yield PLAIN
    yield PLUGIN
    if find_spec("scrapy_redis"):
        yield REDIS
    else:
        print("scrapy-redis is not installed (pip install -e .[bench]): compared without it")


def compare(given: argparse.Namespace) -> dict[str, Outcome]:
    """Runs all ways in turn."""
    limits = {}
    if given.concurrency:
        limits["CONCURRENT_REQUESTS"] = given.concurrency
        limits["CONCURRENT_REQUESTS_PER_DOMAIN"] = given.concurrency
    reports: dict[str, list[Report]] = {way: [] for way in ways()}
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(port=free_port()))
        assert server.port
        site, far = free_port(), free_port()
        lists = ("--lists", lists_for(given.pages), "--listed", LISTED)
        helper(
            stack, "crawls.site", site, given.pages, given.posts, "--delay", given.answer, *lists
        )
        helper(stack, "servers.slow_line", far, server.port, given.away / 2)
        print(
            f"{given.pages} pages, posts on each: {given.posts}; the site answers in "
            f"{given.answer:g} ms; Valkey is {round_trip(far) * 1000:.1f} ms away, there and back"
        )
        for _ in range(given.rounds):
            for way, done in reports.items():
                settings = {**limits, **settings_for(way, far)}
                done.append(crawl(site, given, settings))
    return {way: Outcome.of(done) for way, done in reports.items()}


def main() -> int:
    """Runs the comparison and prints it; returns the exit status."""
    given = options()
    warn_if_busy()
    outcomes = compare(given)
    plain = outcomes[PLAIN]
    for way, outcome in outcomes.items():
        print(outcome.line(way, plain))
    missed = list(outcomes[PLUGIN].missed(plain)) if given.judge else []
    for limit in missed:
        print(f"missed: {limit}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
