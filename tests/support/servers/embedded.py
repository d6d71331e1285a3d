"""Processes that use an embedded server as spiders do, and what the machine shows of them."""

import contextlib
import fcntl
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import valkey

from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
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
    """Whether a process has ended, reaped or not."""
    try:
        os.kill(pid, 0)
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # ended at this moment, or this system has no such files
        return Path("/proc/self/stat").exists()


def is_free(lock):
    """Whether a lock file is free."""
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
    """A process that uses the server of a directory."""

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
