"""The one-machine server: a private `valkey-server` that all spider processes of a user share.

The first process starts it, the last to leave stops it. If the last one was killed, a watcher stops
the server a moment later: a small process beside it, `watcher.py`.

The server listens on a Unix socket inside the data directory, so every spelling of that directory
and every environment leads to the same server. Four lock files there (`flock`: the kernel drops a
lock when its last holder dies) decide who does what:

- `start.lock`, exclusive: held by a process only while it starts, joins or stops the server;
- `users.lock`, shared: held by each process for as long as it uses the server;
- `server.lock`, exclusive: inherited by the server itself. While it is held, a server process lives
  on this directory, and a second one cannot start there;
- `watcher.lock`, exclusive: inherited by the watcher. While it is held, there is a watcher. A user
  that joins starts one if there is none. The watcher gives the lock up only under `start.lock`,
  when there are neither users nor a server.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from scrapy_valkey_dedup.valkey.embedded_directory import DataDirectory, unlock
from scrapy_valkey_dedup.valkey.embedded_process import ServerProcess
from scrapy_valkey_dedup.valkey.watcher import START, USERS
from scrapy_valkey_dedup.valkey.watching import watched


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
        self._directory = DataDirectory(data_dir, start_timeout)
        self._process = ServerProcess(self._directory, binary)
        self._guard = threading.Lock()
        self._users: int | None = None

    @property
    def data_dir(self) -> Path:
        """The directory, without links in its path."""
        return self._directory.path

    @property
    def socket_path(self) -> Path:
        """The server's socket; after `acquire`, by a way that is short enough for an address."""
        return self._directory.socket_path

    def acquire(self) -> str:
        """Join the server, started if need be, and return its URL.

        Call it again at any time: a server that has died is started again on the same data.
        """
        deadline = time.monotonic() + self._directory.patience
        with self._guard, self._foreign_errors():
            self._directory.check()
            self._directory.shorten_address()
            with self._starting_or_stopping(deadline), watched(self.data_dir, deadline):
                if not self._process.answers(deadline):
                    self._process.start(deadline)
                self._leave_a_deleted_directory()
                if self._users is None:
                    self._users = self._directory.lock(USERS, fcntl.LOCK_SH, deadline)
        return f"unix://{quote(os.fsencode(self.socket_path))}"

    def release(self) -> None:
        """Leave the server; the last to leave stops it, data on disk, and waits for its end."""
        deadline = time.monotonic() + self._directory.patience
        with self._guard, self._foreign_errors():
            if self._users is None:
                return
            users, self._users = self._users, None
            unlock(users)
            try:
                with self._starting_or_stopping(deadline):
                    if self._directory.is_free(USERS):
                        self._process.stop(deadline)
            finally:
                self._directory.drop_alias()

    def _leave_a_deleted_directory(self) -> None:
        """Give up the lock of a directory that was deleted: it does not hold for a new one."""
        if self._users is None:
            return
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._users), (self.data_dir / USERS).stat()):
                return
        unlock(self._users)
        self._users = None

    @contextmanager
    def _starting_or_stopping(self, deadline: float) -> Iterator[None]:
        start = self._directory.lock(START, fcntl.LOCK_EX, deadline)
        try:
            yield
        finally:
            unlock(start)

    @contextmanager
    def _foreign_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._directory.error(f"cannot be used: {error}") from error
