"""Valkey is away: posts pass unchecked, nothing is lost, nothing hangs, the log says so once."""

from __future__ import annotations

import asyncio
import signal
import time
from math import inf
from pathlib import Path

import pytest
from scrapy.statscollectors import DummyStatsCollector
from scrapy.utils.test import get_crawler

from bench.servers import FaultyProxy, ValkeyServer, free_port
from scrapy_valkey_dedup.model import LedgerUnavailableError
from scrapy_valkey_dedup.session import outage, probing
from scrapy_valkey_dedup.stats import Stats
from tests.support.crawls.world import World
from tests.support.outages import SLOW, start_half
from tests.support.patience import PATIENCE, wait_until
from tests.support.servers.site import pages_of
from tests.support.servers.standin import not_on_serverless
from tests.support.spiders.pipelines import PIPELINES
from tests.support.spiders.storages import STORAGES

POSTS = range(2000)
EVERY_POST = {str(post) for post in POSTS}
QUICK = {"VALKEY_DEDUP_TIMEOUT": 0.3, **SLOW}
BEGIN, END = "posts are stored unchecked", "Valkey answers again"


def test_a_stopped_server_costs_no_post(fragile: World) -> None:
    """The server stops breathing in the middle (SIGSTOP): every post is stored, some unchecked."""
    site = fragile.site(pages_of(POSTS))
    crawl = start_half(fragile, site, **QUICK)
    fragile.server.freeze()
    known = len(fragile.stored)  # before more can be stored, however late this process comes on
    site.free = inf
    try:
        crawl.wait_for(BEGIN)
        wait_until(lambda: len(fragile.stored) > known + 100)
    finally:
        fragile.server.thaw()
    stats = crawl.wait()
    assert fragile.stored == dict.fromkeys(EVERY_POST, 1)
    assert stats["dedup/items/unchecked"] > 0
    assert stats["dedup/items/confirmed"] == 2000
    assert crawl.log.count(BEGIN) == crawl.log.count(END) == stats["dedup/valkey/outages"] == 1
    assert fragile.remembered(POSTS) == EVERY_POST
    fragile.assert_settled()


def test_an_outage_ends_while_posts_are_stored(fragile: World) -> None:
    """A run that stores posts all the time, far from Valkey, comes to the end of its outage."""
    assert fragile.server.port
    posts = range(6000)  # some seconds' work: the outage is over long before
    with FaultyProxy(fragile.server.port) as line:
        fragile.url = fragile.server.url_through(line.port)
        site = fragile.site(pages_of(posts))
        crawl = start_half(fragile, site, **{**SLOW, "VALKEY_DEDUP_TIMEOUT": 0.5, "delay": 0.1})
        line.delay = 0.03  # seconds in which some posts are stored
        fragile.server.freeze()
        site.free = inf
        crawl.wait_for(BEGIN)
        fragile.server.thaw()
        wait_until(lambda: END in crawl.log or not crawl.process.is_alive())
        known = len(fragile.stored)
        stats = crawl.wait()
    fragile.url = fragile.server.url
    assert known < len(posts)
    assert stats["dedup/items/unchecked"] < len(posts) / 2
    assert fragile.stored == {str(post): 1 for post in posts}
    assert stats["dedup/items/confirmed"] == len(posts)
    fragile.assert_settled()


@not_on_serverless("its backends take nothing in the first two seconds after a start")
def test_a_restarted_server_is_found_again(fragile: World) -> None:
    """The server is killed and restarted within a question's time: there is no outage."""
    site = fragile.site(pages_of(POSTS))
    crawl = start_half(fragile, site, **SLOW)
    fragile.server.kill()
    site.free = inf
    fragile.server.start()
    stats = crawl.wait()
    assert fragile.stored == dict.fromkeys(EVERY_POST, 1)
    assert "dedup/valkey/outages" not in stats
    fragile.assert_settled()


def test_a_server_that_is_gone_for_good(fragile: World) -> None:
    """The server is killed for good: the crawl ends, every post is stored, the log says which."""
    site = fragile.site(pages_of(POSTS))
    crawl = start_half(fragile, site, **QUICK)
    fragile.server.kill()
    site.free = inf
    stats = crawl.wait()
    assert fragile.stored == dict.fromkeys(EVERY_POST, 1)
    assert stats["finish_reason"] == "finished"
    confirmed = stats["dedup/items/confirmed"]
    assert crawl.log.count(BEGIN) == 1
    assert (
        f"{2000 - confirmed} stored and noted on disk for the next run"
        in crawl.log.splitlines()[-1]
    )


def test_a_server_that_never_answers(world: World) -> None:
    """No server at all: the crawl runs as without the plugin, and says so."""
    world.url = f"valkey://:secret@127.0.0.1:{free_port()}"
    stats = world.crawl(world.site(pages_of([*range(20), *range(20)])), VALKEY_DEDUP_TIMEOUT=0.2)
    assert set(world.stored) == {str(post) for post in range(20)}
    assert stats["dedup/items/unchecked"] + stats.get("dedup/items/duplicate", 0) == 40
    assert world.log.count(BEGIN) == 1
    assert "secret" not in world.log
    assert world.log.splitlines()[-1].endswith(
        "20 stored but not remembered (a later run may store a second copy)"
    )


def test_a_wrong_password_stops_the_crawl(tmp_path: Path) -> None:
    """Credentials that Valkey refuses stop the crawl at the start: waiting cures nothing."""
    with ValkeyServer("--requirepass", "right", port=free_port()) as server:
        world = World(server.url.replace("://", "://:wrong-secret@"), "denied", tmp_path)
        try:
            crawl = world.start(world.site(pages_of(range(20))))
            crawl.process.join(PATIENCE)
            assert "refuses" in crawl.log
            assert "VALKEY_DEDUP_URL" in crawl.log
            assert "wrong-secret" not in crawl.log
            assert world.stored == {}
        finally:
            world.close()


def test_a_fault_in_the_client_costs_no_post(world: World) -> None:
    """An unforeseen error while asking is an outage with a traceback, not a lost post."""
    stats = world.crawl(world.site(pages_of(range(500), size=10)), faulty_client=True)
    assert world.stored == {str(post): 1 for post in range(500)}
    assert stats["dedup/items/unchecked"] > 0
    assert world.log.count(BEGIN) == 1
    assert "Traceback" in world.log
    assert "AttributeError: a bare one" in world.log


@not_on_serverless("TIMEOUT is short for a front that shares the machine")
def test_a_pause_of_the_crawl_is_no_outage(world: World) -> None:
    """A crawl that was suspended for longer than TIMEOUT does not blame Valkey, and asks on."""
    posts = range(1000)
    site = world.site(pages_of(posts))
    crawls = [world.start(site, seed=seed, **QUICK | {"delay": 0.05}) for seed in (1, 2)]
    wait_until(lambda: len(world.stored) > 100)
    for _ in range(3):
        crawls[0].signal(signal.SIGSTOP)
        began = time.monotonic()
        wait_until(lambda began=began: time.monotonic() - began > 2 * QUICK["VALKEY_DEDUP_TIMEOUT"])
        known = len(world.stored)
        crawls[0].signal(signal.SIGCONT)
        wait_until(lambda known=known: len(world.stored) >= min(known + 20, 1000))
    stats = [crawl.wait() for crawl in crawls]
    assert [found.get("dedup/valkey/outages", 0) for found in stats] == [0, 0]
    assert world.stored == dict.fromkeys({str(post) for post in posts}, 1)


@not_on_serverless("TIMEOUT is short for a front that shares the machine")
def test_a_blocked_loop_is_no_outage(world: World) -> None:
    """A pipeline that blocks the event loop for longer than TIMEOUT does not stop the questions."""
    pipelines = {f"{STORAGES}.Store": 300, f"{PIPELINES}.Blocker": 310}
    stats = world.crawl(
        world.site(pages_of(range(300))), ITEM_PIPELINES=pipelines, VALKEY_DEDUP_TIMEOUT=0.2
    )
    assert "dedup/valkey/outages" not in stats
    assert stats["dedup/items/confirmed"] == 300


def test_a_release_during_an_outage_is_made_up_for(fragile: World) -> None:
    """A claim that could not be given back while Valkey was away is given back afterwards."""
    pipelines = {f"{PIPELINES}.WaitsToDrop": 200, f"{STORAGES}.Store": 300}
    crawl = fragile.start(
        fragile.site(pages_of([7])), ITEM_PIPELINES=pipelines, linger=True, **QUICK
    )
    wait_until(lambda: fragile.claims)
    directory = Path(crawl.job.directory)
    fragile.server.freeze()
    try:
        (directory / "drop").touch()
        crawl.wait_for(BEGIN)
    finally:
        fragile.server.thaw()
    wait_until(lambda: not fragile.claims)
    (directory / "go").touch()
    assert crawl.wait()["dedup/items/released"] == 1
    fragile.assert_settled()


def test_a_missing_permission_stops_the_crawl(tmp_path: Path) -> None:
    """A user who may not run scripts is told at the start, with the cure."""
    user = "user", "spider", "on", "nopass", "~*", "+@all", "-evalsha"
    with ValkeyServer("--" + user[0], *user[1:], port=free_port()) as server:
        world = World(server.url.replace("://", "://spider:any@"), "denied", tmp_path)
        try:
            crawl = world.start(world.site(pages_of(range(20))))
            crawl.process.join(PATIENCE)
            assert "refuses" in crawl.log
            assert "permissions" in crawl.log
            assert world.stored == {}
        finally:
            world.close()


def test_probes_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long an outage lasts, no task of a probe outlives it."""
    monkeypatch.setattr(probing, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(probing, "LONGEST_PAUSE", 0.001)

    async def count_tasks() -> tuple[int, int]:
        probes = 0

        async def probe() -> None:
            nonlocal probes
            probes += 1
            raise LedgerUnavailableError("away")

        away = outage.Outage(
            Stats(DummyStatsCollector(get_crawler())),
            outage.PASS,
            pause_limit=None,
            calm=0.01,
            probe=probe,
            close_spider=lambda _: None,
            is_closing=lambda: False,
        )
        away.failed(LedgerUnavailableError("away"))
        while probes < 50:
            await asyncio.sleep(0.001)
        during = len(asyncio.all_tasks())
        await away.close()
        await asyncio.sleep(0.01)
        return during, len(asyncio.all_tasks())

    during, after = asyncio.run(count_tasks())
    assert during < 10
    assert after == 1
