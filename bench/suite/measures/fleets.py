"""A fleet of four workers that share a job, with Valkey near and 100 ms away: ``bench.fleet``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from bench import fleet
from bench.crawls.helpers import helper
from bench.crawls.worker import with_plugin
from bench.servers import ValkeyServer, free_port
from bench.suite.results import Row
from bench.suite.sizes import Sizes
from bench.suite.ways import OURS

ISSUE = 1000
"""Pages of ``bench.fleet``'s own site, for which the target was set."""
SECONDS, TIMES, CPU = "seconds", "times as long as near", "seconds of processor time"
AWAY_MS = 100.0
_WORKERS, _ANSWER_MS = 4, 100


def case(pages: int) -> str:
    """The name of a site of so many pages."""
    return f"{pages:,} pages"


def measure(row: Row, sizes: Sizes, _: Any) -> Iterator[str]:
    """The fleet near and far, in turn, on sites of several sizes."""
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(port=free_port()))
        far = free_port()
        helper(stack, "servers.slow_line", far, server.port, AWAY_MS / 2)
        urls = {0.0: server.url, AWAY_MS: f"valkey://127.0.0.1:{far}"}
        for number in range(sizes.far_rounds):
            for pages in sizes.fleet_pages:
                yield f"round {number + 1}, {case(pages)}: {_compare(row, pages, urls)}"


def _compare(row: Row, pages: int, urls: Mapping[float, str]) -> str:
    """One crawl at each distance; returns the times."""
    site, near, told = fleet.Site(pages, _ANSWER_MS), 0.0, []
    for away, url in urls.items():
        done = fleet.crawl(site, _WORKERS, with_plugin(url))
        faults = list(done.faults())
        assert not faults, faults
        near = near or done.seconds
        row.add(SECONDS, case(pages), OURS.name, away, done.seconds)
        row.add(CPU, case(pages), OURS.name, away, done.cpu)
        row.add(TIMES, case(pages), OURS.name, away, done.seconds / near)
        told.append(f"{done.seconds:.2f} s {away:g} ms away")
    return ", ".join(told)
