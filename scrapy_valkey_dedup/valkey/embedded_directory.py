"""The directory of an embedded server: fit for use, its socket within reach, and its locks."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from pathlib import Path

from scrapy_valkey_dedup.model import EmbeddedServerError
from scrapy_valkey_dedup.private import folder_fault
from scrapy_valkey_dedup.valkey.watcher import SOCKET

_ADDRESS_LIMIT = 103  # bytes in a socket's address: 104 on macOS, 108 on Linux, with the final NUL
_POLL = 0.01  # seconds
_PROBE = bytes(65536)  # as much free space as a start needs, with room to spare

CURE = (
    "Let it name a directory of your own on a local disk with free space, or set VALKEY_DEDUP_URL "
    "to use another server."
)
_LATE_CURE = (
    "Run again if that process is still at work, end it if it hangs; if it is on another machine, "
    "share a server through VALKEY_DEDUP_URL instead."
)


class DataDirectory:
    """The setting `VALKEY_DEDUP_DATA_DIR`. Faults are raised as `EmbeddedServerError`."""

    def __init__(self, path: str | os.PathLike[str], patience: float) -> None:
        """``patience``: seconds until a deadline, for messages."""
        self.path = Path(os.path.realpath(path))
        self.socket_path = self.path / SOCKET  # `shorten_address` puts a short alias for a long one
        self.patience = patience
        self._alias: tempfile.TemporaryDirectory[str] | None = None

    def check(self) -> None:
        """Make the directory, private to its user, or see that it is fit for use."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Anyone else who may write there could put a server of their own there.
        if fault := folder_fault(self.path.stat()):
            raise self.error(*fault)
        # A full or read-only disk shows itself here: the server could not even log it.
        with tempfile.TemporaryFile(dir=self.path) as probe:
            probe.write(_PROBE)

    def shorten_address(self) -> None:
        """Lead to the socket through a short private symlink where its own path is too long."""
        if len(os.fsencode(self.path / SOCKET)) <= _ADDRESS_LIMIT:
            return
        if self._alias and self.socket_path.parent.is_symlink():  # no cleaner of TMPDIR took it
            return
        self.drop_alias()
        parents = (tempfile.gettempdir(), "/tmp")  # noqa: S108 - TMPDIR may be too long itself
        parent = next(path for path in parents if len(os.fsencode(path)) <= _ADDRESS_LIMIT // 2)
        self._alias = tempfile.TemporaryDirectory(None, "svd-", parent, ignore_cleanup_errors=True)
        link = Path(self._alias.name, "d")
        link.symlink_to(self.path)
        self.socket_path = link / SOCKET

    def drop_alias(self) -> None:
        """Remove the short symlink."""
        if self._alias:
            self._alias.cleanup()
            self._alias = None

    def wait(self, deadline: float, problem: str) -> None:
        """Let a moment pass, or raise when the time is up."""
        if time.monotonic() >= deadline:
            raise self.error(f"{problem}, after {self.patience:g} seconds", _LATE_CURE)
        time.sleep(_POLL)

    def open(self, name: str) -> int:
        """Open a file of the directory, made if need be."""
        return os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def lock(self, name: str, kind: int, deadline: float) -> int:
        """Take a lock and return the descriptor that holds it; programs do not inherit it."""
        descriptor = self.open(name)
        try:
            while not _try_lock(descriptor, kind):
                self.wait(deadline, f"is kept busy by a process that holds its {name}")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def is_free(self, name: str) -> bool:
        """Whether nothing holds a lock."""
        descriptor = self.open(name)
        try:
            return _try_lock(descriptor, fcntl.LOCK_EX)
        finally:
            unlock(descriptor)

    def error(self, problem: str, cure: str = CURE) -> EmbeddedServerError:
        """What is wrong with the directory, and the cure."""
        return EmbeddedServerError(f"VALKEY_DEDUP_DATA_DIR={self.path} {problem}. {cure}")


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        reason = f"its file system refuses file locks, as network mounts may ({error.strerror})"
        raise OSError(error.errno, reason) from error
    return True


def unlock(descriptor: int) -> None:
    """Unlock before closing: a child forked meanwhile has a copy that would keep the lock."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
