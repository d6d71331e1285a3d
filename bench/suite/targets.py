"""The targets, and whether the results meet them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bench.suite.measures import cores, crawls, fleets, growth, ledger, lost
from bench.suite.results import OF_PLAIN, OF_PLAIN_CPU, Figure, Results
from bench.suite.ways import OURS, PLAIN, POST, WAYS

OUR = OURS.name


@dataclass(frozen=True)
class Target:
    """A figure, and the limit that it is to keep."""

    row: str
    what: str
    of: Callable[[Results], float | None]
    limit: float
    at_least: bool = False
    """Whether more is better."""
    why: str = "#where-the-time-goes"
    """What explains a miss, on docs/benchmarks.md."""

    @property
    def words(self) -> str:
        """The limit."""
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}"


@dataclass(frozen=True)
class Verdict:
    """What became of a target."""

    target: Target
    value: float | None

    @property
    def word(self) -> str:
        """In one word or two."""
        if self.value is None:
            return "not measured"
        limit = self.target.limit
        is_met = self.value >= limit if self.target.at_least else self.value <= limit
        return "met" if is_met else "missed"

    @property
    def line(self) -> str:
        """For a terminal."""
        found = "-" if self.value is None else f"{self.value:.3g}"
        return f"{self.word:>12}  {self.target.what}: {found} ({self.target.words})"


def ours(row: str, what: str, case: str, at: float = 0) -> Callable[[Results], float | None]:
    """A median of ours."""
    return lambda results: results.median(row, what, case, OUR, at)


def above_sharers(results: Results) -> float | None:
    """Our ratio over the best of the peers that share and ask about each post."""
    rivals = {way.name for way in WAYS if way.shares and way.asks == POST and way is not OURS}
    found = [
        figure.median
        for figure in results.figures("crawls", OF_PLAIN, crawls.NEW)
        if figure.way in rivals
    ]
    ours = results.median("crawls", OF_PLAIN, crawls.NEW, OUR)
    return ours / max(found) if ours and found else None


def far_fleet(results: Results) -> float | None:
    """How much longer a far fleet takes; for other pages only where small amounts were measured."""
    found = {
        figure.case: figure.median
        for figure in results.figures("fleets", fleets.TIMES)
        if figure.at == fleets.AWAY_MS
    }
    return found.get(fleets.case(fleets.ISSUE), next(iter(found.values()), None))


def flat(results: Results) -> float | None:
    """Our worst ratio to plain Scrapy with Valkey far away, over that on loopback."""
    found = {each.at: each.median for each in _ours(results.figures("far", OF_PLAIN, crawls.NEW))}
    return min(found.values()) / found[0] if 0 in found else None


def extra_stall(what: str) -> Callable[[Results], float | None]:
    """The most that a stall is above plain Scrapy's, at any distance."""

    def find(results: Results) -> float | None:
        ours = {figure.at: figure.median for figure in _ours(results.figures("far", what))}
        plain = {
            figure.at: figure.median
            for figure in results.figures("far", what)
            if figure.way == PLAIN.name
        }
        return max((ours[at] - plain[at] for at in ours if at in plain), default=None)

    return find


def worst_page_ratio(results: Results) -> float | None:
    """The least ratio of pages a second, at any distance."""
    return min((each.median for each in _ours(results.figures("pages", OF_PLAIN))), default=None)


def most_bytes(results: Results) -> float | None:
    """The most bytes a post from a million on, in one generation and in three."""
    found = [each.median for row in (ledger.ROW, ledger.LARGE)
             for each in _ours(results.figures(row, ledger.BYTES))
             if each.at >= _from(results)]  # fmt: skip
    return max(found, default=None)


def _from(results: Results) -> float:
    """A million; in a small run its largest size."""
    sizes = [each.at for each in _ours(results.figures("ledger", ledger.BYTES))]
    return min(10**6, max(sizes, default=0))


def server_growth(results: Results) -> float | None:
    """How many times as long the server takes at the largest size, for the deed that grows most."""
    found = []
    for case in (ledger.CLAIM, ledger.CONFIRM, ledger.KNOWN):
        figures = results.figures(ledger.row_of_times(results), ledger.TIME, case)
        by_size = {each.at: each.median for each in figures}
        if by_size:
            found.append(by_size[max(by_size)] / by_size[min(by_size)])
    return max(found, default=None)


def lost_posts(results: Results) -> float | None:
    """All posts that we lost, under any fault."""
    found = [sum(each.values) for each in _ours(results.figures("lost", lost.LOST))]
    return sum(found) if found else None


def _ours(figures: Iterable[Figure]) -> Iterator[Figure]:
    return (figure for figure in figures if figure.way == OUR)


TARGETS = (
    Target(
        "lost",
        "posts lost, all faults together",
        lost_posts,
        0,
    ),
    Target(
        "crawls",
        "new posts a second, of plain Scrapy",
        ours("crawls", OF_PLAIN, crawls.NEW),
        0.70,
        at_least=True,
    ),
    Target(
        "crawls",
        "the same by processor time",
        ours("crawls", OF_PLAIN_CPU, crawls.NEW),
        0.70,
        at_least=True,
    ),
    Target(
        "crawls",
        "the same, of the best peer that shares and asks about each post",
        above_sharers,
        1.0,
        at_least=True,
    ),
    Target(
        "crawls",
        "known posts a second, of plain Scrapy",
        ours("crawls", OF_PLAIN, crawls.KNOWN),
        0.80,
        at_least=True,
    ),
    Target(
        "far",
        "new posts a second at the worst distance, of those on loopback",
        flat,
        0.90,
        at_least=True,
    ),
    Target(
        "html",
        "posts a second from HTML, five selectors each, of plain Scrapy",
        ours("html", OF_PLAIN, crawls.HTML),
        0.92,
        at_least=True,
    ),
    Target(
        "far",
        "p99 stall of the event loop, ms above plain Scrapy's",
        extra_stall(crawls.STALL_P99),
        10,
    ),
    Target(
        "far",
        "longest stall, ms above plain Scrapy's",
        extra_stall(crawls.STALL_MAX),
        10,
    ),
    Target(
        "pages",
        "pages a second at the worst distance, of plain Scrapy",
        worst_page_ratio,
        0.85,
        at_least=True,
        why="#pages",
    ),
    Target(
        "fleets",
        "time of a fleet of four, 1,000 pages, Valkey 100 ms away, of that near",
        far_fleet,
        1.15,
        why="#pages",
    ),
    Target(
        "ledger",
        "bytes a post from a million on, 1 to 3 generations",
        most_bytes,
        10,
        why="ledger.md#memory-and-speed",
    ),
    Target(
        "ledger",
        "server's time a post with the most posts, of that with the fewest",
        server_growth,
        1.5,
        why="ledger.md#time-and-the-number-of-posts",
    ),
    Target(
        "cores",
        "posts a second of a cluster's core, of one server's",
        ours("cores", cores.OF_ONE, cores.CLUSTER),
        0.80,
        at_least=True,
        why="#valkeys-memory-and-time",
    ),
    Target(
        "growth",
        "bytes a post that the plugin adds to a process, second half of the run",
        ours("growth", growth.SLOPE, growth.CASE),
        1.0,
        why="#the-spiders-memory",
    ),
)


def judge(results: Results) -> list[Verdict]:
    """All targets."""
    return [Verdict(target, target.of(results)) for target in TARGETS]
