"""How tests start processes: forked from one that has imported what they need."""

from __future__ import annotations

import os
from multiprocessing import context, forkserver, popen_forkserver, resource_tracker
from multiprocessing.connection import wait
from threading import Lock
from typing import Any


class _Popen(popen_forkserver.Popen):
    """Of which threads may ask at the same time whether it has ended.

    The answer can be read only once, and each process that starts asks this of all others: with two
    threads, one would get none, and take the exit code for 255.
    """

    _reading = Lock()

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code; None while it runs."""
        if flag != os.WNOHANG:
            wait([self.sentinel])
        with self._reading:
            return super().poll()


class _Process(context.ForkServerProcess):
    @staticmethod
    def _Popen(process: Any) -> _Popen:  # noqa: N802 (multiprocessing's name)
        return _Popen(process)


class _Context(context.ForkServerContext):
    Process = _Process


# A crawl starts in less than a tenth of a second, and shares nothing with its test. Of a program
# there is one forkserver: who named another list of imports would take this one away.
processes = _Context()
processes.set_forkserver_preload(
    ["tests.support.coverage.plugin", "tests.support.processes.preloaded"]  # measures first
)

_SHARED = "TESTS_FORKSERVER"
_server = forkserver._forkserver


def share(*, with_children: bool) -> None:
    """Lets programs that this one starts fork from its forkserver, or each from one of its own.

    Its imports take two seconds, and all workers of a session would need one at the same time. From
    Python 3.14 on a forkserver is a secret of its process.
    """
    os.environ.pop(_SHARED, None)
    if with_children and not hasattr(_server, "_forkserver_authkey"):
        _server.ensure_running()
        os.environ[_SHARED] = str(_server._forkserver_address)


def is_shared() -> bool:
    """Whether the process that has started this one shares its forkserver."""
    return _SHARED in os.environ


def take_shared() -> None:
    """Forks from that one, if it is shared."""
    if is_shared():
        _server._forkserver_address = os.environ[_SHARED]
        _server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)  # its owner ends it
        _server.ensure_running = resource_tracker.ensure_running
