"""Pages a second when each page is asked about before it is downloaded: ``bench.requests``.

The site answers in 50 ms; Valkey is at several distances; every slot of the downloader is in use.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from bench import requests
from bench.suite.results import OF_PLAIN, Row
from bench.suite.sizes import Sizes
from bench.suite.ways import OURS, PLAIN, REDIS

PAGES, STALL, CPU = "pages a second", "longest stall, ms", "us of processor time a page"
NAMES = {
    requests.PLAIN: PLAIN.name,
    requests.PLUGIN: OURS.name,
    requests.REDIS: f"{REDIS.name}, filter alone",
}
_CONCURRENCY, _ANSWER_MS = 16, 50


def measure(row: Row, sizes: Sizes, _: Any) -> Iterator[str]:
    """One round of all ways at each distance, and again."""
    for number in range(sizes.far_rounds):
        for away in sizes.distances:
            given = Namespace(
                pages=sizes.pages, posts=1, rounds=1, answer=_ANSWER_MS, away=away,
                concurrency=_CONCURRENCY, judge=False,
            )  # fmt: skip
            with redirect_stdout(StringIO()):  # the line that it prints is another's
                outcomes = requests.compare(given)
            plain = outcomes[requests.PLAIN]
            for way, found in outcomes.items():
                name = NAMES[way]
                row.add(PAGES, "new", name, away, sizes.pages / found.seconds.median)
                row.add(OF_PLAIN, "new", name, away, plain.seconds.median / found.seconds.median)
                row.add(CPU, "new", name, away, found.cpu.median / sizes.pages * 1e6)
                row.add(STALL, "new", name, away, found.stall.median * 1000)
            yield f"round {number + 1}, {away:g} ms"
