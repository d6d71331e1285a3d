"""The soak's account: what it excuses, and what it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bench.soak.account import Account, settle
from bench.soak.runs import Span, Stored

LEASE = 15


def run(*posts: int, **changes: object) -> Any:
    """A run that stored these posts, one a second from 100 on, each checked and confirmed."""
    unchecked = changes.pop("passed", ())
    stored = [Stored(100 + n, post, post in unchecked) for n, post in enumerate(posts)]
    facts = {
        "stored": stored,
        "unchecked": sum(copy.unchecked for copy in stored),
        "unconfirmed": 0,
        "killed": False,
        "freezes": [],
    }
    return SimpleNamespace(**{**facts, **changes})


def account(*runs: Any, posts: int = 3) -> Account:
    """The account of some runs."""
    return settle(runs, posts, LEASE)


def test_every_post_once() -> None:
    """Nothing is missing, nothing is there twice."""
    found = account(run(0, 1), run(2))
    assert (found.missing, found.second_copies, found.bound) == (0, 0, 0)


def test_a_missing_post() -> None:
    """It is counted, whatever else there is."""
    assert account(run(0, 1, 1)).missing == 1


def test_a_copy_without_an_excuse() -> None:
    """Two runs that Valkey had told to store the same post: that must not be."""
    found = account(run(0, 1, 2), run(1))
    assert (found.second_copies, found.bound, found.unexplained) == (1, 0, {1: 1})


def test_an_excuse_is_for_its_own_post() -> None:
    """What passed unchecked excuses copies of itself, not of others, though the sums are right."""
    found = account(run(0, 1, 2, passed=[0]), run(1))
    assert found.second_copies <= found.bound
    assert found.unexplained == {1: 1}
    assert not account(run(0, 1, 2, passed=[1]), run(1)).unexplained


def test_a_run_that_was_killed() -> None:
    """What Valkey had not acknowledged may come again; of what it had, nothing."""
    killed = run(*range(1000), killed=True, unconfirmed=1)
    assert not account(killed, run(999), posts=1000).unexplained
    assert account(killed, run(1), posts=1000).unexplained == {1: 1}
    assert account(killed, posts=1000).unconfirmed_at_kills == 1


def test_a_run_that_was_taken_for_dead() -> None:
    """Frozen for longer than its lease: what it stored then may come again."""
    long, short = Span(101, 121), Span(101, 102)
    assert not account(run(0, 1, 2, freezes=[long]), run(1)).unexplained
    assert account(run(0, 1, 2, freezes=[short]), run(1)).unexplained == {1: 1}
