"""The history in the ledger: each number is added once, its records are small, and they expire."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.history import (
    COUNTERS,
    DAYS_KEPT,
    HOURS_KEPT,
    OTHERS,
    SPIDERS,
    History,
    Record,
    stamp,
    total,
)
from tests.support.patience import in_loop
from tests.support.servers.standin import not_on_serverless

NOON = datetime(2026, 11, 26, 12, tzinfo=timezone.utc).timestamp()
NONE = [0] * len(COUNTERS)
PAGE = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text("utf-8")


async def only(history: History, moment: float = NOON) -> Record:
    """The record of an hour, which that of the day must equal."""
    (hour,) = (await history.read_hours([moment])).values()
    (day,) = (await history.read_days([moment])).values()
    assert day.spiders == hour.spiders
    return hour


def counted(number: int) -> list[int]:
    """Totals of a run that has counted so much of each."""
    return [number * (at + 1) for at in range(len(COUNTERS))]


@in_loop
async def test_each_number_is_added_once(open_ledger: Any) -> None:
    """However often totals are sent again, and whatever comes late: sums are the runs' last totals.

    Also if the server has lost what it knew of a run, and the run says what it has added.
    """
    order = Random(7)
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        sent = [(ledger, n) for ledger in (one, other) for n in range(1, 30) for _ in range(3)]
        order.shuffle(sent)
        for ledger, number in sent:
            await ledger.history.add("posts", counted(number), NONE, NOON)
        assert (await only(one.history)).spiders == {
            "posts": dict(zip(COUNTERS, counted(2 * 29), strict=True))
        }
    async with open_ledger("run-c") as third:
        await third.history.add("others", counted(5), counted(4), NOON)
        found = (await only(third.history)).spiders
        assert found["others"] == dict(zip(COUNTERS, counted(1), strict=True))
        assert found["posts"]["runs"] == 58


@in_loop
async def test_one_run_an_hour_counts_the_posts(open_ledger: Any) -> None:
    """The first to add in an hour is told to; what it found stands in the hour and in the day."""
    async with open_ledger("run-a") as one, open_ledger("run-b") as other:
        assert await one.history.add("posts", counted(1), NONE, NOON)
        assert not await other.history.add("posts", counted(1), NONE, NOON)
        assert (await only(one.history)).posts is None
        assert not await one.history.add("posts", counted(1), NONE, NOON, 4711)
        assert (await only(one.history)).posts == 4711
        assert await one.history.add("posts", counted(2), NONE, NOON + 3600)
        days = await one.history.read_days([NOON])
        assert days["20261126"].posts == 4711
        assert total(days.values())["runs"] == 3
        assert await one.history.read_hours([NOON - 3600]) == {}


@in_loop
async def test_names(open_ledger: Any) -> None:
    """Whatever a spider is called, it has one line of its own, and another's name is not its."""
    names = [
        "posts", "post", "s", "po.ts", "%d", "a\nb\t7,7", "é" * 99, "", OTHERS, "0\t", "\ud800",
    ]  # fmt: skip
    async with open_ledger() as ledger:
        for name in names:
            await ledger.history.add(name, counted(names.index(name) + 1), NONE, NOON)
            ledger.history._run += "x"
        found = (await only(ledger.history)).spiders
    assert {name: each["runs"] for name, each in found.items()} == {
        "posts": 1, "post": 2, "s": 3, "po.ts": 4, "%d": 5, "a b 7,7": 6, "é" * 32: 7,
        " ": 8 + 11, OTHERS: 9, "0 ": 10,
    }  # fmt: skip


@not_on_serverless("it asks for MEMORY USAGE")
@in_loop
async def test_records_are_small(open_ledger: Any, valkey: ValkeyServer, namespace: str) -> None:
    """20 spiders take what docs/ledger.md says; of a thousand names 64 have lines of their own."""
    busy = [1, 86000, 12345, 234567, 12, 0, 0, 12345, 12, 3, 43210, 5432, 0, 0]
    async with open_ledger() as ledger:
        for number in range(20):
            ledger.history._run = f"run-{number}"
            await ledger.history.add(f"spider-number-{number}", busy, NONE, NOON)
        name = f"vd1:{{{namespace}}}:history:{stamp(NOON)}"
        taken = int(valkey.ask("MEMORY", "USAGE", name))
        (told,) = re.findall(r"([\d,.]+) kB an hour with 20 spiders", PAGE)
        assert taken <= float(told) * 1000
        for number in range(1000):
            ledger.history._run = f"run-{number}-"
            await ledger.history.add(f"{number:03}{'é' * 60}", busy, NONE, NOON + 3600)
        found = (await ledger.history.read_hours([NOON + 3600])).popitem()[1]
        assert len(found.spiders) == SPIDERS + 1
        assert total([found])["new"] == sum(each["new"] for each in found.spiders.values())
        assert found.spiders[OTHERS]["runs"] == 1000 - SPIDERS
        assert int(valkey.ask("MEMORY", "USAGE", f"{name[:-2]}13")) < 10_000


@in_loop
async def test_all_of_it_expires(open_ledger: Any, valkey: ValkeyServer, namespace: str) -> None:
    """Records of hours in two weeks, of days in 400 days, what is known of a run in an hour."""
    async with open_ledger("run-a") as ledger:
        await ledger.history.add("posts", counted(1), NONE, NOON)
        await ledger.history.add("posts", counted(1), NONE, NOON, 10)
    root = f"vd1:{{{namespace}}}:history:"
    left = {key: valkey.ask("PTTL", key) for key in valkey.ask("KEYS", f"{root}*")}
    wanted = {"2026112612": HOURS_KEPT * 3600, "20261126": DAYS_KEPT * 86400, "run-a": 3600}
    assert left.keys() == {root + name for name in wanted}
    for name, seconds in wanted.items():
        assert seconds * 1000 - 60_000 < left[root + name] <= seconds * 1000
    assert (HOURS_KEPT, DAYS_KEPT) == (336, 400)


def test_foreign_records() -> None:
    """What another version has written, or nobody, is left out; the rest is read."""
    written = b"?\nposts\t1,2,3,x,5" + b",9" * 30 + b"\n\nnew\nother\t7"
    found = Record.parse(written)
    assert found.posts is None
    assert found.spiders["posts"]["seconds"] == 2
    assert "duplicate" not in found.spiders["posts"]
    assert found.spiders["other"] == {"runs": 7}
    assert Record.parse(b"\xff") == Record()


@in_loop
async def test_posts_are_counted(open_ledger: Any) -> None:
    """Exactly while no bucket is full; where buckets are full, about."""
    order = Random(1)
    async with open_ledger() as ledger:
        await ledger.open()
        assert await ledger.count_posts() == 0
        await ledger.confirm_many([order.randbytes(16) for _ in range(3000)])
        assert await ledger.count_posts() == 3000
        # Their paths begin alike: a bucket, the eight below it, and 64 below these.
        alike = [bytes([0, order.randrange(16)]) + order.randbytes(14) for _ in range(16_000)]
        await ledger.confirm_many(alike)
        assert await ledger.count_posts() == pytest.approx(19_000, rel=0.1)


@in_loop
async def test_a_record_that_was_altered(
    open_ledger: Any, valkey: ValkeyServer, namespace: str
) -> None:
    """Whatever stands in a spider's line, runs go on counting in it, and what is no number is 0."""
    name = f"vd1:{{{namespace}}}:history:{stamp(NOON)}"
    altered = ["-1,x,nan,inf,1e999,7", "", ",".join(["9" * 5000] * 14), "[[,{}\x00", 'null,"1"']
    async with open_ledger() as ledger:
        for number, line in enumerate(altered):
            ledger.history._run = f"run-{number}"
            valkey.ask("SET", name, f"{'9' * 5000}\nposts\t{line}")
            assert (await ledger.history.read_hours([NOON])).popitem()[1].posts is None
            await ledger.history.add("posts", counted(1), NONE, NOON)
            (found,) = (await ledger.history.read_hours([NOON])).values()
            wanted = dict(zip(COUNTERS, counted(1), strict=True))
            if number == 0:
                wanted["unkeyed"] += 7
            assert found.spiders["posts"] == wanted
