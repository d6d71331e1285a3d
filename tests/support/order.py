"""The order of the tests: what waits long begins first, so that nobody waits for it at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def long_first(items: Sequence[T], long: Sequence[T], workers: int) -> list[T]:
    """The long ones at the beginning of some workers' parts, the others as they were.

    ``--dist worksteal`` gives each worker a part of the list, all as long; a worker that has done
    its own takes over the end of another's. A third of the workers gets the long ones: while those
    wait, the rest has work for the processors.
    """
    size = len(items)
    waiting = max(1, workers // 3, -(-len(long) * workers // max(1, size)))
    parts = [[*long[number::waiting]] if number < waiting else [] for number in range(workers)]
    others = iter([item for item in items if item not in long])
    for number, part in enumerate(parts):
        # As worksteal counts: what is left, divided by the workers that have nothing yet.
        room = (size - sum(map(len, parts[:number]))) // (workers - number) - len(part)
        part += [next(others) for _ in range(room)]
    return [item for part in parts for item in part]
