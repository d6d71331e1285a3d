"""Posts per second through a real crawl, with deduplication and without: ``python -m bench.crawl``.

One site on loopback, one spider process at a time: plain Scrapy; with the plugin; with the plugin
and Valkey a millisecond away in each direction. The three take turns, round after round; the median
of each is set against plain Scrapy's. Every post is new, so each costs a claim and a confirm. With
``--feed`` the posts go to a file of JSON Lines, too, and are confirmed when their lines are synced.

On a busy machine the processor time of a post is steadier than the posts of a second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from bench.crawls.helpers import helper
from bench.servers import ValkeyServer, free_port

PLAIN = "plain Scrapy"


@dataclass(frozen=True)
class Way:
    """One way to crawl the site."""

    name: str
    url: str | None

    def crawl(self, port: int, pages: int, namespace: str, feed: str | None) -> dict[str, float]:
        """Runs one spider process; returns its stats."""
        settings: dict[str, object] = {}
        if feed:
            settings["FEEDS"] = {feed: {"format": "jsonlines", "overwrite": True}}
        if self.url:
            settings |= {
                "ADDONS": {"scrapy_valkey_dedup.Addon": 500},
                "VALKEY_DEDUP_URL": self.url,
                "VALKEY_DEDUP_FIELDS": ["platform", "post_id"],
                "VALKEY_DEDUP_NAMESPACE": namespace,
            }
        if self.url:  # a storage that costs nothing cannot be told from one that stores nothing
            settings["VALKEY_DEDUP_CONFIRM"] = "exported" if feed else "scraped"
        command = [
            sys.executable,
            "-m",
            "bench.crawls.spider",
            str(port),
            str(pages),
            json.dumps(settings),
        ]
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        stats: dict[str, float] = json.loads(output.stdout.strip().splitlines()[-1])
        return stats


@dataclass
class Figures:
    """What the rounds of one way measured."""

    rates: list[float] = field(default_factory=list)
    """Posts a second."""
    costs: list[float] = field(default_factory=list)
    """Microseconds of processor time a post."""

    def add(self, stats: dict[str, float]) -> None:
        """Takes the stats of one crawl."""
        posts = stats["item_scraped_count"]
        self.rates.append(posts / stats["elapsed_time_seconds"])
        self.costs.append(stats["processor_seconds"] / posts * 1e6)

    def line(self, name: str, base: Figures) -> str:
        """A line of the table; the ratio is to the median of ``base``."""
        median = statistics.median(self.rates)
        spread = f"{min(self.rates):.0f} to {max(self.rates):.0f}"
        ratio = median / statistics.median(base.rates)
        cost = statistics.median(self.costs)
        return (
            f"{name:42} {median:7.0f} posts/s ({spread})  ratio {ratio:.2f}  "
            f"{cost:.0f} us of processor time a post"
        )


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=20_000)
    parser.add_argument("--page", type=int, default=40, help="posts on a page")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--feed", action="store_true", help="with a file of JSON Lines")
    return parser.parse_args()


def compare(given: argparse.Namespace) -> dict[str, Figures]:
    """Runs all ways in turn."""
    pages = given.posts // given.page
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(port=free_port()))
        folder = stack.enter_context(TemporaryDirectory())
        feed = f"{folder}/posts.jl" if given.feed else None
        site, slow = free_port(), free_port()
        helper(stack, "crawls.site", site, pages, given.page)
        helper(stack, "servers.slow_line", slow, server.port, 1)
        ways = [
            Way(PLAIN, None),
            Way("deduplication", server.url),
            Way("deduplication, Valkey 1 ms away each way", f"valkey://127.0.0.1:{slow}"),
        ]
        figures = {way.name: Figures() for way in ways}
        for number in range(given.rounds):
            for way in ways:
                stats = way.crawl(site, pages, f"{way.name} {number}", feed)
                assert stats["item_scraped_count"] == pages * given.page, stats
                assert not way.url or stats["dedup/items/confirmed"] == pages * given.page, stats
                figures[way.name].add(stats)
    return figures


def main() -> None:
    """Runs the comparison and prints it."""
    figures = compare(options())
    for name, found in figures.items():
        print(found.line(name, figures[PLAIN]))


if __name__ == "__main__":
    main()
