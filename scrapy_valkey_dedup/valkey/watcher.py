"""Ends the embedded server when it has no users any more, no matter how they left.

A separate program, which `watching.py` starts beside the server: users may be killed, or leave
through ``os._exit``. It imports nothing but a few modules of the standard library, so that it stays
small.

It inherits descriptors of the lock files, and keeps a connection to the server: so it needs no
path, and ends the server of a folder that has been deleted, too. It decides everything while it
holds `start.lock`, as all do who start, join or stop the server.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import time

SOCKET = "valkey.sock"
START, USERS, SERVER = "start.lock", "users.lock", "server.lock"
_ROUND = 1.0  # seconds between two looks at the users
_LONELY = 2  # looks without a user before the end: a spider that restarts finds the server running
_LOADED = 600  # so many while it loads for longer than its user waited, who may come again
_FIRST_PAUSE = 0.002  # seconds before the next attempt to connect
_PATIENCE = 10.0  # seconds for the server to end; new users wait for so long


def watch(connection: socket.socket | None, start: int, users: int, server: int) -> None:
    """Returns, holding `start.lock`, when there are neither users nor a server."""
    lonely = 0
    while True:
        connection = _round(connection)
        if not _locks(start):  # another process starts, joins or stops the server
            lonely = 0
            continue
        lonely = lonely + 1 if _locks(users) else 0
        if lonely >= _LONELY and _is_loading(connection):
            lonely = -_LOADED
        if lonely >= _LONELY and _stop(connection, server):
            return
        _unlock(users)
        _unlock(start)


def _round(connection: socket.socket | None) -> socket.socket | None:
    """Waits for a round, and returns a connection to the server, if there is one."""
    end = time.monotonic() + _ROUND
    while (left := end - time.monotonic()) > 0:
        if connection is None:
            connection = _connected(end)
        elif select.select([connection], [], [], left)[0]:
            connection.close()  # data without a question: it ends, or accepts no more clients
            connection = None
            time.sleep(min(_ROUND / 10, left))
    return connection


def _connected(end: float) -> socket.socket | None:
    """A connection as soon as there is a server, None if there is none in time."""
    pause = _FIRST_PAUSE
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(SOCKET)  # in the current folder: no path is too long, or renamed
        except OSError:
            connection.close()
        else:
            return connection
        if (left := end - time.monotonic()) <= 0:
            return None
        time.sleep(min(pause, left))
        pause *= 1.5


def _is_loading(connection: socket.socket | None) -> bool:
    if connection is None:
        return False
    try:
        connection.settimeout(_ROUND)
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"-LOADING")
    except OSError:
        return False


def _stop(connection: socket.socket | None, server: int) -> bool:
    """Whether there is no server any more. One that hangs is told again later."""
    end = time.monotonic() + _PATIENCE
    if not _is_free(server) and connection is not None:
        try:
            connection.sendall(b"SHUTDOWN NOSAVE\r\n")  # see ServerProcess.stop
        except OSError:
            return _is_free(server)
        while not _is_free(server) and time.monotonic() < end:
            time.sleep(_FIRST_PAUSE)
    return _is_free(server)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_free(descriptor: int) -> bool:
    free = _locks(descriptor)
    if free:
        _unlock(descriptor)
    return free


def _take_a_name() -> None:
    """So that `killall python`, which means the spiders, spares it. For Linux."""
    try:
        with open("/proc/self/comm", "w", encoding="ascii") as name:  # noqa: PTH123 (small)
            name.write("valkey-watcher")
    except OSError:
        pass


def main(mine: int, *others: int) -> None:
    """``mine``: the descriptor of `watcher.lock`; the others are as for :func:`watch`."""
    # The process that starts the server waits for this one, which stays connected from then on,
    # even if the folder is deleted.
    connection = _connected(time.monotonic() + _ROUND)
    if os.fork():
        os._exit(0)
    _take_a_name()
    watch(connection, *others)
    os.close(mine)  # before `start.lock`: the next holder must see that there is no watcher


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
