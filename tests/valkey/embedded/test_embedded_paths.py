"""The embedded server's directory: what lies there already, and how it may be called."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
from tests.support.servers.embedded import client, is_free, members, server_pid


def test_a_stale_socket_file_is_replaced(data_dir):
    """A socket file that a dead server left does not stop a new one."""
    data_dir.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(data_dir / "valkey.sock"))
    server = EmbeddedServer(data_dir)
    assert server_pid(server.acquire())
    server.release()


def test_garbage_is_replaced(data_dir):
    """Files of another making under the names of the server's own do no harm."""
    data_dir.mkdir(mode=0o700)
    for name in ("valkey.sock", "valkey.log", "valkey.pid", "start.lock", "users.lock"):
        (data_dir / name).write_text("1\nnonsense")
    server = EmbeddedServer(data_dir)
    assert server_pid(server.acquire())
    server.release()


def test_pipes_are_not_waited_for(data_dir):
    """A pipe under the name of a lock file delays no run."""
    data_dir.mkdir(mode=0o700)
    for name in ("watcher.lock", "start.lock", "users.lock", "server.lock"):
        os.mkfifo(data_dir / name)
    server = EmbeddedServer(data_dir)
    assert server_pid(server.acquire())
    server.release()


def test_the_path_may_be_long(tmp_path, spider):
    """A directory whose path no socket address can hold serves as well, to several processes."""
    path = tmp_path / ("a" * 120) / ("b" * 120)
    assert len(str(path)) >= 217
    long_tmp = tmp_path / ("t" * 120)
    long_tmp.mkdir()
    one, two = spider(path), spider(path, TMPDIR=str(long_tmp))
    (one_url, one_pid), (two_url, two_pid) = one.do("acquire"), two.do("acquire")
    assert one_pid == two_pid
    one.do("release")
    assert members(two_url) == set()
    two.do("release")
    for url in (one_url, two_url):
        alias = Path(url.removeprefix("unix://")).parent.parent
        assert alias.name.startswith("svd-")
        assert not alias.exists()
    assert is_free(path / "server.lock")


def test_a_lost_shortcut_is_made_anew(tmp_path):
    """When a cleaner of temporary files took the way to a long path, acquire makes another."""
    server = EmbeddedServer(tmp_path / ("a" * 200))
    pid = server_pid(server.acquire())
    shutil.rmtree(server.socket_path.parent.parent)
    assert server_pid(server.acquire()) == pid
    server.release()
    assert is_free(server.data_dir / "server.lock")


@pytest.mark.parametrize("name", ["two words", "pünkt", "%41?a=1#b", "quo\"te's", "back\\slash"])
def test_the_path_may_be_odd(tmp_path, name):
    """A directory of any name serves, and its URL leads a client there."""
    server = EmbeddedServer(tmp_path / name)
    with client(server.acquire()) as connection:
        assert connection.config_get("dir") == {"dir": str(tmp_path / name)}
    server.release()


def test_spellings_of_one_directory_share_a_server(data_dir, tmp_path, monkeypatch):
    """A symlink, a relative path and a detour lead to the server of the directory they mean."""
    (tmp_path / "link").symlink_to(data_dir)
    monkeypatch.chdir(tmp_path)
    spellings = (data_dir, str(data_dir), "link", "data", f"../{tmp_path.name}/data/.")
    servers = [EmbeddedServer(spelling) for spelling in spellings]
    assert len({server_pid(server.acquire()) for server in servers}) == 1
    for server in servers:
        server.release()
    assert is_free(data_dir / "server.lock")


def test_environments_share_a_server(data_dir, tmp_path, spider):
    """A process under cron or systemd and one in a terminal reach the same server."""
    for name in ("tmp", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    cron = spider(PATH="/usr/bin:/bin", TMPDIR="", XDG_RUNTIME_DIR="", HOME="/")
    terminal = spider(TMPDIR=str(tmp_path / "tmp"), XDG_RUNTIME_DIR=str(tmp_path / "run"))
    assert cron.do("acquire") == terminal.do("acquire")
