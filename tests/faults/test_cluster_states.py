"""Each state that a cluster can be in has its handling and its message, and ends when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from bench.servers import ClusterNode, ValkeyCluster, free_port, wait_for
from scrapy_valkey_dedup.model import (
    LedgerRefusedError,
    LedgerUnavailableError,
)
from scrapy_valkey_dedup.valkey.slots import slot_of
from tests.support.meanwhile import (
    a_run,
    assert_an_outage_while,
    assert_unavailable_while,
    session_at,
)
from tests.support.patience import PATIENCE, in_loop
from tests.support.servers.states import serves


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[ValkeyCluster]:
    """Three primaries without replicas."""
    with ValkeyCluster(3, 0, node_timeout=500) as made:
        yield made


@pytest.fixture
def cluster(shared_cluster: ValkeyCluster) -> ValkeyCluster:
    """The cluster, empty and in order."""
    for node in shared_cluster.nodes:
        node.ask("FLUSHALL")
    return shared_cluster


@contextmanager
def down(cluster: ValkeyCluster) -> Iterator[None]:
    """A primary is dead and not replaced: the others stop serving."""
    node = cluster.nodes[0]
    cluster.kill(node)
    wait_for(lambda: not serves(cluster.nodes[1]), PATIENCE, "the others to notice")
    yield
    cluster.restart(node)


@in_loop
async def test_a_cluster_without_a_primary(
    cluster: ValkeyCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """CLUSTERDOWN: a new run is told in time, a running one survives it."""
    caplog.set_level(logging.INFO)
    words = "does not serve all slots: look at its nodes|[Cc]onnect"
    await assert_unavailable_while(down(cluster), cluster.url, words)
    await assert_an_outage_while(down(cluster), cluster.url, words, tmp_path, caplog)


@pytest.mark.parametrize("scheme", ["valkey", "valkey+cluster"])
@in_loop
async def test_a_node_without_slots(scheme: str) -> None:
    """CLUSTERDOWN: a cluster that is not formed yet is reported, and used once it is formed."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with ClusterNode(*options, port=free_port()) as node:
        url = f"{scheme}://127.0.0.1:{node.port}"
        async with a_run(url) as ledger:
            with pytest.raises(LedgerUnavailableError, match="slots: look at its nodes"):
                await ledger.open()
            node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: serves(node), PATIENCE, "the cluster")
            await ledger.open()


def served_by(cluster: ValkeyCluster, node: ClusterNode) -> str:
    """A namespace whose first keys are all served by a node; most of its posts are not."""
    return next(
        namespace
        for namespace in (f"space-{number}" for number in count())
        if cluster.primary_of(slot_of(f"vd1:{{{namespace}}}")) is node
    )


@in_loop
async def test_a_plain_url_of_a_cluster(cluster: ValkeyCluster, tmp_path: Path) -> None:
    """MOVED: a run is refused at its start, even where the first questions would be answered."""
    for node in cluster.nodes:
        session = session_at(node.url, tmp_path, VALKEY_DEDUP_NAMESPACE=served_by(cluster, node))
        with pytest.raises(LedgerRefusedError, match=r"valkey\+cluster://.*VALKEY_DEDUP_URL"):
            await session.open()


@in_loop
async def test_a_plain_url_meets_a_slot_on_the_move(cluster: ValkeyCluster) -> None:
    """ASK: it is a cluster, and the cure is the same."""
    async with a_run(cluster.url) as ledger:
        slot = slot_of(ledger._names.partitions[0])
        source = cluster.primary_of(slot)
        target = next(node for node in cluster.nodes if node is not source)
        move = cluster.migration(slot, target)
        next(move)
        async with a_run(source.url) as plain:
            with pytest.raises(LedgerRefusedError, match=r"ASK .*valkey\+cluster://"):
                await plain.claim_many([b"\0" * 16])
        for _ in move:
            pass
        cluster.wait_ok()
        await ledger.open()


@in_loop
async def test_a_slot_on_the_move(cluster: ValkeyCluster) -> None:
    """ASK, and TRYAGAIN for several keys: the question waits, and the reason is told."""
    async with (
        a_run(cluster.url) as ledger,
        a_run(cluster.url, timeout=60) as patient,
    ):
        await ledger.runs.write_heartbeat(1, 60)
        slot = slot_of(ledger._names.root)
        source = cluster.primary_of(slot)
        target = next(node for node in cluster.nodes if node is not source)
        move = cluster.migration(slot, target, batch=1)
        next(move)
        with pytest.raises(LedgerUnavailableError, match=r"being migrated.*TRYAGAIN|TRYAGAIN.*mig"):
            await ledger.runs.read_heartbeats([ledger.run, "nobody"])
        assert await ledger.runs.read_heartbeats([ledger.run]) == [b"1"]
        next(move)
        with pytest.raises(LedgerUnavailableError, match=r"being migrated \(ASK"):
            await ledger.runs.read_heartbeats([ledger.run])
        question = asyncio.create_task(patient.runs.read_heartbeats([ledger.run, "nobody"]))
        await asyncio.sleep(0.1)
        assert not question.done()
        for _ in move:
            pass
        assert await question == [b"1", None]
        cluster.wait_ok()
        assert await ledger.runs.read_heartbeats([ledger.run, "nobody"]) == [b"1", None]
