"""Posts a second through a real crawl: new, known, and parsed from HTML; on loopback and far away.

All ways take turns, round after round. A way's ratio is to the crawl of plain Scrapy of the same
round and on the same Scrapy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import product
from tempfile import TemporaryDirectory

from bench.crawls.helpers import helper
from bench.servers import ValkeyServer, free_port
from bench.suite.peers import Usable
from bench.suite.processes import CrawlError, crawl
from bench.suite.results import COST, OF_PLAIN, OF_PLAIN_CPU, RATE, Row
from bench.suite.sizes import Sizes
from bench.suite.spider import Job, Outcome
from bench.suite.ways import OURS, PLAIN, POST, Place

NEW, KNOWN, HTML = "new", "known", "html"
STALL_P99, STALL_MAX = "stall p99, ms", "longest stall, ms"
PEAK = "peak memory, MB"
LOST = "posts not stored"
PAGE, LISTED = 40, 100
_FEWER = 1 / 8
"""So many of the posts where each waits for an answer or for a disk,"""
_WAITING_MS = 12_000
"""and no more than wait so long, all together."""


def lists_for(posts: int) -> int:
    """How many lists link to the pages of so many posts."""
    return -(-(posts // PAGE) // LISTED)


class Bench:
    """A site and a Valkey, and the crawls there."""

    def __init__(self, stack: ExitStack, posts: int, *, html: bool = False) -> None:
        self.stack, self.html, self.posts = stack, html, posts
        self.server = stack.enter_context(ValkeyServer(port=free_port()))
        self.site = self._site(posts)
        self._small: dict[int, int] = {}
        self._lines: dict[float, int] = {0: self.server.port or 0}

    def _site(self, posts: int) -> int:
        port, pages = free_port(), posts // PAGE
        lists = ("--lists", lists_for(posts), "--listed", LISTED)
        module = "suite.html_site" if self.html else "crawls.site"
        helper(self.stack, module, port, pages, PAGE, *lists)
        return port

    def small(self, milliseconds: float) -> tuple[int, int]:
        """The port of a smaller site, and its posts: for ways that would take minutes."""
        most = min(self.posts * _FEWER, _WAITING_MS / max(milliseconds, 1))
        posts = max(round(most / PAGE), 2) * PAGE
        if posts not in self._small:
            self._small[posts] = self._site(posts)
        return self._small[posts], posts

    def port(self, milliseconds: float) -> int:
        """Where Valkey is found so far away, there and back."""
        if milliseconds not in self._lines:
            port = self._lines[milliseconds] = free_port()
            helper(self.stack, "servers.slow_line", port, self.server.port, milliseconds / 2)
        return self._lines[milliseconds]

    def crawl(self, usable: Usable, name: str, milliseconds: float = 0) -> tuple[Outcome, int]:
        """A crawl with what the way remembers under this name; returns its number of posts."""
        few = usable.way.slow or (usable.way.blocks and milliseconds > 0)
        site, posts = self.small(milliseconds) if few else (self.site, self.posts)
        folder = f"{self._folder}/{name}".replace(" ", "-")
        settings = usable.settings(Place(self.port(milliseconds), name, folder))
        return crawl(
            Job(site, lists_for(posts), settings, html=self.html), usable.environment
        ), posts

    @property
    def _folder(self) -> str:
        if not hasattr(self, "_made"):
            self._made = self.stack.enter_context(TemporaryDirectory(prefix="svd-bench-"))
        return self._made


class Turns:
    """The crawls of one round: their figures, and the ratios to plain Scrapy's."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._plain: dict[str, tuple[float, float]] = {}

    def add(self, usable: Usable, case: str, at: float, found: Outcome, posts: int) -> None:
        """Notes a crawl; plain Scrapy's on the same Scrapy comes before."""
        rate, cost = posts / found.seconds, found.cpu / posts * 1e6
        way = usable.label
        if usable.way is PLAIN:
            self._plain[usable.scrapy] = rate, cost
        plain_rate, plain_cost = self._plain[usable.scrapy]
        for what, value in (
            (RATE, rate),
            (COST, cost),
            (OF_PLAIN, rate / plain_rate),
            (OF_PLAIN_CPU, plain_cost / cost),
            (STALL_P99, found.stalls[0] * 1000),
            (STALL_MAX, found.stalls[1] * 1000),
            (PEAK, found.peak / 1024),
        ):
            self._row.add(what, case, way, at, value)


def measure(row: Row, sizes: Sizes, usable: Iterable[Usable]) -> Iterator[str]:
    """New posts and known posts, Valkey on loopback."""
    ways = list(usable)
    with ExitStack() as stack:
        bench = Bench(stack, sizes.posts)
        for number in range(sizes.rounds):
            turns = Turns(row)
            for way in _in_turn(ways, number):
                if way.way.asks == POST or way.way is PLAIN or number < sizes.far_rounds:
                    _new_and_known(row, bench, turns, way, number)
                    yield f"round {number + 1}: {way.label}"


def _in_turn(ways: list[Usable], number: int) -> list[Usable]:
    """Plain Scrapy first, the others each round in another order."""
    plain = [way for way in ways if way.way is PLAIN]
    others = [way for way in ways if way.way is not PLAIN]
    turn = number % max(len(others), 1)
    return plain + others[turn:] + others[:turn]


def _new_and_known(row: Row, bench: Bench, turns: Turns, way: Usable, number: int) -> None:
    try:
        found, posts = bench.crawl(way, f"{way.label} {number}")
        _check(row, way, found, posts, expected=posts)
        turns.add(way, NEW, 0, found, posts)
        if way.way.asks == POST:
            found, posts = bench.crawl(way, f"{way.label} {number}")
            _check(row, way, found, posts, expected=0)
            turns.add(way, KNOWN, 0, found, posts)
    except CrawlError as error:
        _failed(row, way, error)


def measure_far(row: Row, sizes: Sizes, usable: Iterable[Usable]) -> Iterator[str]:
    """New posts, Valkey at several distances: the ways that ask a server."""
    tried = list(usable)
    versions = {way.scrapy for way in tried if way.way.shares}
    ways = [each for each in tried if each.way.shares or _is_plain_of(each, versions)]
    with ExitStack() as stack:
        bench = Bench(stack, sizes.posts)
        for number, milliseconds in product(range(sizes.far_rounds), sizes.distances):
            turns = Turns(row)
            for way in _in_turn(ways, number):
                try:
                    name = f"{way.label} {number} {milliseconds:g}"
                    found, posts = bench.crawl(way, name, milliseconds)
                except CrawlError as error:
                    _failed(row, way, error)
                    continue
                _check(row, way, found, posts, expected=posts)
                turns.add(way, NEW, milliseconds, found, posts)
                yield f"round {number + 1}, {milliseconds:g} ms: {way.label}"


def _is_plain_of(usable: Usable, versions: set[str]) -> bool:
    return usable.way is PLAIN and usable.scrapy in versions


def measure_html(row: Row, sizes: Sizes, usable: Iterable[Usable]) -> Iterator[str]:
    """Posts that are parsed from HTML with five selectors for each."""
    ways = [way for way in usable if way.way.asks == POST or way.is_plain_here]
    with ExitStack() as stack:
        bench = Bench(stack, sizes.posts // 4, html=True)
        for number in range(sizes.rounds):
            turns = Turns(row)
            for way in _in_turn(ways, number):
                try:
                    found, posts = bench.crawl(way, f"{way.label} {number}")
                except CrawlError as error:
                    _failed(row, way, error)
                    continue
                _check(row, way, found, posts, expected=posts)
                turns.add(way, HTML, 0, found, posts)
                yield f"round {number + 1}: {way.label}"


def _check(row: Row, way: Usable, found: Outcome, posts: int, *, expected: int) -> None:
    """What a way must not do: lose posts, or store known ones."""
    if found.stored != expected:
        text = f"{way.label}: {found.stored} posts of {posts} were stored, not {expected}"
        assert way.way is not OURS, text
        row.note(text)


def _failed(row: Row, way: Usable, error: CrawlError) -> None:
    assert way.way not in (OURS, PLAIN), error
    row.note(f"{way.label}: {error}")
