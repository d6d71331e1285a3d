"""The laws of the equipment in ``bench/servers``: it does what tests of faults rely on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey as valkey_py
from valkey.exceptions import ResponseError

from bench.servers import (
    ClusterNode,
    FaultyProxy,
    SentinelSet,
    Tls,
    ValkeyCluster,
    ValkeyServer,
    free_port,
    wait_for,
)
from tests.support.patience import PATIENCE
from tests.support.servers.tls import LOOPBACK, SPEAKER, Authority, needs_tls

SHORT = 0.1  # seconds after which a line that swallows is known to


# -- one server ------------------------------------------------------------------------------------


def test_ports_are_given_once() -> None:
    """Servers that are started together never meet on a port."""
    assert len({free_port() for _ in range(500)}) == 500


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


# -- a bad line ------------------------------------------------------------------------------------


@pytest.fixture
def proxy(valkey: ValkeyServer) -> Iterator[FaultyProxy]:
    """A line to the session's server."""
    with FaultyProxy(valkey.port or 0) as proxy:
        yield proxy


def dial(proxy: FaultyProxy, patience: float = PATIENCE) -> socket.socket:
    """A connection that waits ``patience`` seconds for what it reads."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=patience)


def say(connection: socket.socket, words: bytes) -> bytes:
    """One short command and its reply."""
    connection.sendall(words + b"\r\n")
    return connection.recv(100)


def ping(proxy: FaultyProxy) -> bytes:
    """The reply to a PING on a new connection."""
    with dial(proxy) as line:
        return say(line, b"PING")


def test_a_line_is_heard_from_the_start(proxy: FaultyProxy) -> None:
    """What a client says at once, before the line has reached the server, arrives."""
    assert {ping(proxy) for _ in range(200)} == {b"+PONG\r\n"}


def test_a_line_is_wide(proxy: FaultyProxy) -> None:
    """Three hundred connections pass, and a megabyte costs less than 20 ms of one core."""
    lines = [dial(proxy) for _ in range(300)]
    assert {say(line, b"PING") for line in lines} == {b"+PONG\r\n"}
    assert (proxy.connections, proxy.open, proxy.resets) == (300, 300, 0)
    size = 50 << 20
    sender = threading.Thread(
        target=lines[0].sendall, args=(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (size, b"x" * size),)
    )
    began = time.process_time()
    sender.start()
    with lines[0].makefile("rb") as replies:
        assert replies.readline() == b"$%d\r\n" % size
        assert replies.read(size) == b"x" * size
    assert time.process_time() - began < 2 * 50 * 0.02  # there and back
    sender.join()
    for line in lines:
        line.close()
    wait_for(lambda: proxy.open == 0, PATIENCE, "the connections to be closed")


def test_a_line_delays(proxy: FaultyProxy) -> None:
    """Each direction takes its time; what is sent together arrives together, in order."""
    with dial(proxy) as line:
        proxy.delay = 0.5
        began = time.monotonic()
        for number in range(50):
            line.sendall(b"ECHO %02d\r\n" % number)
        with line.makefile("rb") as replies:
            got = [replies.readline() + replies.readline() for _ in range(50)]
        assert got == [b"$2\r\n%02d\r\n" % number for number in range(50)]
        assert 1 <= time.monotonic() - began < 50  # one by one they would take 50
        proxy.delay = 0
        assert say(line, b"PING") == b"+PONG\r\n"


def questions_until_reset(proxy: FaultyProxy) -> int:
    """How many questions one connection answers."""
    with dial(proxy) as line:
        for number in range(10_000):
            try:
                if say(line, b"PING") != b"+PONG\r\n":  # torn
                    return number
            except ConnectionError:
                return number
    raise AssertionError("never reset")


def test_a_line_resets_by_chance(valkey: ValkeyServer) -> None:
    """A seed decides which chunk is hit; both sides lose the connection."""
    runs = []
    for seed in (1, 1, 2):
        with FaultyProxy(valkey.port or 0, seed=seed) as proxy:
            proxy.reset_chance = 0.02
            runs.append([questions_until_reset(proxy) for _ in range(10)])
            assert (proxy.resets, proxy.connections) == (10, 10)
    assert runs[0] == runs[1] != runs[2]
    wait_for(
        lambda: "addr=127.0.0.1" not in str(valkey.ask("CLIENT", "LIST", "TYPE", "normal")),
        PATIENCE, "the server to lose its clients",
    )  # fmt: skip


def test_a_cut_resets_what_is_open(proxy: FaultyProxy) -> None:
    """All connections of the moment are reset, and new ones work."""
    lines = [dial(proxy) for _ in range(10)]
    assert {say(line, b"PING") for line in lines} == {b"+PONG\r\n"}
    proxy.cut()
    for line in lines:
        with line, pytest.raises(ConnectionResetError):
            line.recv(1)
    assert proxy.resets == 10
    assert ping(proxy) == b"+PONG\r\n"


def test_a_line_refuses(proxy: FaultyProxy) -> None:
    """New connections end at once, old ones go on."""
    with dial(proxy) as old:
        assert say(old, b"PING") == b"+PONG\r\n"
        proxy.refuse = True
        with pytest.raises(ConnectionError):
            ping(proxy)
        assert say(old, b"PING") == b"+PONG\r\n"
        proxy.refuse = False
        assert ping(proxy) == b"+PONG\r\n"


def swallowed(line: socket.socket, words: bytes = b"") -> bool:
    """Whether a command, or else what was said before, brings no reply."""
    line.settimeout(SHORT)
    try:
        return not (say(line, words) if words else line.recv(1))
    except TimeoutError:
        return True
    finally:
        line.settimeout(PATIENCE)


def test_a_line_swallows() -> None:
    """Half open: nothing passes, neither side is told; what lost nothing lives on."""
    with ValkeyServer(port=free_port()) as own, FaultyProxy(own.port or 0) as proxy:
        with dial(proxy) as busy, dial(proxy) as idle:
            assert say(busy, b"PING") == say(idle, b"PING") == b"+PONG\r\n"
            proxy.swallow = True
            with dial(proxy) as new:
                assert swallowed(new, b"INCR k")
            assert swallowed(busy, b"INCR k")
            proxy.swallow = False
            assert swallowed(busy, b"INCR k")
            assert say(idle, b"INCR k") == b":1\r\n"
            proxy.swallow = True
            own.kill()
            assert all(swallowed(line) for line in (busy, idle))
            proxy.swallow = False
            for line in (busy, idle):
                with pytest.raises(ConnectionResetError):
                    line.recv(1)
        wait_for(lambda: proxy.open == 0, PATIENCE, "the connections to be closed")


def test_a_line_swallows_replies(proxy: FaultyProxy, valkey: ValkeyServer, namespace: str) -> None:
    """What is asked for is done, and the client is not told."""
    with dial(proxy) as line:
        assert say(line, b"PING") == b"+PONG\r\n"
        proxy.swallow_replies = True
        assert all(swallowed(line, b"INCR " + namespace.encode()) for _ in range(3))
        wait_for(lambda: valkey.ask("GET", namespace) == "3", PATIENCE, "all to be done")


def test_a_line_leads_nowhere_without_a_target(proxy: FaultyProxy, valkey: ValkeyServer) -> None:
    """A dead target is a reset; the next connection goes to where the line leads by then."""
    proxy.target_port = free_port()
    with pytest.raises(ConnectionError):
        ping(proxy)
    proxy.target_port = valkey.port or 0
    assert ping(proxy) == b"+PONG\r\n"


def test_a_closed_line_leaves_nothing(valkey: ValkeyServer) -> None:
    """No thread and no port; what was open is reset."""
    before = set(threading.enumerate())
    proxy = FaultyProxy(valkey.port or 0).start()
    with dial(proxy) as line:
        assert say(line, b"PING") == b"+PONG\r\n"
        proxy.stop()
        proxy.stop()
        with pytest.raises(ConnectionResetError):
            line.recv(1)
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
