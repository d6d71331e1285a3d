"""How long posts are remembered, and the generations that they are remembered in."""

from __future__ import annotations

from math import inf

GENERATIONS_PER_RETENTION = 2
"""A generation begins every half of the retention. With quarters a post would be kept 12 % shorter
on average, and a lookup would visit five generations instead of three (15 us instead of 9)."""

_FOREVER = 100 * 365 * 86400.0
"""Seconds that count as forever: the end of a generation has 13 digits, enough until 2286."""


def retention_and_step(retention: float | None) -> tuple[int, int]:
    """How long posts are kept, and how long a generation takes up new ones, in ms; 0: forever."""
    if retention is None or retention >= _FOREVER:
        return 0, 0
    kept = max(int(retention * 1000), 1)
    return kept, kept // GENERATIONS_PER_RETENTION


def end_of_generation(ends: bytes) -> float | None:
    """The end of a generation, in seconds since 1970; None if there is none."""
    if not ends:
        return None
    return int(ends) / 1000 or inf
