"""What the soak found: the tables, and the laws that were not kept."""

from __future__ import annotations

import asyncio
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.servers import ValkeyServer
from bench.soak.account import Account
from bench.soak.runs import Run, Sample
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Client

GROWTH, GROWTH_A_POST = 8.0, 40  # megabytes, and bytes: a run knows of each post that it is stored
FILES, SOCKETS = 8, 40  # descriptors more than at the first quarter; sockets at any time
WARM = 300  # seconds of life: the memory of a shorter one says nothing
_AT_ONCE = 20_000
# What the log of a run may say that is worse than INFO, in a soak.
_EXPECTED = re.compile(
    r"gave no answer within|its memory is full|has not answered any more|was never reached"
    r"|Claimed but neither confirmed nor released|Retrying <GET|Gave up retrying"
)


@dataclass(frozen=True)
class Findings:
    """All that is known at the end."""

    runs: Sequence[Run]
    account: Account
    faults: int
    seconds: float
    spool: list[str]
    server: dict[str, Any]
    memory_at_start: int
    remembered: int
    """Posts that the ledger knows at the end."""

    @property
    def growth_allowed(self) -> float:
        """Megabytes, from the end of the first quarter of a long life to its end."""
        return GROWTH + GROWTH_A_POST * self.account.posts / (1 << 20)


def remembered(server: ValkeyServer, posts: int) -> int:
    """How many of the posts the ledger knows; asked without the line."""

    async def ask() -> int:
        url = f"unix://{server.socket}"
        client = Client(url, url, {}, 30)
        try:
            ledger = Ledger(client, "soak", "outsider", retention=1)
            keys = [digest("Post", [str(post)]) for post in range(posts)]
            found = [
                seen
                for at in range(0, posts, _AT_ONCE)
                for seen in await ledger.seen_many(keys[at : at + _AT_ONCE])
            ]
            return sum(found)
        finally:
            await client.close()

    return asyncio.run(ask())


def show(found: Findings) -> Iterator[str]:
    """Prints the tables; yields the laws that were not kept."""
    account = found.account
    rows = [
        ("posts", account.posts),
        ("stored", len(account.copies)),
        ("missing (must be 0)", account.missing),
        ("remembered by the ledger at the end", found.remembered),
        ("second copies", account.second_copies),
        ("  bound: passed unchecked", account.unchecked),
        ("  + unconfirmed when a spider was killed", account.unconfirmed_at_kills),
        ("  + unconfirmed when a spider ended", account.unconfirmed_at_ends),
        ("  + stored by spiders taken for dead", account.taken_for_dead),
        ("  = so many could be excused", account.bound),
        ("second copies without an excuse of their own (must be 0)", len(account.unexplained)),
        ("faults", found.faults),
        ("spider processes, of which killed", _kills(found.runs)),
        ("spool files left (must be 0)", len(found.spool)),
        ("server: bytes a post", _bytes_a_post(found)),
        ("server: used memory, MB", f"{found.server['used_memory'] / (1 << 20):.1f}"),
    ]
    print()
    for name, value in rows:
        print(f"{name:58} {value}")
    print()
    show_runs(found)
    yield from broken(found)


def _kills(runs: Sequence[Run]) -> str:
    return f"{len(runs)}, {sum(run.killed for run in runs)}"


def _bytes_a_post(found: Findings) -> str:
    return f"{(found.server['used_memory'] - found.memory_at_start) / found.account.posts:.1f}"


def quarters(run: Run) -> list[Sample]:
    """What a run took at the end of each quarter of its life, each the median of a while.

    Empty if it was too short for that.
    """
    samples, window = run.samples, len(run.samples) // 10
    if window < 3:
        return []
    ends = [len(samples) * quarter // 4 for quarter in (1, 2, 3, 4)]
    return [_median(samples[end - window : end]) for end in ends]


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(*(statistics.median(values) for values in zip(*samples, strict=True)))


def slope(run: Run) -> float:
    """Megabytes an hour, by least squares, from the end of the first quarter on."""
    samples = run.samples[len(run.samples) // 4 :]
    times = [sample.at for sample in samples]
    if len(samples) < 3:
        return 0.0
    line = statistics.linear_regression(times, [sample.rss for sample in samples])
    return line.slope * 3600


def show_runs(found: Findings) -> None:
    """A line for each process."""
    print(
        f"{'run':14} {'policy':6} {'life':>7} {'stored':>7} {'unchk.':>6} {'outages':>7} "
        f"{'seconds':>7}  {'RSS MB: at first, after each quarter':^38} {'max':>6} {'MB/h':>7} "
        f"{'files':>9} {'sockets':>9}  end"
    )
    for run in found.runs:
        outages, seconds = run.outages
        line = (
            f"{run.name:14} {run.policy:6} {run.life:6.1f}s {len(run.stored):7} "
            f"{run.unchecked:6} {outages:7} {seconds:7.1f} "
        )
        ends = quarters(run)
        if ends:
            early, late = ends[0], ends[-1]
            memory = [run.samples[min(5, len(run.samples) - 1)], *ends]
            line += (
                f" {' '.join(f'{sample.rss:7.1f}' for sample in memory)} "
                f"{max(s.rss for s in run.samples):6.1f} {slope(run):7.1f} "
                f"{f'{early.files:.0f}..{late.files:.0f}':>9} "
                f"{f'{early.sockets:.0f}..{late.sockets:.0f}':>9}"
            )
        else:
            line += " " * 74
        print(f"{line}  {run.ending}")


def broken(found: Findings) -> Iterator[str]:
    """The laws that were not kept."""
    account = found.account
    if account.missing:
        yield f"{account.missing} posts are missing"
    if found.remembered != account.posts:
        yield f"the ledger remembers {found.remembered} of {account.posts} posts"
    if account.second_copies > account.bound:
        yield f"{account.second_copies} second copies, more than {account.bound}"
    if account.unexplained:
        some = dict(list(account.unexplained.items())[:20])
        yield f"posts with more copies than are excused: {some}"
    if found.spool:
        yield f"left in the data directory: {found.spool}"
    for run in found.runs:
        yield from (f"{run.name}: {fault}" for fault in faults_of(run, found))


def faults_of(run: Run, found: Findings) -> Iterator[str]:
    """What is wrong with a run."""
    endings = {"finished", "killed", *(["valkey_unavailable"] if run.policy == "close" else [])}
    if run.ending not in endings:
        yield f"ended with {run.ending!r}"
    if run.policy == "pause" and run.unchecked:
        yield f"{run.unchecked} posts passed unchecked, though it pauses"
    counted = run.stats.get("dedup/items/unchecked", run.unchecked)
    if counted != run.unchecked:
        yield f"{run.unchecked} posts were stored unchecked, and {counted} counted"
    if run.unconfirmed != run.stats.get("dedup/items/unconfirmed", run.unconfirmed):
        yield f"{run.unconfirmed} posts are not confirmed, the stats say otherwise"
    unexpected = [line for line in run.complaints if not _EXPECTED.search(line)]
    for line, times in Counter(re.sub(r"^[-\d]+ [:\d]+ ", "", line) for line in unexpected).items():
        yield f"it said ({times} times): {line:.300}"
    yield from _leaks(run, found)


def _leaks(run: Run, found: Findings) -> Iterator[str]:
    ends = quarters(run)
    if not ends or run.life < found.seconds / 2:
        return
    early, late = ends[0], ends[-1]
    growth = late.rss - early.rss
    if growth > found.growth_allowed and run.life > WARM:
        yield f"its memory grew by {growth:.1f} MB, more than {found.growth_allowed:.1f}"
    if late.files > early.files + FILES:
        yield f"{late.files:.0f} open files, {early.files:.0f} at the end of the first quarter"
    if (most := max(sample.sockets for sample in run.samples)) > SOCKETS:
        yield f"{most} sockets at once"
