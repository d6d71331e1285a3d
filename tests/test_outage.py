"""Valkey is away: posts pass unchecked, nothing is lost, nothing hangs, the log says so once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.servers import ValkeyServer, free_port
from tests.conftest import World
from tests.crawls import pages_of, wait_until

POSTS = range(2000)
EVERY_POST = {str(post) for post in POSTS}
SLOW = {"delay": 0.01, "CONCURRENT_ITEMS": 10, "CONCURRENT_REQUESTS": 2}
QUICK = {"VALKEY_DEDUP_TIMEOUT": 0.3, **SLOW}
BEGIN, END = "posts are stored unchecked", "Valkey answers again"


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[World]:
    """Crawls with a server that the test may hurt."""
    with ValkeyServer(port=free_port(), persistent=True) as server:
        made = World(server.url, "fragile", tmp_path)
        made.server = server
        yield made
        made.close()


def test_a_stopped_server_costs_no_post(fragile: World) -> None:
    """The server stops breathing in the middle (SIGSTOP): every post is stored, some unchecked."""
    crawl = fragile.start(fragile.site(pages_of(POSTS)), **QUICK)
    wait_until(lambda: len(fragile.stored) > 200)
    os.kill(fragile.server.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: BEGIN in crawl.log)
        known = len(fragile.stored)
        wait_until(lambda: len(fragile.stored) > known + 100)
    finally:
        os.kill(fragile.server.pid, signal.SIGCONT)
    stats = crawl.wait()
    assert fragile.stored == dict.fromkeys(EVERY_POST, 1)
    assert stats["dedup/items/unchecked"] > 0
    assert stats["dedup/items/confirmed"] == 2000
    assert crawl.log.count(BEGIN) == crawl.log.count(END) == stats["dedup/valkey/outages"] == 1
    assert fragile.remembered(POSTS) == EVERY_POST
    fragile.assert_settled()


def test_a_restarted_server_is_found_again(fragile: World) -> None:
    """The server is killed and restarted within a question's time: nobody notices."""
    crawl = fragile.start(fragile.site(pages_of(POSTS)), **SLOW)
    wait_until(lambda: len(fragile.stored) > 200)
    fragile.server.kill()
    fragile.server.start()
    stats = crawl.wait()
    assert fragile.stored == dict.fromkeys(EVERY_POST, 1)
    assert "dedup/valkey/outages" not in stats
    fragile.assert_settled()


def test_a_server_that_is_gone_for_good(fragile: World) -> None:
    """The server is killed for good: the crawl ends, every post is stored, the log says which."""
    crawl = fragile.start(fragile.site(pages_of(POSTS)), **QUICK)
    wait_until(lambda: len(fragile.stored) > 200)
    fragile.server.kill()
    stats = crawl.wait()
    assert fragile.stored == dict.fromkeys(EVERY_POST, 1)
    assert stats["finish_reason"] == "finished"
    confirmed = stats["dedup/items/confirmed"]
    assert crawl.log.count(BEGIN) == 1
    assert f"{2000 - confirmed} stored but not confirmed" in crawl.log.splitlines()[-1]


def test_a_server_that_never_answers(world: World) -> None:
    """No server at all: the crawl runs as without the plugin, and says so."""
    world.url = f"valkey://:secret@127.0.0.1:{free_port()}"
    stats = world.crawl(world.site(pages_of([*range(20), *range(20)])), VALKEY_DEDUP_TIMEOUT=0.2)
    assert set(world.stored) == {str(post) for post in range(20)}
    assert stats["dedup/items/unchecked"] + stats.get("dedup/items/duplicate", 0) == 40
    assert world.log.count(BEGIN) == 1
    assert "secret" not in world.log


def test_a_wrong_password_stops_the_crawl(tmp_path: Path) -> None:
    """Credentials that Valkey refuses stop the crawl at the start: waiting cures nothing."""
    with ValkeyServer("--requirepass", "right", port=free_port()) as server:
        world = World(server.url.replace("://", "://:wrong-secret@"), "denied", tmp_path)
        try:
            crawl = world.start(world.site(pages_of(range(20))))
            crawl.process.join(30)
            assert "refuses" in crawl.log
            assert "VALKEY_DEDUP_URL" in crawl.log
            assert "wrong-secret" not in crawl.log
            assert world.stored == {}
        finally:
            world.close()


def test_a_fault_in_the_client_costs_no_post(world: World) -> None:
    """An error that nobody foresaw while asking is an outage with a traceback, not a lost post."""
    stats = world.crawl(world.site(pages_of(range(50))), faulty_client=True)
    assert world.stored == {str(post): 1 for post in range(50)}
    assert stats["dedup/items/unchecked"] > 0
    assert world.log.count(BEGIN) == 1
    assert "Traceback" in world.log
    assert "AttributeError: a bare one" in world.log
