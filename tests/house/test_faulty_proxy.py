"""The laws of the line in ``bench/servers``: its faults are what tests of faults rely on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bench.servers import (
    FaultyProxy,
    ValkeyServer,
    free_port,
    wait_for,
)
from tests.support.patience import PATIENCE

SHORT = 0.1  # seconds after which a line that swallows is known to


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
