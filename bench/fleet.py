"""How much faster four workers are than one: ``python -m bench.fleet``.

A site on loopback that answers in 100 ms: an index that links to 40 pages, and 1,000 pages of one
post, each of which links to 20 others. It is crawled by one worker without the plugin, by one with
it, and by a fleet: processes with Scrapy's own schedulers and settings that share one job. The
three take turns, round after round. A crawl's time runs from the first opening of a spider to the
end of the last one. The fleet's cannot be less than its processor time divided by the processors:
four workers need at least two that are otherwise idle.

Fails if a page is not downloaded exactly once by the fleet, a post not stored exactly once, a
worker downloads less than 15 % of the pages, or the fleet is not at least 2.5 times faster than one
worker. The site counts the downloads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from bench.crawls.helpers import helper
from bench.crawls.site import AT_ONCE, counts
from bench.crawls.worker import Report, Worker, warn_if_busy, with_plugin
from bench.servers import ValkeyServer, free_port

LISTED, LINKS = 40, 20
FASTER, SHARE = 2.5, 0.15
PLAIN, ONE, FLEET = "one worker, plain Scrapy", "one worker", "the fleet"


@dataclass(frozen=True)
class Site:
    """What the site is like."""

    pages: int
    answer: float
    """Milliseconds for each answer."""

    def start(self, stack: ExitStack) -> int:
        """Serves it, with counts from zero, as long as the stack; returns the port."""
        port = free_port()
        links = ("--links", LINKS, "--lists", 1, "--listed", LISTED)
        helper(stack, "crawls.site", port, self.pages, 1, "--delay", self.answer, *links)
        return port


@dataclass(frozen=True)
class Crawl:
    """What came of a crawl: the workers' reports and the site's counts."""

    reports: list[Report]
    downloads: list[int]
    """How often each page was downloaded."""
    at_once: int
    """How many requests the site had to answer at once, at most."""

    @property
    def seconds(self) -> float:
        """From the first opening to the last end."""
        first = min(report.opened for report in self.reports)
        return max(report.closed for report in self.reports) - first

    @property
    def cpu(self) -> float:
        """Seconds of processor time of all workers."""
        return sum(report.cpu for report in self.reports)

    @property
    def shares(self) -> list[float]:
        """The part of the downloads that each worker did."""
        return [report.pages / sum(self.downloads) for report in self.reports]

    def faults(self) -> Iterator[str]:
        """Pages that were not downloaded exactly once, posts that were not stored exactly once."""
        found = dict(sorted(Counter(self.downloads).items()))
        if set(found) != {1}:
            yield f"pages by their number of downloads: {found}"
        stored = Counter(post for report in self.reports for post in report.stored)
        if len(stored) != len(self.downloads):
            yield f"{len(stored)} of {len(self.downloads)} posts are stored"
        if twice := sum(times > 1 for times in stored.values()):
            yield f"{twice} posts are stored more than once"


def crawl(site: Site, workers: int, settings: dict[str, object]) -> Crawl:
    """Starts so many workers at once and waits for all."""
    with ExitStack() as stack:
        port = site.start(stack)
        fleet = [Worker(port, 1, settings) for _ in range(workers)]
        for worker in fleet:
            stack.callback(worker.kill)
        for worker in fleet:
            worker.wait_until_ready()
        for worker in fleet:
            worker.start()
        reports = [worker.report() for worker in fleet]
        counted = counts(port)
    downloads = [counted.get(f"/{number}", 0) for number in range(site.pages)]
    return Crawl(reports, downloads, counted[AT_ONCE])


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answer", type=float, default=100, help="milliseconds, of the site")
    parser.add_argument(
        "--away",
        type=float,
        default=0,
        help="milliseconds that a proxy adds to Valkey's round trip; 0: no proxy",
    )
    parser.add_argument(
        "--judge",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fail if the fleet is too slow or a share too small; counts are always judged",
    )
    return parser.parse_args()


def compare(given: argparse.Namespace) -> dict[str, list[Crawl]]:
    """Runs all ways in turn."""
    site = Site(given.pages, given.answer)
    crawls: dict[str, list[Crawl]] = {PLAIN: [], ONE: [], FLEET: []}
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(port=free_port()))
        url = server.url
        if given.away:
            far = free_port()
            helper(stack, "servers.slow_line", far, server.port, given.away / 2)
            url = f"valkey://127.0.0.1:{far}"
        for _ in range(given.rounds):
            crawls[PLAIN].append(crawl(site, 1, {}))
            crawls[ONE].append(crawl(site, 1, with_plugin(url)))
            crawls[FLEET].append(crawl(site, given.workers, with_plugin(url)))
    return crawls


def median(crawls: list[Crawl]) -> float:
    """The median of their times, in seconds."""
    return statistics.median(crawl.seconds for crawl in crawls)


def show(crawls: dict[str, list[Crawl]]) -> None:
    """Prints the times, and what each crawl of the fleet did."""
    for way, done in crawls.items():
        found = [crawl.seconds for crawl in done]
        faster = median(crawls[ONE]) / median(done)
        print(
            f"{way:25} {median(done):6.2f} s ({min(found):.2f} to {max(found):.2f})"
            f"  {faster:.2f} times as fast as one worker;"
            f" {statistics.median(crawl.cpu for crawl in done):.1f} s of processor time,"
            f" up to {max(crawl.at_once for crawl in done)} requests at once"
        )
    print(f"processors: {os.cpu_count()}")
    for number, done_once in enumerate(crawls[FLEET], 1):
        shares = ", ".join(f"{share:.0%}" for share in sorted(done_once.shares))
        each = statistics.mean(done_once.downloads)
        print(f"{FLEET}, round {number}: {each:.3f} downloads a page; shares {shares}")


def missed(crawls: dict[str, list[Crawl]]) -> Iterator[str]:
    """The limits that the fleet does not keep."""
    faster = median(crawls[ONE]) / median(crawls[FLEET])
    if faster < FASTER:
        yield f"{FLEET} is only {faster:.2f} times as fast as one worker, not {FASTER}"
    least = min(share for crawl in crawls[FLEET] for share in crawl.shares)
    if least < SHARE:
        yield f"a worker did {least:.1%} of the downloads, not {SHARE:.0%}"


def main() -> int:
    """Runs the comparison and prints it; returns the exit status."""
    given = options()
    warn_if_busy()
    crawls = compare(given)
    show(crawls)
    faults = [
        f"{way}: {fault}"
        for way, done in crawls.items()
        for crawl in done
        for fault in crawl.faults()
    ]
    if given.judge:
        faults += missed(crawls)
    for fault in faults:
        print(f"fault: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
