"""The laws of ``bench/servers``: servers, clusters and sentinels are what tests of faults need."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey as valkey_py
from valkey.exceptions import ResponseError

from bench.servers import (
    ClusterNode,
    SentinelSet,
    Tls,
    ValkeyCluster,
    ValkeyServer,
    free_port,
)
from tests.support.servers.tls import LOOPBACK, SPEAKER, Authority, needs_tls

# -- one server ------------------------------------------------------------------------------------


def test_ports_are_given_once() -> None:
    """Servers that are started together never meet on a port, whichever processes start them."""
    taking = """
import os, sys
from bench.servers import free_port
free_port()
os.fork()
sys.stdout.write("".join(f"{free_port()}\\n" for _ in range(500)))
sys.stdout.flush()
sys.stdin.read()  # nothing: it waits for the end
"""
    mine = [free_port() for _ in range(500)]
    with subprocess.Popen(
        [sys.executable, "-c", taking], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forked:
        assert forked.stdout is not None
        others = [int(forked.stdout.readline()) for _ in range(1000)]
    assert len({*mine, *others}) == 1500


def test_a_server_keeps_its_data_over_restarts() -> None:
    """After SIGTERM, SIGKILL and both together a persistent server has what it had."""
    with ValkeyServer(port=free_port(), persistent=True, password="a@b/c") as server:
        server.ask("SET", "k", "\udcff")
        server.restart()
        server.kill()
        assert not server.alive
        server.start()
        assert server.ask("GET", "k") == "\udcff"
        directory = server.directory
    assert not directory.exists()


def test_a_frozen_server_answers_when_it_is_thawed() -> None:
    """Freezing ends nothing; a frozen server can be ended."""
    with ValkeyServer() as server:
        server.freeze()
        assert not server.alive
        server.thaw()
        assert server.ask("PING")
        server.freeze()
        server.terminate()


# -- a cluster -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[ValkeyCluster]:
    """A cluster for all tests; each leaves it in order."""
    # Replicas load what they receive at once: Valkey 9.1 else looks for it once a second.
    options = ("--repl-diskless-load", "swapdb", "--appendfsync", "always")
    with ValkeyCluster(options=options) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: ValkeyCluster) -> Iterator[ValkeyCluster]:
    """The cluster, empty and in order."""
    for node in shared.primaries:
        node.ask("FLUSHALL")
    yield shared
    for node in shared.nodes:
        if not node.alive:
            node.restart()
    shared.wait_ok()


def fill(node: ClusterNode, count: int = 200, tag: str = "a") -> list[str]:
    """Writes keys of one slot, known to a replica when this returns."""
    keys = [f"{{{tag}}}{number}" for number in range(count)]
    for key in keys:
        node.ask("SET", key, key)
    node.ask("WAIT", 1, 5000)
    return keys


def test_a_cluster_is_complete(cluster: ValkeyCluster) -> None:
    """Every slot has an owner, every owner a replica, and a URL names them all."""
    owners = {cluster.primary_of(slot) for slot in (0, 5461, 5462, 10922, 10923, 16383)}
    assert owners == set(cluster.primaries)
    assert [len(cluster.replicas_of(owner)) for owner in owners] == [1, 1, 1]
    hosts = cluster.url.removeprefix("valkey+cluster://").split(",")
    assert hosts == [f"127.0.0.1:{node.port}" for node in cluster.nodes]
    assert cluster.slot_of("{a}b") == cluster.slot_of(b"a") == 15495
    assert cluster.primary_of("a").ask("CLUSTER", "KEYSLOT", "{a}b") == 15495


def test_a_killed_primary_is_replaced(cluster: ValkeyCluster) -> None:
    """Its replica takes over, with all keys, and it comes back as a replica."""
    primary = cluster.primary_of("a")
    (replica,) = cluster.replicas_of(primary)
    keys = fill(primary)
    began = time.monotonic()
    cluster.kill(primary)
    cluster.wait_ok()
    assert time.monotonic() - began > 0.9
    assert cluster.primary_of("a") is replica
    assert replica.ask("DBSIZE") == len(keys)
    cluster.restart(primary)
    assert cluster.replicas_of(replica) == [primary]


def test_a_frozen_primary_is_replaced(cluster: ValkeyCluster) -> None:
    """What does not answer counts as dead; thawed, it learns that it is a replica now."""
    primary = cluster.primary_of("a")
    primary.freeze()
    cluster.wait_ok()
    successor = cluster.primary_of("a")
    assert successor is not primary
    primary.thaw()
    cluster.wait_ok()
    assert cluster.replicas_of(successor) == [primary]


def test_a_replica_takes_over_when_told(cluster: ValkeyCluster) -> None:
    """A failover by hand loses no key and no node."""
    primary = cluster.primary_of("a")
    (replica,) = cluster.replicas_of(primary)
    fill(primary, 20)
    for how in ("", "FORCE"):
        cluster.failover(replica, how)
        assert cluster.primary_of("a") is replica
        assert replica.ask("DBSIZE") == 20
        primary, replica = replica, primary


def test_a_slot_moves_key_by_key(cluster: ValkeyCluster) -> None:
    """Half migrated, its keys are at both ends: the source answers ASK for what has left."""
    source = cluster.primary_of("a")
    target = next(node for node in cluster.primaries if node is not source)
    slot = cluster.slot_of("a")
    keys = fill(source)
    stops = []

    def look(moved: int) -> None:
        stops.append(moved)
        assert source.ask("DBSIZE") == len(keys) - moved
        assert target.ask("DBSIZE") == moved
        with pytest.raises(ResponseError, match=f"ASK {slot} 127.0.0.1:{target.port}"):
            source.ask("GET", "{a}never-set")
        with pytest.raises(ResponseError, match=f"MOVED {slot} 127.0.0.1:{source.port}"):
            target.ask("GET", keys[0])

    cluster.migrate_slot(slot, target, look)
    assert stops == [0, 50, 100, 150, 200]
    assert cluster.primary_of("a") is target
    assert [target.ask("GET", key) for key in keys] == keys
    with pytest.raises(ResponseError, match=f"MOVED {slot} 127.0.0.1:{target.port}"):
        source.ask("GET", keys[0])


def test_a_migration_that_was_dropped_goes_on(cluster: ValkeyCluster) -> None:
    """Half a migration stays half until another ends it."""
    source = cluster.primary_of("b")
    target = next(node for node in cluster.primaries if node is not source)
    keys = fill(source, 100, "b")
    assert next(moved for moved in cluster.migration(cluster.slot_of("b"), target) if moved) == 50
    assert (source.ask("DBSIZE"), target.ask("DBSIZE")) == (50, 50)
    cluster.migrate_slot(cluster.slot_of("b"), target)
    assert target.ask("DBSIZE") == len(keys)


@pytest.mark.parametrize("gently", [True, False])
def test_a_rolling_restart_keeps_all(cluster: ValkeyCluster, *, gently: bool) -> None:
    """Every node becomes a new process, and no key is lost."""
    keys = fill(cluster.primary_of("a"))
    processes = {node.pid for node in cluster.nodes}
    cluster.rolling_restart(gently=gently)
    assert processes.isdisjoint(node.pid for node in cluster.nodes)
    assert cluster.primary_of("a").ask("DBSIZE") == len(keys)


# -- sentinels -------------------------------------------------------------------------------------


def test_sentinels_replace_a_primary() -> None:
    """They agree on a successor that has all data; the former primary comes back as its replica."""
    with SentinelSet(1, password="data@", sentinel_password="watch") as sentinels:
        primary = sentinels.primary
        assert sentinels.replicas == [server for server in sentinels.servers if server != primary]
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels.sentinels)
        assert sentinels.url == f"valkey+sentinel://:data%40@{hosts}/posts"
        primary.ask("SET", "k", "v")
        primary.ask("WAIT", 1, 5000)
        began = time.monotonic()
        sentinels.kill(primary)
        successor = sentinels.wait_failover(primary)
        assert time.monotonic() - began > 0.5
        assert successor is not primary
        assert successor.ask("GET", "k") == "v"
        sentinels.restart(primary)
        assert sentinels.primary is successor
        assert sentinels.replicas == [primary]
    assert not any(server.directory.exists() for server in sentinels.servers)


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tls:
    """Certificates for 127.0.0.1, and servers that know TLS."""
    monkeypatch.setenv("VALKEY_SERVER", str(SPEAKER))
    authority = Authority(tmp_path, "ours")
    authority.certify(LOOPBACK)
    return Tls(tmp_path / "server.pem", tmp_path / "server.pem", authority.file)


def asked_by_tls(url: str, tls: Tls) -> object:
    """The reply to a PING of a client that believes only the right authority and host."""
    options = {"ssl_ca_certs": str(tls.authority), "ssl_check_hostname": True}
    with valkey_py.Valkey.from_url(url, **options) as client:
        return client.ping()


@needs_tls
def test_a_cluster_speaks_tls(tls: Tls) -> None:
    """Clients, nodes, replicas, migrations and failovers: all of it is TLS."""
    with ValkeyCluster(2, 1, tls=tls, password="secret") as cluster:
        assert cluster.url.startswith("valkeys+cluster://:secret@127.0.0.1:")
        assert all(asked_by_tls(node.url, tls) for node in cluster.nodes)
        source = cluster.primary_of("a")
        (target,) = (node for node in cluster.primaries if node is not source)
        fill(source, 60)
        cluster.migrate_slot(cluster.slot_of("a"), target)
        cluster.failover(cluster.replicas_of(target)[0])
        assert cluster.primary_of("a").ask("DBSIZE") == 60
        assert cluster.primary_of("a") is not target
        with pytest.raises(valkey_py.ConnectionError):
            valkey_py.Valkey(port=source.port, socket_timeout=5).ping()


@needs_tls
def test_sentinels_speak_tls(tls: Tls) -> None:
    """Sentinels and what they watch: all of it is TLS."""
    with SentinelSet(1, tls=tls) as sentinels:
        assert sentinels.url.startswith("valkeys+sentinel://127.0.0.1:")
        for server in (*sentinels.servers, *sentinels.sentinels):
            assert asked_by_tls(server.url, tls)
        primary = sentinels.primary
        sentinels.kill(primary)
        assert sentinels.wait_failover(primary) is not primary
