"""Which posts are missing, which are stored twice, and whether that is excused.

A post may be stored again only if Valkey could not know of the copy before: because a copy passed
unchecked, or because it was not confirmed when the run that had stored it was killed, ended or was
taken for dead. For each post, then: the copies beyond the first are no more than its copies that
passed unchecked and its copies that were confirmed too late. And in all they are no more than what
the stats and the kills leave room for, which is the ``bound``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.soak.runs import Run, Span

# The posts in a process's pipelines are not confirmed in the order in which they were stored.
_DISORDER = 200
_LATE = 2.0  # seconds that a heartbeat may be old, or a store may take


@dataclass(frozen=True)
class Account:
    """The sums over all runs."""

    posts: int
    copies: Counter[int]
    """Of each post."""
    unchecked: int
    unconfirmed_at_kills: int
    unconfirmed_at_ends: int
    taken_for_dead: int
    """Copies of runs that were frozen for longer than the lease, stored then."""
    unexplained: dict[int, int]
    """Posts with more copies than are excused, and how many more."""

    @property
    def missing(self) -> int:
        """Posts of the site that are not stored."""
        return self.posts - len(self.copies)

    @property
    def second_copies(self) -> int:
        """Copies beyond the first."""
        return self.copies.total() - len(self.copies)

    @property
    def bound(self) -> int:
        """So many second copies can be excused."""
        late = self.unconfirmed_at_kills + self.unconfirmed_at_ends + self.taken_for_dead
        return self.unchecked + late


def settle(runs: Sequence[Run], posts: int, lease: float) -> Account:
    """Goes through all copies; ``lease`` in seconds."""
    copies = Counter(copy.post for run in runs for copy in run.stored)
    excuses: Counter[int] = Counter()
    taken_for_dead = 0
    for run in runs:
        late = set(_unconfirmed(run))
        silent = set(_silent(run, lease)) - late
        taken_for_dead += len(silent)
        excused = late | silent
        for number, copy in enumerate(run.stored):
            excuses[copy.post] += copy.unchecked or number in excused
    extra = {post: number - 1 - excuses[post] for post, number in copies.items()}
    return Account(
        posts,
        copies,
        unchecked=sum(run.unchecked for run in runs),
        unconfirmed_at_kills=sum(run.unconfirmed for run in runs if run.killed),
        unconfirmed_at_ends=sum(run.unconfirmed for run in runs if not run.killed),
        taken_for_dead=taken_for_dead,
        unexplained={post: number for post, number in extra.items() if number > 0},
    )


def _unconfirmed(run: Run) -> Iterable[int]:
    """The places of the copies that Valkey may not have acknowledged when the process ended."""
    if not run.unconfirmed:
        return ()
    first = len(run.stored) - run.unconfirmed - _DISORDER
    return range(max(first, 0), len(run.stored))


def _silent(run: Run, lease: float) -> Iterable[int]:
    """The places of the checked copies that a run stored when others may have taken it for dead.

    It was frozen for longer than the lease, and its claims were free: a shorter freeze leaves its
    heartbeat alive. One that an outage keeps from beating keeps its claims.
    """
    spans = [
        Span(span.begin - lease, span.end + _LATE) for span in run.freezes if span.seconds > lease
    ]
    for number, copy in enumerate(run.stored):
        if not copy.unchecked and any(span.begin <= copy.at <= span.end for span in spans):
            yield number
