"""What a review found in outages, each a law: no crawl, or as little of one as shows it."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any

import pytest
import valkey as valkey_py
from scrapy.statscollectors import MemoryStatsCollector
from scrapy.utils.test import get_crawler

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import LedgerUnavailableError, Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.in_flight import InFlightClaims
from scrapy_valkey_dedup.session.keyset import RecentKeys
from scrapy_valkey_dedup.session.outage import CLOSED, PASS, PAUSE, Outage
from scrapy_valkey_dedup.session.outage_account import OutageAccount
from scrapy_valkey_dedup.session.probing import Prober
from scrapy_valkey_dedup.session.settlements import Settlements
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.stats import ITEMS, REQUESTS, Stats
from scrapy_valkey_dedup.valkey.client import Client
from tests.support.crawls.world import World
from tests.support.outages import SLOW, start_half
from tests.support.patience import PATIENCE, in_loop, wait_until
from tests.support.servers.site import pages_of
from tests.support.servers.standin import not_on_serverless
from tests.support.spiders.storages import STORAGES

AWAY = LedgerUnavailableError("away")
BEGIN, END = "Until it answers", "Valkey answers again, after"


class Valkey:
    """What an outage sees of one: it answers, or it does not."""

    def __init__(self, policy: str = PASS, limit: float | None = None, calm: float = 0.2) -> None:
        self.answers = False
        self.closing = False
        self.reasons: list[str] = []
        self.probes = 0
        self.collector = MemoryStatsCollector(get_crawler())
        self.outage = Outage(
            Stats(self.collector),
            policy,
            pause_limit=limit,
            calm=calm,
            probe=self.probe,
            close_spider=self.reasons.append,
            is_closing=lambda: self.closing,
        )

    async def probe(self) -> None:
        """As the session's."""
        self.probes += 1
        await asyncio.sleep(0)
        if not self.answers:
            raise LedgerUnavailableError("away")
        self.outage.answered()


@asynccontextmanager
async def outage(policy: str = PASS, **options: Any) -> AsyncIterator[Valkey]:
    """An outage that has begun."""
    away = Valkey(policy, **options)
    away.outage.failed(AWAY)
    try:
        yield away
    finally:
        await away.outage.close()


@in_loop
async def test_what_fails_right_after_an_outage_has_a_prober_of_its_own() -> None:
    """A question that was still under way fails when the outage has just ended: it ends again."""
    for turns in range(5):
        async with outage(PAUSE) as away:
            away.answers = True
            await away.outage.over()
            away.answers = False
            for _ in range(turns):
                await asyncio.sleep(0)
            away.outage.failed(AWAY)
            probes = away.probes
            while away.probes < probes + 3:
                await asyncio.sleep(0.01)
            away.answers = True
            assert await asyncio.wait_for(away.outage.over(), PATIENCE)


@in_loop
async def test_a_valkey_that_flickers_is_one_outage(caplog: pytest.LogCaptureFixture) -> None:
    """What fails again before it was calm for a while belongs to the same outage."""
    caplog.set_level(logging.INFO)
    async with outage(PAUSE, calm=60) as away:
        away.answers = True
        for _ in range(20):
            assert await away.outage.over()
            away.outage.failed(AWAY)
        assert await away.outage.over()
    assert away.collector.get_value(Stats.OUTAGES) == 1
    assert caplog.text.count(BEGIN) == caplog.text.count(END) == 1


@in_loop
async def test_a_flickering_valkey_meets_the_limit_of_a_pause() -> None:
    """The limit counts from the first failure, however often Valkey seems to be back."""
    async with outage(PAUSE, limit=1, calm=60) as away:
        away.answers = True
        began = time.monotonic()
        while not away.reasons:
            assert time.monotonic() - began < PATIENCE
            await away.outage.over()
            away.outage.failed(AWAY)
            await asyncio.sleep(0)
        assert away.reasons == [CLOSED]
        assert not away.outage.holds


@in_loop
async def test_a_closing_spider_is_not_held() -> None:
    """When the spider is closing, posts that wait pass unchecked."""
    async with outage(PAUSE) as away:
        waits = asyncio.ensure_future(away.outage.over())
        await asyncio.sleep(0.01)
        assert not waits.done()
        away.closing = True
        assert await asyncio.wait_for(waits, PATIENCE) is False


@in_loop
async def test_a_probe_that_is_broken_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours in it is told with its traceback, and does not end the probing."""
    async with outage() as away:
        healthy, away.probe = away.probe, None
        away.outage._prober._probe = lambda: asyncio.sleep(0, 1 / 0)
        while "ZeroDivisionError" not in caplog.text:
            await asyncio.sleep(0.01)
        away.outage._prober._probe, away.answers = healthy, True
        while away.outage:
            await asyncio.sleep(0.01)


@in_loop
async def test_no_error_of_a_probe_is_lost() -> None:
    """Whenever it fails around the moment in which probing ends, asyncio has nothing to log."""
    for turns in range(6):
        began, fails = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def probe(began: asyncio.Event = began, fails: asyncio.Future[None] = fails) -> None:
            began.set()
            await fails

        prober = Prober(probe, lambda: None)
        prober.start(lambda: True)
        await began.wait()
        fails.set_exception(AWAY)
        for _ in range(turns):
            await asyncio.sleep(0)
        await prober.stop()


@pytest.mark.parametrize(
    ("posts", "pages", "said"),
    [
        (0, 0, "0 posts passed unchecked in that time."),
        (1, 0, "1 post passed unchecked in that time. A later run may store it again."),
        (2, 1, ", and 1 page. A later run may fetch and store them again."),
    ],
)
def test_what_a_later_run_does_again(
    posts: int, pages: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If Valkey was never reached, what passed may be stored or fetched again: one is "it"."""
    collector = MemoryStatsCollector(get_crawler())
    account = OutageAccount(Stats(collector))
    account.begin(AWAY, "")
    collector.set_value(ITEMS.unchecked, posts)
    collector.set_value(REQUESTS.unchecked, pages)
    account.end_of_run(reached=False)
    assert caplog.messages[-1].startswith("Valkey was never reached (0 seconds); ")
    assert caplog.messages[-1].endswith(said)


@in_loop
async def test_stats_and_log_have_the_same_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """The stats that Scrapy dumps count an outage that lasts; the line says "at least" so long."""
    caplog.set_level("INFO")
    async with outage() as away:
        away.outage._account.began -= 100
        away.outage.count()
        assert away.collector.get_value(Stats.OUTAGE_SECONDS) == 100
        away.outage._account._counted_at -= 30  # the spider was closed half a minute ago
        away.outage._account.began -= 30
        away.answers = True
        while away.outage:
            await asyncio.sleep(0.01)
    assert away.collector.get_value(Stats.OUTAGE_SECONDS) == 100
    assert f"{END} at least 100 seconds; " in caplog.text


@in_loop
async def test_a_twin_waits_quietly_while_posts_are_held() -> None:
    """Even with a WAIT of nothing it looks twice a second, and goes on when the pause has ended."""
    looks = 0

    def is_paused() -> bool:
        nonlocal looks
        looks += 1
        return looks < 3

    in_flight = InFlightClaims(0, is_paused)
    in_flight.add(Claim(b"k" * 16, None))
    assert await in_flight.wait_for_other_item(b"k" * 16) is Verdict.HELD
    assert looks == 3


class SlowSpool(Spool):
    """A spool on a disk that takes its time: until the test says so."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "here", "")
        self.go = threading.Event()

    def write(self, keys: bytes) -> Path | None:
        self.go.wait(PATIENCE)
        return super().write(keys)


@in_loop
async def test_an_outage_does_not_end_past_a_file(
    open_ledger: Callable[..., Any], tmp_path: Path
) -> None:
    """What is on its way to the spool when Valkey is back is delivered before the outage ends."""
    spool, key = SlowSpool(tmp_path / "data" / "spool"), b"0123456789abcdef"
    async with open_ledger("run-a") as ledger, outage() as away:
        settlements = Settlements(
            ledger=ledger,
            in_flight=InFlightClaims(1, lambda: False),
            known=RecentKeys(100),
            stats=Stats(away.collector),
            names=ITEMS,
            outage=away.outage,
            spool=spool,
        )
        await settlements.deliver_spool("a-ledger")
        await settlements._keep([key], [])
        assert settlements.outage_may_end
        saving = asyncio.create_task(settlements.save())
        await asyncio.sleep(0)
        await settlements.deliver_spool("a-ledger")
        assert not settlements.outage_may_end
        spool.go.set()
        await saving
        assert not settlements.outage_may_end
        await settlements.deliver_spool("a-ledger")
        assert settlements.outage_may_end
        assert await ledger.seen_many([key]) == [True]


# -- questions -------------------------------------------------------------------------------------


class LateReplies(Client):
    """Each first reply is lost, and the process is suspended until its record has gone."""

    lost = False

    async def _exchange(self, questions: Any) -> Any:
        outcomes = await super()._exchange(questions)
        if not self.lost and any(question.call for question in questions):
            self.lost = True
            await asyncio.sleep(0.3)
            return [ConnectionError("lost")] * len(questions)
        return outcomes


@in_loop
async def test_what_is_recorded_is_not_asked_too_late(
    valkey: ValkeyServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With "claimed" a lost question is not put again when its reply is recorded no more."""
    monkeypatch.setattr("scrapy_valkey_dedup.ledger.ledger._REPLY_LIFETIME", 0.2)
    server = LateReplies(valkey.url, valkey.url, {}, timeout=PATIENCE)
    try:
        ledger = Ledger(server, namespace, "run-a", retention=60, record=True)
        with pytest.raises(LedgerUnavailableError, match="too late to ask again"):
            await ledger.claim_many([b"0123456789abcdef"])
    finally:
        await server.close()


# -- crawls ----------------------------------------------------------------------------------------


def test_ctrl_c_twice_loses_no_confirmation(fragile: World) -> None:
    """What an outage kept is on disk before the run takes its last chance to deliver it."""
    data = fragile.directory / "data"
    settings = {"VALKEY_DEDUP_DATA_DIR": str(data), **SLOW}
    site = fragile.site(pages_of(range(1000)))
    crawl = start_half(fragile, site, VALKEY_DEDUP_TIMEOUT=2, **settings)
    fragile.server.kill()
    known = len(fragile.stored)  # before more can be stored, however late this process comes on
    site.free = 15  # of the 25 pages that are left
    crawl.wait_for(BEGIN)
    wait_until(lambda: len(fragile.stored) > known + 100)
    before = set(data.rglob("*.keys"))
    crawl.signal(signal.SIGINT)
    site.free = inf
    wait_until(lambda: set(data.rglob("*.keys")) - before)
    crawl.signal(signal.SIGINT)
    crawl.process.join(PATIENCE)
    fragile.server.start()
    stats = fragile.crawl(site, **settings)
    assert fragile.stored == dict.fromkeys(map(str, range(1000)), 1)
    assert stats["dedup/items/recovered"] > 100


@not_on_serverless("it has one database")
def test_a_spool_is_for_one_ledger(fragile: World) -> None:
    """What a run could not confirm in one database is not remembered in another."""
    settings = {"VALKEY_DEDUP_DATA_DIR": str(fragile.directory / "data"), **SLOW}
    site = fragile.site(pages_of(range(300)))
    first = start_half(fragile, site, VALKEY_DEDUP_TIMEOUT=0.3, **settings)
    fragile.server.kill()
    site.free = inf
    assert first.wait()["dedup/items/spooled"] > 0
    fragile.server.start()
    other = fragile.crawl(
        site,
        **settings,
        VALKEY_DEDUP_URL=f"{fragile.url}/1",
        database=str(fragile.directory / "other.db"),
    )
    assert other["dedup/items/confirmed"] == 300
    # Emptied together with its storage, it is another ledger, too.
    with valkey_py.Valkey.from_url(fragile.url) as client:
        client.flushall()
    third = fragile.crawl(site, **settings, database=str(fragile.directory / "third.db"))
    assert third["dedup/items/confirmed"] == 300


def test_what_fails_for_pages_alone_is_one_outage(fragile: World) -> None:
    """A foreign value instead of a page's partition: the pause meets its limit."""
    with valkey_py.Valkey.from_url(fragile.url) as client:
        for partition in PARTITION_TAGS:
            client.sadd(f"vd1:{{fragile+pages:{partition}}}", "somebody's")
    stats = fragile.start(
        fragile.site(pages_of(range(100))),
        VALKEY_DEDUP_ON_OUTAGE="pause",
        VALKEY_DEDUP_PAUSE_LIMIT=2,
        VALKEY_DEDUP_TIMEOUT=0.5,
        VALKEY_DEDUP_JOB="a-job",
    ).wait()
    assert stats["finish_reason"] == CLOSED
    assert stats["dedup/valkey/outages"] == 1
    assert fragile.log.count(BEGIN) == 1


def test_an_outage_is_no_death(fragile: World) -> None:
    """Runs whose heartbeats an outage let expire keep their claims: each post is stored once."""
    pipelines = {f"{STORAGES}.ManualStore": 300}
    settings = {
        "VALKEY_DEDUP_ON_OUTAGE": "pause",
        "VALKEY_DEDUP_CONFIRM": "manual",
        "VALKEY_DEDUP_LEASE": 1,
        "VALKEY_DEDUP_TIMEOUT": 0.3,
        "ITEM_PIPELINES": pipelines,
        "VALKEY_DEDUP_WAIT": 1,
        "linger": True,
    }
    site = fragile.site(pages_of(range(9), size=9))
    crawls = [fragile.start(site, seed=1, **settings)]
    wait_until(lambda: len(fragile.claims) == 9)
    crawls.append(fragile.start(site, seed=2, **settings))
    wait_until(lambda: "Spider opened" in crawls[1].log)
    fragile.server.kill()
    wait_until(lambda: all(BEGIN in crawl.log for crawl in crawls))
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 2)  # twice the lease
    fragile.server.start()
    wait_until(lambda: all(END in crawl.log for crawl in crawls))
    for crawl in crawls:
        (Path(crawl.job.directory) / "go").touch()
    for crawl in crawls:
        crawl.wait()
    assert fragile.stored == {str(post): 1 for post in range(9)}
