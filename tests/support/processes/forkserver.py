"""How tests start processes: forked from one that has imported what they need."""

from __future__ import annotations

import os
from multiprocessing import context, popen_forkserver
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
