"""What a run adds to the history: its stats, all of them once, and never at a crawl's expense."""

from __future__ import annotations

import logging
from pathlib import Path
from time import time
from typing import Any

import pytest

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.history import COUNTERS, Record, stamp, total
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.permissions import RULES
from scrapy_valkey_dedup.model import LedgerUnavailableError
from scrapy_valkey_dedup.session import run_history
from scrapy_valkey_dedup.session.run_history import RunHistory
from scrapy_valkey_dedup.stats import ITEMS, Stats
from tests.support.crawls.world import World
from tests.support.ledgers import in_ledger
from tests.support.patience import in_loop, until
from tests.support.runs import KEYS, Runs
from tests.support.servers.site import pages_of
from tests.support.servers.standin import not_on_serverless


def history_of(url: str, namespace: str) -> tuple[Record, Record]:
    """The newest record of the last two hours, and that of the day."""

    async def read(ledger: Ledger) -> tuple[Record, Record]:
        hours = await ledger.history.read_hours([time(), time() - 3600])
        days = await ledger.history.read_days([time(), time() - 3600])
        return next(iter(hours.values()), Record()), next(iter(days.values()), Record())

    found: tuple[Record, Record] = in_ledger(url, namespace, read)
    return found


def test_the_history_is_what_the_crawls_counted(world: World) -> None:
    """The counters of a record are the sums of the runs' stats; a trial has its own history."""
    site = world.site(pages_of(range(60)))
    runs = [world.crawl(site) for _ in range(2)]
    trial = world.crawl(world.site(pages_of(range(40, 80))), VALKEY_DEDUP_TRIAL="x")
    of_trial, _ = history_of(world.url, f"{world.namespace}+trial-x")
    assert of_trial.spiders["posts"]["stored"] == trial["dedup/items/confirmed"] == 20
    assert of_trial.posts == 20
    hour, day = history_of(world.url, world.namespace)
    found = total([hour])
    if total([day])["runs"] == 2 and found["runs"] == 2:  # unless a new hour has begun meanwhile
        for counter, stat in (
            ("new", "dedup/items/new"),
            ("duplicate", "dedup/items/duplicate"),
            ("stored", "dedup/items/confirmed"),
            ("pages", "response_received_count"),
        ):
            assert found[counter] == sum(run.get(stat, 0) for run in runs) > 0, counter
        assert hour.posts == 60
        assert hour.spiders == day.spiders
    assert set(hour.spiders) == {"posts"}


@not_on_serverless("it looks at keys as nobody")
@in_loop
async def test_a_run_adds_now_and_then(
    valkey: ValkeyServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is at work, without waiting for its end; while it only waits, nothing is written."""
    monkeypatch.setattr(run_history, "INTERVAL", 0.0)
    runs = Runs(valkey.url, namespace, tmp_path)

    async def read(session: Any) -> dict[str, int]:
        history = session._access.shelves.ledger.history
        return dict(total((await history.read_days([time()])).values()))

    async with runs.open(lease=1, wait=1) as session:
        claim = await session.claim(KEYS[0])
        claim.confirm()
        history = session._access._history
        await until(lambda: history._added[COUNTERS.index("stored")] == 1)
        assert (await read(session))["stored"] == 1
        mark = f"vd1:{{{namespace}}}:history:{session.run}"
        runs.raw.delete(mark)
        before = runs.raw.get(runs.beat_name(session))
        await until(lambda: runs.raw.get(runs.beat_name(session)) != before)
        assert not runs.raw.exists(mark)
    runs.raw.close()


@in_loop
async def test_a_lost_reply_is_not_added_twice(
    open_ledger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon after it the totals are sent again, later they count as added: no number grows twice."""
    counted = {ITEMS.new: 5}

    class Collector(dict):
        get_value = dict.get
        inc_value = set_value = None

    async with open_ledger() as ledger:
        await ledger.open()
        history = RunHistory(ledger, Stats(Collector(counted)), "posts")
        history._stats._collector = counted_stats = Collector(counted)
        add, lost = ledger.history.add, [True]

        async def add_and_lose(*arguments: Any) -> bool:
            due = await add(*arguments)
            if lost[0]:
                raise LedgerUnavailableError("for a test")
            return bool(due)

        monkeypatch.setattr(ledger.history, "add", add_and_lose)

        async def new() -> int:
            return total((await ledger.history.read_days([time()])).values())["new"]

        for _ in range(3):
            await history.add()
            assert await new() == 5
        counted_stats[ITEMS.new] = 7
        await history.add()
        assert await new() == 7
        monkeypatch.setattr(run_history, "LONGEST_DOUBT", 0.0)
        await ledger._client.ask(
            b"*2\r\n$3\r\nDEL\r\n$%d\r\n%b\r\n" % _bulk(f"{ledger._names.history}:{ledger.run}")
        )
        lost[0] = False
        counted_stats[ITEMS.new] = 9
        await history.add()
        assert await new() == 9


def _bulk(text: str) -> tuple[int, bytes]:
    return len(text), text.encode()


@not_on_serverless("it makes a user")
@in_loop
async def test_a_refusal_is_said_once(
    valkey: ValkeyServer, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the keys are not allowed, a run does all else, and one warning names them."""
    root = f"~vd1:{{{namespace}"
    keys = [f"{root}:*", *(f"{root}}}:{name}" for name in ("layout", "id", "run:*", "info:*"))]
    valkey.ask("ACL", "SETUSER", namespace, "on", ">secret", *keys, *RULES[1:])
    runs = Runs(valkey.url, namespace, tmp_path)
    caplog.set_level(logging.INFO)
    url = valkey.url.replace("://", f"://{namespace}:secret@")
    async with runs.open(url=url) as session:
        claim = await session.claim(KEYS[0])
        claim.confirm()
        for _ in range(3):
            await session._access._history.add()
    (line,) = (each for each in caplog.records if each.levelno >= logging.WARNING)
    assert f"vd1:{{{namespace}}}:history:*" in line.getMessage()
    assert "secret" not in caplog.text
    assert runs.raw.keys(f"vd1:{{{namespace}}}:run:*") == []
    runs.raw.close()


@not_on_serverless("it looks at keys as nobody")
@in_loop
async def test_what_fails_again_is_said_once(
    valkey: ValkeyServer, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys of another type, which no wait cures: one warning names them, and the run goes on."""
    runs = Runs(valkey.url, namespace, tmp_path)
    caplog.set_level(logging.INFO)
    async with runs.open() as session:
        for moment in (time(), time() + 3600):
            runs.raw.hset(f"vd1:{{{namespace}}}:history:{stamp(moment)}", "a", "b")
        claim = await session.claim(KEYS[0])
        claim.confirm()
        for _ in range(4):
            await session._access._history.add()
    (line,) = (each for each in caplog.records if each.levelno >= logging.WARNING)
    assert f"vd1:{{{namespace}}}:history:*" in line.getMessage()
    assert "WRONGTYPE" in line.getMessage()
    assert runs.raw.keys(f"vd1:{{{namespace}}}:run:*") == []
    runs.raw.close()
