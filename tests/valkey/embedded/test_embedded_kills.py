"""The embedded server when processes really die: users, watchers, and the server itself."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
from scrapy_valkey_dedup.valkey.embedded_process import find_binary
from tests.support.patience import PATIENCE
from tests.support.servers.embedded import (
    client,
    is_free,
    is_gone,
    linux,
    members,
    name_of,
    server_pid,
    until,
    watchers,
)

SLOW = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int file) {
    if (syscall(SYS_gettid) != getpid()) sleep(10);
    return 0;
}
"""


def test_the_starter_may_be_killed(data_dir, spider):
    """A kill -9 of the process that started the server leaves it to the others."""
    starter, other = spider(), spider()
    _, pid = starter.do("acquire")
    assert other.do("acquire")[1] == pid
    starter.die()
    assert other.do("write", 10) == [1] * 10
    assert other.do("acquire")[1] == pid
    other.do("release")
    until(lambda: is_gone(pid), "the server ends")


def test_an_orphaned_server_serves_who_comes_next(data_dir, spider):
    """After a kill -9 of all users the next one finds what they wrote, and stops it as the last."""
    only = spider()
    _, pid = only.do("acquire")
    only.do("write", 10)
    only.die()
    server = EmbeddedServer(data_dir)
    assert members(server.acquire()) == set(range(10))
    server.release()
    assert is_free(data_dir / "server.lock")
    until(lambda: is_gone(pid), "the server ends")


# Users that left without a word.


@linux
@pytest.mark.parametrize("deleted", [False, True])
def test_a_server_that_nobody_uses_ends_by_itself(data_dir, spider, *, deleted):
    """After a kill -9 of all users nothing runs any more, be its folder deleted; data are kept."""
    spiders = [spider() for _ in range(3)]
    ((_, pid),) = {one.do("acquire") for one in spiders}
    spiders[0].do("write", 10)
    (watcher,) = watchers(data_dir)
    until(lambda: name_of(watcher) == "valkey-watcher", "`killall python` spares it")
    if deleted:
        shutil.rmtree(data_dir)
    for one in spiders:
        assert not is_gone(pid)
        one.die()
    until(lambda: is_gone(pid), "the server ends")
    until(lambda: is_gone(watcher), "the watcher ends")
    server = EmbeddedServer(data_dir)
    assert members(server.acquire()) == set(range(0 if deleted else 10))
    server.release()


@linux
def test_a_server_that_is_used_goes_on(data_dir, spider):
    """However many users come and go: while one is left, the server and its one watcher stay."""
    stays = EmbeddedServer(data_dir)
    pid = server_pid(stays.acquire())
    (watcher,) = watchers(data_dir)
    others = [spider() for _ in range(4)]
    assert {one.do("acquire")[1] for one in others} == {pid}
    for one in others[:2]:
        one.do("release")
    for one in others[2:]:
        one.die()
    time.sleep(2.5)  # as long as a watcher takes to end an unused server
    assert server_pid(stays.acquire()) == pid
    assert watchers(data_dir) == [watcher]
    stays.release()
    until(lambda: is_gone(watcher), "the watcher ends")


@linux
def test_a_killed_watcher_is_replaced(data_dir, spider):
    """Who joins starts a watcher if there is none, and there is never more than one."""
    first, second = spider(), spider()
    _, pid = first.do("acquire")
    (killed,) = watchers(data_dir)
    os.kill(killed, signal.SIGKILL)
    until(lambda: is_gone(killed), "it is gone")
    assert second.do("acquire")[1] == pid
    (watcher,) = watchers(data_dir)
    first.die()
    second.die()
    until(lambda: is_gone(pid), "the server ends")
    until(lambda: is_gone(watcher), "the watcher ends")


@linux
def test_a_folder_that_is_made_anew_has_a_server_of_its_own(data_dir):
    """A user whose folder was deleted gets a new server, which stays, and the old one ends."""
    server = EmbeddedServer(data_dir)
    old = server_pid(server.acquire())
    shutil.rmtree(data_dir)
    url = server.acquire()
    assert server_pid(url) != old
    until(lambda: is_gone(old), "the old server ends")
    assert not is_free(data_dir / "users.lock")
    time.sleep(2.5)  # as long as a watcher takes to end an unused server
    assert server_pid(server.acquire()) == server_pid(url)
    server.release()
    assert is_free(data_dir / "server.lock")


@linux
def test_kills_at_random(data_dir, spider):
    """Ten processes at once, killed at random: no acknowledged write is lost, no process left."""
    chance = random.Random(7)
    acknowledged = set()
    for start in (0, 10**6):
        spiders = {spider(): start + number * 10**5 for number in range(10)}
        for one in spiders:
            one.order("acquire")
        for one, first in spiders.items():
            assert one.answer()
            one.order("flood", first, 10**9)
        for one in chance.sample(list(spiders), 10):
            time.sleep(chance.uniform(0, 0.03))
            one.process.kill()
        for one in spiders:
            one.process.join(PATIENCE)
            with contextlib.suppress(EOFError, ConnectionResetError):
                while one.pipe.poll(PATIENCE):
                    acknowledged.add(one.pipe.recv())
        time.sleep(chance.uniform(1, 2))  # the next one meets a server that is ending, or gone
        server = EmbeddedServer(data_dir)
        assert acknowledged <= members(server.acquire())
        server.release()
    assert acknowledged
    until(lambda: not watchers(data_dir), "the watchers end")
    assert is_free(data_dir / "server.lock")


@pytest.mark.parametrize("program", ["", "/no/such/python", "/bin/false"])
def test_without_a_watcher(data_dir, monkeypatch, caplog, program):
    """Where no Python can be started to watch, the server works as ever, and a line says so."""
    monkeypatch.setattr(sys, "executable", program)
    server = EmbeddedServer(data_dir)
    assert server_pid(server.acquire())
    (line,) = caplog.messages
    assert f"{data_dir} has no watcher" in line
    server.release()
    assert is_free(data_dir / "server.lock")


def test_a_killed_server_loses_no_acknowledged_write(data_dir, spider):
    """A kill -9 of the server under load loses no write it acknowledged, and acquire revives it."""
    writers = [spider(), spider()]
    pid = {writer.do("acquire")[1] for writer in writers}.pop()
    for number, writer in enumerate(writers):
        writer.order("flood", number * 10**6, (number + 1) * 10**6)
    acknowledged = [writer.answer() for writer in writers for _ in range(500)]
    os.kill(pid, signal.SIGKILL)
    for writer in writers:
        acknowledged.extend(iter(writer.answer, "end"))
    for writer in writers:
        writer.order("acquire")
    revived = {writer.answer() for writer in writers}
    assert len(revived) == 1
    url, new_pid = revived.pop()
    assert new_pid != pid
    assert set(acknowledged) <= members(url)


def test_a_slow_disk_costs_no_acknowledged_write(data_dir, script, tmp_path):
    """A kill -9 while the disk is slow to sync loses no acknowledged write either."""
    if sys.platform != "linux" or not shutil.which("cc"):
        pytest.skip("a slow disk is made with a C compiler and LD_PRELOAD")
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    binary = script(f'LD_PRELOAD="{library}" exec "{find_binary()}" "$@"')
    server = EmbeddedServer(data_dir, binary=binary)
    written = 0
    with client(server.acquire()) as connection:
        end = time.monotonic() + 1.8
        while time.monotonic() < end:
            connection.sadd("ledger", *range(written, written + 10))
            written += 10
        os.kill(connection.info("server")["process_id"], signal.SIGKILL)
    assert members(server.acquire()) == set(range(written))
    server.release()


def test_everything_may_be_killed(data_dir, spider):
    """After a kill -9 of all users and of the server, the next user finds what they wrote."""
    spiders = [spider() for _ in range(3)]
    pids = {one.do("acquire")[1] for one in spiders}
    for number, one in enumerate(spiders):
        one.do("write", number * 10, number * 10 + 10)
    for one in spiders:
        one.die()
    os.kill(pids.pop(), signal.SIGKILL)
    server = EmbeddedServer(data_dir)
    assert members(server.acquire()) == set(range(30))
    server.release()


def test_a_truncated_file_is_loaded(data_dir):
    """A last write that a crash cut in two costs that write only."""
    server = EmbeddedServer(data_dir)
    with client(server.acquire()) as connection:
        for number in range(100):
            connection.sadd("ledger", number)
    server.release()
    (file,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    os.truncate(file, file.stat().st_size - 5)
    assert members(server.acquire()) == set(range(99))
    server.release()


def test_interrupt_in_the_terminal_does_not_reach_the_server(data_dir, spider):
    """Ctrl-C, a SIGINT to the whole process group, ends the spiders and leaves the server."""
    one = spider()
    group = one.do("lead a group")
    _, pid = one.do("acquire")
    server = EmbeddedServer(data_dir)
    server.acquire()
    os.killpg(group, signal.SIGINT)
    one.process.join(PATIENCE)
    assert one.process.exitcode == -signal.SIGINT
    assert server_pid(server.acquire()) == pid
    server.release()


def test_the_server_inherits_its_own_lock_and_no_other(data_dir):
    """The server holds `server.lock` as long as it lives, and no other lock at all."""
    server = EmbeddedServer(data_dir)
    pid = server_pid(server.acquire())
    assert not is_free(data_dir / "server.lock")
    assert is_free(data_dir / "start.lock")
    if Path("/proc/self/fd").exists():
        files = {os.path.realpath(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
        assert {Path(file).name for file in files if file.endswith(".lock")} == {"server.lock"}
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_free(data_dir / "server.lock"), "the kernel drops the lock of the dead")
    server.release()
