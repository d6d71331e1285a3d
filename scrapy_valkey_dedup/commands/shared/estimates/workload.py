"""Computes the ECPU and bytes that a fleet of spiders takes in a day, from its workload.

The figures are measured: what a post costs by ``python -m bench.ecpu``, its bytes by ``python -m
bench.memory``, a start by a crawl without posts (26 November 2026). An ECPU is taken for 3
microseconds of a script; where that is changed, the scripts' part changes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, log

from scrapy_valkey_dedup.commands.shared.estimates.prices import Prices
from scrapy_valkey_dedup.ledger.keys import PARTITIONS
from scrapy_valkey_dedup.ledger.retention import GENERATIONS_PER_RETENTION
from scrapy_valkey_dedup.session.run_history import INTERVAL

DAY = 86400.0
HORIZON = 365.0
"""Days after the start for which the memory is estimated: some things never expire."""

_MEASURED_AT = 3.0
_ECPU_NEW = ((1, 5.5), (10, 3.4), (40, 2.4), (80, 2.1))
"""ECPU to claim and confirm a new post in one generation, by the posts that wait together."""
_ECPU_KNOWN = ((1, 2.4), (10, 1.4), (40, 1.0), (80, 0.8))
_ECPU_A_GENERATION = 0.3
_ECPU_A_LEVEL = 0.5
_FULL = (2.1e6, 19e6, 153e6)
"""Posts of a generation from which it has one more level of buckets; see docs/ledger.md."""
_ECPU_A_START = 85
"""ECPU of a run's start and end: about nine commands and seven scripts, which check permissions,
and one that writes its history."""
_ECPU_AN_ADDITION = 10
"""ECPU to add to the history, as a run at work does; 31 us with 20 spiders."""
_ECPU_A_COUNT = 16 * 70
"""ECPU to count the posts that are remembered, for the history, once an hour."""
_BYTES = ((1e6, 8.8), (2.2e6, 9.7), (1e7, 8.5), (2e7, 9.6))
"""Bytes per post, by the posts of a generation. With fewer posts, it is computed from these:"""
_BYTES_AN_ENTRY, _BYTES_A_BUCKET, _BUCKETS = 8, 108, 4096
_BEATS_A_NOTE = 4  # session/upkeep.py

BYTES_A_STRING_KEY = 119
"""``seen:posts:`` and a SHA-1 as 40 digits, with an end: 116 to 133 between 100,000 and 1.2 million
of them (Valkey 9.1, 26 November 2026)."""
BYTES_A_MEMBER = 72
"""A SHA-1 as 40 digits, in a set: 70 to 84."""


@dataclass(frozen=True)
class Workload:
    """What a fleet does each day. Times are in seconds."""

    posts: float
    """New posts a day."""
    sightings: float = 1.0
    """How often each post is met in total; 1 if never again."""
    retention: float | None = 90 * DAY
    pages: float = 0.0
    """Pages a day that are claimed, with a job or ``REQUESTS = "stored"``."""
    page_retention: float | None = 7 * DAY
    spiders: int = 1
    """Spiders that run at the same time."""
    hours: float = 24.0
    """Hours a day that they run."""
    starts: float = 1.0
    """Starts a day of each spider."""
    together: float = 1.0
    """Posts that wait at the same time and share calls."""
    interval: float = 2.5
    """Seconds between two heartbeats."""


@dataclass(frozen=True)
class Demand:
    """What something takes on the server."""

    entries: float
    """Posts that are remembered."""
    bytes: float
    ecpu: float
    """ECPU a day."""


def ledger_demand(work: Workload, prices: Prices) -> dict[str, Demand]:
    """The demand of the ledger, by purpose."""
    scale = _MEASURED_AT / prices.script_us_per_ecpu
    together, met_again = work.together, work.posts * (work.sightings - 1)
    at_work = work.spiders * work.hours * 3600
    beats = at_work / work.interval
    # An idle run adds nothing.
    additions = min(at_work / INTERVAL, work.posts * work.sightings + work.pages)
    history = additions * _ECPU_AN_ADDITION + min(additions, work.hours) * _ECPU_A_COUNT

    def charged(ecpu: float, calls_each: float) -> float:
        return max(ecpu * scale, calls_each)  # a call is one ECPU at least

    each = calls(together)
    new = charged(new_post(work.posts, work.retention, together), each)
    page = charged(new_post(work.pages, work.page_retention, together), each)
    again = charged(known_post(together), each / 2)
    return {
        "new posts": Demand(*stored(work.posts, work.retention), work.posts * new),
        "duplicates": Demand(0, 0, met_again * again),
        "pages": Demand(*stored(work.pages, work.page_retention), work.pages * page),
        "heartbeats": Demand(0, 0, beats * (1 + 1 / _BEATS_A_NOTE)),
        "history": Demand(0, 0, history * scale),
        "starts": Demand(0, 0, work.spiders * work.starts * _ECPU_A_START),
    }


def string_keys(work: Workload) -> Demand:
    """The demand of one key per post: ``SET KEY 1 NX EX RETENTION``, one call per sighting."""
    days = inf if work.retention is None else work.retention / DAY
    posts = work.posts * min(days, HORIZON)
    return Demand(posts, posts * BYTES_A_STRING_KEY, work.posts * work.sightings)


def one_set(work: Workload) -> Demand:
    """The demand of one set: ``SADD KEY FINGERPRINT``, as in scrapy-redis; it never expires."""
    posts = work.posts * HORIZON
    return Demand(posts, posts * BYTES_A_MEMBER, work.posts * work.sightings)


def new_post(a_day: float, retention: float | None, together: float) -> float:
    """ECPU to claim and confirm a new post."""
    generation, alive = generations(a_day, retention)
    levels = sum(generation > full for full in _FULL)
    further = max(alive - 1, 0)
    return _between(_ECPU_NEW, together) + further * _ECPU_A_GENERATION + levels * _ECPU_A_LEVEL


def known_post(together: float) -> float:
    """ECPU to look up a post that is remembered."""
    return _between(_ECPU_KNOWN, together)


def calls(together: float) -> float:
    """Script calls per claimed and confirmed post: a batch needs one per partition it touches."""
    touched: float = PARTITIONS * (1 - (1 - 1 / PARTITIONS) ** together)
    return 2 * touched / together


def generations(a_day: float, retention: float | None) -> tuple[float, float]:
    """The posts of one generation, and the number of generations, after a year."""
    days = inf if retention is None else retention / DAY
    step = min(days / GENERATIONS_PER_RETENTION, HORIZON)
    return a_day * step, held_days(retention) / step


def held_days(retention: float | None) -> float:
    """Days that posts are kept, after a year; a post is kept for 1 to 1.5 retentions."""
    days = inf if retention is None else retention / DAY
    return min(days * 1.25, HORIZON)


def stored(a_day: float, retention: float | None) -> tuple[float, float]:
    """The number of remembered posts after a year, and their bytes."""
    generation, alive = generations(a_day, retention)
    return a_day * held_days(retention), bytes_of(generation) * alive


def bytes_of(entries: float) -> float:
    """The bytes of one generation with this number of entries."""
    if entries < _BYTES[0][0]:
        filled = _BUCKETS * (1 - exp(-entries / _BUCKETS))
        return _BYTES_AN_ENTRY * entries + _BYTES_A_BUCKET * filled
    return entries * _between(_BYTES, entries)


def _between(points: tuple[tuple[float, float], ...], at: float) -> float:
    """Interpolates between measured figures."""
    if at <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in pairwise(points):
        if at <= right:
            return low + (high - low) * log(at / left) / log(right / left)
    return points[-1][1]
