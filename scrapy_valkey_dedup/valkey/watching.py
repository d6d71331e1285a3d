"""Starts the watcher of an embedded server, the program `watcher.py`."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scrapy_valkey_dedup.valkey.watcher import SERVER, START, USERS

logger = logging.getLogger(__name__)

_WATCHER = "watcher.lock"
_PROGRAM = Path(__file__).with_name("watcher.py")


@contextmanager
def watched(data_dir: Path, deadline: float) -> Iterator[None]:
    """Makes sure that there is a watcher before there is a server.

    For those who hold `start.lock`. A watcher that cannot be started is a warning, no more.
    """
    files: list[int] = []
    starting: subprocess.Popen[bytes] | None = None
    try:
        files.append(_open(data_dir / _WATCHER))
        if _locked(files[0]):
            files += [_open(data_dir / name) for name in (START, USERS, SERVER)]
            starting = _spawn(data_dir, files)
    except OSError as error:
        _warn(data_dir, error)
    finally:
        for descriptor in files:
            os.close(descriptor)  # without LOCK_UN, which would take the lock from the watcher
    try:
        yield
    except BaseException:
        if starting is not None:
            starting.kill()  # unless it has met a server, and so has ended already
            starting.wait()
        raise
    if starting is not None:
        _reap(starting, data_dir, deadline)


def _open(path: Path) -> int:
    """For reading: a disk can be made read-only, or ejected, though the watcher is still there.

    A pipe of that name is not waited for.
    """
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK, 0o600)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _spawn(data_dir: Path, files: list[int]) -> subprocess.Popen[bytes]:
    if getattr(sys, "frozen", False) or not sys.executable:
        raise OSError("there is no Python that could run it")
    return subprocess.Popen(  # noqa: S603 - a list, no shell
        [sys.executable, "-I", "-S", _PROGRAM, *map(str, files)],
        cwd=data_dir,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=files,
        start_new_session=True,  # Ctrl-C in the terminal is meant for the spiders only
    )


def _reap(starting: subprocess.Popen[bytes], data_dir: Path, deadline: float) -> None:
    """What was started forks when it has reached the server, and ends: its child watches."""
    try:
        code = starting.wait(max(0.01, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        starting.kill()
        code = starting.wait()
    if code:
        _warn(data_dir, f"{sys.executable} ended with exit code {code}")


def _warn(data_dir: Path, reason: object) -> None:
    logger.warning(
        "The embedded server in %s has no watcher: %s. If its last spider is killed, it runs until "
        "another spider has used it.",
        data_dir,
        reason,
    )
