"""How much the benchmarks do: all, or so little that two minutes are enough."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Sizes:
    """The amounts of a run."""

    name: str
    rounds: int
    posts: int
    """Of a crawl without a network between spider and Valkey; multiples of a page of 40."""
    distances: tuple[float, ...]
    """Milliseconds of Valkey's round trip."""
    far_rounds: int
    fault_posts: int
    racers: int
    pages: int
    """Of the crawls that ask about pages."""
    fleet_pages: tuple[int, ...]
    """Of the sites that a fleet crawls."""
    memory: tuple[int, ...]
    """Numbers of posts at which the server's memory is measured, in one generation."""
    generations_to: int
    """The largest of them with two and three generations, and with the peers' layouts."""
    server: tuple[int, ...]
    """Numbers of posts at which the server's time is measured."""
    large: tuple[int, ...]
    """Numbers of posts of the ledger that is filled only on demand."""
    core_posts: int
    """Claimed and confirmed by each of the clients of a busy server."""
    process_posts: int
    """Of the crawl in which a spider's memory is watched."""
    all_faults: bool = True
    """Whether peers meet all faults, or only the first."""
    kills: int = 3
    """How often each way is killed: what is lost then depends on the moment."""

    def with_rounds(self, rounds: int) -> Sizes:
        """No more rounds than that, anywhere."""
        few, far = min(self.rounds, rounds), min(self.far_rounds, rounds)
        return replace(self, name=f"{self.name}, {rounds} round", rounds=few, far_rounds=far)


FULL = Sizes(
    "full", rounds=5, posts=20_000, distances=(0, 1, 5, 20), far_rounds=3, fault_posts=200,
    racers=8, pages=1000, fleet_pages=(600, 1000, 6000), memory=(10**4, 10**5, 10**6, 10**7),
    generations_to=10**6, server=(10**6, 10**7), large=(10**6, 10**7, 10**8),
    core_posts=40_000, process_posts=10**6,
)  # fmt: skip
QUICK = Sizes(
    "quick", rounds=1, posts=800, distances=(0, 20), far_rounds=1, fault_posts=40, racers=2,
    pages=60, fleet_pages=(60,), memory=(10**4, 10**5), generations_to=10**5,
    server=(10**4, 10**5), large=(10**4, 10**5, 10**6), core_posts=2000, process_posts=10_000,
    all_faults=False, kills=1,
)  # fmt: skip
