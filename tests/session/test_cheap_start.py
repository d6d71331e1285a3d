"""What a run asks at its start, and what it asks to see whether an outage is over."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.servers import FaultyProxy, ValkeyCluster, ValkeyServer
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.ledger.keys import PARTITION_TAGS, split_key
from scrapy_valkey_dedup.model import LedgerUnavailableError, Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims
from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.stats import REQUESTS
from tests.support.patience import in_loop, until
from tests.support.runs import Runs
from tests.support.servers.fronts import Front

BEGIN, END = "Until it answers", "Valkey answers again"
KEYS = [digest("Post", [str(post)]) for post in range(300)]


def run_at(front: Front, namespace: str, directory: Path) -> Runs:
    """Runs whose way to the server is the front."""
    runs = Runs(front.url, namespace, directory)
    runs.raw.close()
    return runs


def with_requests(session: Session) -> Claims:
    """Makes the shelves of the request filter."""
    session.shelf("timelines", retention=3600)
    return session.shelf_claims("pages", REQUESTS, retention=3600)


@in_loop
async def test_a_start_and_a_probe_ask_little(
    valkey: ValkeyServer, namespace: str, tmp_path: Path
) -> None:
    """On a ledger that is well at most 20 commands to begin with, and 5 for each probe."""
    with Front([valkey]) as front:
        runs = run_at(front, namespace, tmp_path)
        async with runs.open(with_requests):
            pass  # the first of all gives the ledger its identity
        front.asked.clear()
        async with runs.open(with_requests, lease=60, wait=60) as run:
            assert front.asked.total() <= 20, front.asked
            front.asked.clear()
            run._outage.failed(LedgerUnavailableError("for a test"))
            await run._outage.over()
            await until(lambda: not run._outage)
            assert 0 < front.asked.total() <= 5, front.asked
            assert front.asked["SET"] > 0
            assert front.asked["EVALSHA"] > 0


@in_loop
async def test_a_probe_asks_where_it_failed(
    valkey: ValkeyServer, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage of one partition, be it of posts or pages, lasts as long as it fails."""
    caplog.set_level(logging.INFO)
    with Front([valkey]) as front:
        runs, made = run_at(front, namespace, tmp_path), list[Claims]()
        async with runs.open(lambda run: made.append(with_requests(run)), timeout=0.5) as run:
            for part, claims in ((namespace, run._posts), (f"{namespace}+pages", made[0])):
                place = f"vd1:{{{part}:{PARTITION_TAGS[split_key(KEYS[0])[0]]}}}"
                valkey.ask("SADD", place, "somebody's")
                caplog.clear()
                claim = await claims.claim(KEYS[0])
                assert isinstance(claim, Claim)
                (line,) = (text for text in caplog.messages if BEGIN in text)
                assert "WRONGTYPE" in line
                assert "VALKEY_DEDUP_NAMESPACE" in line
                claim.confirm()
                front.asked.clear()
                await until(lambda: front.asked["EVALSHA"] >= 3)  # of several probes
                assert run._outage
                valkey.ask("DEL", place)
                await until(lambda: any(END in text for text in caplog.messages))
                assert await claims.claim(KEYS[0]) is Verdict.SEEN


# -- clusters --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """Three primaries."""
    with ValkeyCluster(3, 0, node_timeout=500) as made:
        yield made


@in_loop
async def test_each_node_takes_a_write_at_the_start(
    cluster: ValkeyCluster, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever does not, it is an outage from the start, until it does."""
    caplog.set_level(logging.INFO)
    runs = Runs(cluster.nodes[0].url, namespace, tmp_path)
    for node in cluster.nodes:
        caplog.clear()
        node.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        async with runs.open(url=cluster.url, timeout=0.5) as run:
            (line,) = (text for text in caplog.messages if BEGIN in text)
            assert "min-replicas-to-write" in line
            probed = run._outage._prober._probed
            await until(lambda run=run, before=probed: run._outage._prober._probed is not before)
            assert run._outage
            node.ask("CONFIG", "SET", "min-replicas-to-write", "0")
            await until(lambda: any(END in text for text in caplog.messages))
            assert isinstance(await run.claim(KEYS[0]), Claim)
    runs.raw.close()


@in_loop
async def test_a_start_takes_two_round_trips(
    valkey: ValkeyServer, namespace: str, tmp_path: Path
) -> None:
    """A run opens a ledger that is well in two round trips, on one connection.

    The first shows whether it may write there, the second tries what it will do, and begins the
    ledger where there was none. A server that does not know the scripts gets them in two more.
    """
    assert valkey.port
    with FaultyProxy(valkey.port) as line:
        line.delay = 0.02
        new = f"{namespace}-new"
        for name, most in ((namespace, 4), (namespace, 2), (new, 2), (new, 2)):
            runs = Runs(f"valkey://127.0.0.1:{line.port}", name, tmp_path)
            runs.raw.close()
            line.connections = line.round_trips = 0
            async with runs.open(with_requests, lease=60, wait=60):
                assert line.connections == 1
                assert line.round_trips <= most


@in_loop
async def test_an_end_takes_two_round_trips(
    valkey: ValkeyServer, namespace: str, tmp_path: Path
) -> None:
    """One for what is settled, posts and pages at once, and one to leave, history included.

    Each has two questions, on two connections. The first run of an hour counts posts, too.
    """
    assert valkey.port
    with FaultyProxy(valkey.port) as line:
        runs = Runs(f"valkey://127.0.0.1:{line.port}", namespace, tmp_path)
        runs.raw.close()
        async with runs.open(with_requests, lease=60, wait=60):
            pass
        pages = list[Claims]()
        line.delay = 0.02
        async with runs.open(
            lambda run: pages.append(with_requests(run)), lease=60, wait=60
        ) as run:
            for claim in [await run.claim(KEYS[0]), await pages[0].attempt(KEYS[0])]:
                assert isinstance(claim, Claim)
                claim.confirm()
            line.round_trips = 0
        assert line.round_trips <= 2 * 2
