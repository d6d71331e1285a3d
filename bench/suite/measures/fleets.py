"""A fleet of four workers that share a job, with Valkey near and 100 ms away: ``bench.fleet``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from bench import fleet
from bench.crawls.helpers import helper
from bench.crawls.worker import with_plugin
from bench.servers import ValkeyServer, free_port
from bench.suite.results import Row
from bench.suite.sizes import Sizes
from bench.suite.ways import OURS

CASE = "fleet of 4"
SECONDS, TIMES, CPU = "seconds", "times as long as near", "seconds of processor time"
AWAY_MS = 100.0
_WORKERS, _ANSWER_MS = 4, 100


def measure(row: Row, sizes: Sizes, _: Any) -> Iterator[str]:
    """The fleet near and far, in turn."""
    site = fleet.Site(sizes.fleet_pages, _ANSWER_MS)
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(port=free_port()))
        far = free_port()
        helper(stack, "servers.slow_line", far, server.port, AWAY_MS / 2)
        for number in range(sizes.far_rounds):
            near = 0.0
            for away, url in ((0.0, server.url), (AWAY_MS, f"valkey://127.0.0.1:{far}")):
                done = fleet.crawl(site, _WORKERS, with_plugin(url))
                faults = list(done.faults())
                assert not faults, faults
                near = near or done.seconds
                row.add(SECONDS, CASE, OURS.name, away, done.seconds)
                row.add(CPU, CASE, OURS.name, away, done.cpu)
                row.add(TIMES, CASE, OURS.name, away, done.seconds / near)
                yield f"round {number + 1}, {away:g} ms: {done.seconds:.2f} s"
