"""Where the processor time of a crawl goes, with the plugin and without: cProfile.

The profiler makes calls dearer than they are, so only the parts' sizes against each other count.
"""

from __future__ import annotations

import pstats
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.suite.measures.crawls import PAGE, Bench, lists_for
from bench.suite.peers import Usable
from bench.suite.processes import crawl
from bench.suite.results import Row
from bench.suite.sizes import Sizes
from bench.suite.spider import Job
from bench.suite.ways import OURS, PLAIN, Place

COST, CALLS = "us a post under cProfile", "calls a post"
_ROOM = re.compile(r"/scrapy_valkey_dedup/(\w+)[/.]")
_NAMED = ("scrapy", "twisted", "asyncio", "valkey", "itemadapter", "dataclasses", "json")


def measure(row: Row, sizes: Sizes, _usable: Any) -> Iterator[str]:
    """Both crawls."""
    posts = sizes.posts // 2 // PAGE * PAGE
    with ExitStack() as stack:
        bench = Bench(stack, posts)
        folder = stack.enter_context(TemporaryDirectory(prefix="svd-bench-"))
        for way in (PLAIN, OURS):
            usable = Usable(way, "", "", newest=True)
            path = f"{folder}/{way.name}"
            settings = usable.settings(Place(bench.port(0), "profile", f"{path} data"))
            crawl(Job(bench.site, lists_for(posts), settings, profile=path))
            for part, (seconds, calls) in _parts(Path(path)).items():
                row.add(COST, part, way.name, 0, seconds / posts * 1e6)
                row.add(CALLS, part, way.name, 0, calls / posts)
            yield way.name


def _parts(path: Path) -> dict[str, tuple[float, float]]:
    """Seconds and calls, by the part of the program that they are of; the largest first."""
    seconds: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    told: Any = pstats.Stats(str(path))
    for (file, _, _), (_, number, own, _, _) in told.stats.items():
        part = _part(file)
        seconds[part] += own
        calls[part] += number
    return {part: (own, calls[part]) for part, own in seconds.most_common()}


def _part(file: str) -> str:
    if room := _ROOM.search(file):
        return f"scrapy_valkey_dedup: {room[1]}"
    if file.startswith("~"):
        return "built-in functions"
    for each in _NAMED:
        if f"/{each}/" in file or file.endswith(f"/{each}.py"):
            return each
    if "/site-packages/" in file:
        return "other packages"
    return "the benchmark's spider" if "/bench/" in file else "the rest of Python"
