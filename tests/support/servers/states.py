"""States that a server can be in, each as a context that brings it there, and out of it again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import valkey as valkey_py

from bench.servers import ClusterNode, ValkeyServer, free_port, wait_for
from tests.support.patience import PATIENCE

LOADING_SECONDS = 60  # more than any test waits for it

State = Callable[[Any], AbstractContextManager[object]]
"""Brings a server into a state, and out of it again."""


class Own(ValkeyServer):
    """A server to hurt, which may be asked while it loads."""

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith((b"+PONG", b"-NOAUTH", b"-LOADING"))
        return False

    def with_options(self, *options: str) -> None:
        """Starts it anew with other options."""
        self.kill()
        before = self._command
        self._command = [*before, *options]
        try:
            self.start()
        finally:
            self._command = before


@contextmanager
def configured(own: ValkeyServer, name: str, value: str) -> Iterator[None]:
    """One option is another for a while."""
    _, before = own.ask("CONFIG", "GET", name)
    own.ask("CONFIG", "SET", name, value)
    yield
    own.ask("CONFIG", "SET", name, before)


@contextmanager
def loading(own: Own) -> Iterator[None]:
    """It was restarted, and reads what it had: here keys that take their time."""
    fill = "for i = 1, ARGV[1] do redis.call('SET', KEYS[1] .. i, string.rep('x', 2048)) end"
    own.ask("EVAL", fill, 1, "filling", LOADING_SECONDS * 100)
    own.ask("SAVE")
    slowly = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    own.with_options(*slowly)
    yield
    own.with_options()
    wait_for(lambda: own.info().get("loading") == 0, PATIENCE, "the data to be loaded")


@contextmanager
def replica(own: Own) -> Iterator[None]:
    """Another is the primary now, as after a failover, and all connections lead here."""
    with ValkeyServer(port=free_port()) as other:
        other.ask("REPLICAOF", "127.0.0.1", own.port or 0)
        wait_for(other.in_sync, PATIENCE, "the replica")
        other.ask("REPLICAOF", "NO", "ONE")
        own.ask("REPLICAOF", "127.0.0.1", other.port or 0)
        wait_for(own.in_sync, PATIENCE, "the former primary")
        yield
        own.ask("REPLICAOF", "NO", "ONE")


@contextmanager
def orphan(own: Own) -> Iterator[None]:
    """A replica that has lost its primary and does not answer for it."""
    with configured(own, "replica-serve-stale-data", "no"):
        own.ask("REPLICAOF", "127.0.0.1", free_port())
        yield
        own.ask("REPLICAOF", "NO", "ONE")


@contextmanager
def lonely(own: Own) -> Iterator[None]:
    """A primary that may not write without a replica."""
    with configured(own, "min-replicas-to-write", "1"):
        yield


@contextmanager
def full(own: Own) -> Iterator[None]:
    """No memory is left, and nothing may be evicted."""
    with configured(own, "maxmemory", "1"):
        yield


@contextmanager
def unsaved(own: Own) -> Iterator[None]:
    """It cannot write its snapshot: a directory is in the way."""

    def save() -> None:
        own.ask("BGSAVE")
        wait_for(lambda: not own.info()["rdb_bgsave_in_progress"], PATIENCE, "the snapshot")

    obstacle = own.directory / "dump.rdb" / "obstacle"
    with configured(own, "save", "3600 1"):
        obstacle.mkdir(parents=True)
        save()
        yield
        obstacle.rmdir()
        obstacle.parent.rmdir()
        save()


@contextmanager
def busy(own: Own) -> Iterator[None]:
    """A script of another client does not end."""

    def run() -> None:
        with suppress(valkey_py.ValkeyError), valkey_py.Valkey.from_url(own.url) as client:
            client.eval("while true do end", 0)

    with configured(own, "busy-reply-threshold", "10"):
        script = threading.Thread(target=run)
        script.start()
        wait_for(lambda: "BUSY" in ping(own), PATIENCE, "the script")
        yield
        own.ask("SCRIPT", "KILL")
        script.join()


def ping(own: ValkeyServer) -> str:
    """What it says."""
    try:
        return str(own.ask("PING"))
    except valkey_py.ValkeyError as error:
        return str(error)


@contextmanager
def crowded(own: Own) -> Iterator[None]:
    """It takes no more clients, and has closed all connections."""
    with valkey_py.Valkey(unix_socket_path=str(own.socket), single_connection_client=True) as it:
        before = it.config_get("maxclients")["maxclients"]
        it.config_set("maxclients", "1")
        it.client_kill_filter(_type="normal", skipme=True)
        yield
        it.config_set("maxclients", before)


@contextmanager
def frozen(own: Own) -> Iterator[None]:
    """SIGSTOP."""
    own.freeze()
    yield
    own.thaw()


@contextmanager
def dead(own: Own) -> Iterator[None]:
    """SIGKILL."""
    own.kill()
    yield
    own.start()


def serves(node: ClusterNode) -> bool:
    """Whether it calls its cluster complete."""
    return "cluster_state:ok" in node.ask("CLUSTER", "INFO")
