"""The line at the end of a run: a sum that adds up, and what became of the posts and pages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy.statscollectors import MemoryStatsCollector
from scrapy.utils.test import get_crawler

from scrapy_valkey_dedup.session.summary import summary
from scrapy_valkey_dedup.stats import Stats


def said_of(counted: dict[str, int]) -> str:
    """The line for these stats."""
    collector = MemoryStatsCollector(get_crawler())
    for name, number in counted.items():
        collector.set_value(f"dedup/{name}", number)
    return summary(Stats(collector))


@given(
    st.dictionaries(
        st.sampled_from(["new", "duplicate", "in_flight", "unkeyed", "unchecked", "confirmed"]),
        st.integers(0, 10**6),
    )
)
def test_the_numbers_in_brackets_are_those_seen(counted: dict[str, int]) -> None:
    """However a run went, "N posts seen" is the sum of what stands in brackets behind it."""
    line = said_of({f"items/{name}": number for name, number in counted.items()})
    found = re.match(r"(\d+) posts? seen(?: \((.*?)\))?(?:, |$)", line)
    assert found is not None
    total, parts = found.groups()
    assert int(total) == sum(map(int, re.findall(r"\d+", parts or "")))
    assert int(total) == sum(counted.values()) - counted.get("confirmed", 0)


@pytest.mark.parametrize(
    ("counted", "line"),
    [
        ({}, "0 posts seen"),
        ({"items/new": 1, "items/confirmed": 1}, "1 post seen (1 new), 1 stored and remembered"),
        (
            {"items/new": 3, "items/duplicate": 2, "items/confirmed": 2, "items/released": 1},
            (
                "5 posts seen (3 new, 2 duplicates), 2 stored and remembered, 1 not stored, so not "
                "remembered"
            ),
        ),
        (
            {"items/unchecked": 5, "items/unconfirmed": 5, "items/spooled": 4},
            (
                "5 posts seen (5 unchecked because Valkey could not be asked), 4 stored and noted "
                "on disk for the next run to remember, 1 stored but not remembered (a later run "
                "may store a second copy)"
            ),
        ),
        (
            {"requests/new": 2, "requests/duplicate": 1, "requests/confirmed": 2},
            (
                "0 posts seen; 3 pages under deduplication (2 new, 1 known and not fetched), 2 "
                "done and remembered"
            ),
        ),
        (
            {"requests/unchecked": 1, "requests/unconfirmed": 1, "requests/spooled": 1},
            (
                "0 posts seen; 1 page under deduplication (1 unchecked because Valkey could not be "
                "asked), 1 done and noted on disk for the next run to remember"
            ),
        ),
        (
            {"items/new": 1, "items/not_remembered": 1, "requests/not_new": 1},
            (
                "1 post seen (1 new), 1 not remembered, as nothing behind the deduplication stores "
                "it; 1 page under deduplication (1 left out because nothing was new)"
            ),
        ),
        (
            {"requests/unconfirmed": 1},
            (
                "0 posts seen; 0 pages under deduplication, 1 done but not remembered (a later run "
                "may fetch it again)"
            ),
        ),
    ],
)
def test_what_a_line_says(counted: dict[str, int], line: str) -> None:
    """What counts nothing is left out, one is singular, and no post is counted in two ways."""
    assert said_of(counted) == line
