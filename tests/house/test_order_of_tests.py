"""The order in which tests begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.support.order import long_first


def parts_of(items: Sequence[int], workers: int) -> Iterator[Sequence[int]]:
    """What each worker begins with, as ``--dist worksteal`` deals it out."""
    begin = 0
    for number in range(workers):
        end = begin + (len(items) - begin) // (workers - number)
        yield items[begin:end]
        begin = end


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 16])
@pytest.mark.parametrize(("size", "many"), [(0, 0), (100, 0), (100, 9), (100, 50), (34, 34)])
def test_long_tests_come_first_in_a_part_of_the_workers(size: int, many: int, workers: int) -> None:
    """No test is left out; a third of the workers waits, or as many as it takes for all to fit."""
    items = list(range(size))
    long = items[size - many :]
    ordered = long_first(items, long, workers)
    assert sorted(ordered) == items
    parts = list(parts_of(ordered, workers))
    waiting = [[item in long for item in part] for part in parts]
    assert all(part == sorted(part, reverse=True) for part in waiting)
    if many:
        needed = -(-many // max(1, size // workers))
        assert sum(map(any, waiting)) <= max(1, workers // 3, needed)
