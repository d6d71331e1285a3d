"""Leaves what a process has loaded out of Python's collections of garbage while its spiders run."""

from __future__ import annotations

import gc


class LoadedObjects:
    """All objects of the process at the moment when its first spider has started.

    A collection of the oldest generation looks at every object that it is not told to leave out. A
    spider has a hundred thousand before its first item, a quarter of them for this package and what
    it imports, and they live as long as the process: each time the event loop stands still for a
    twentieth of a second, to find nothing.
    """

    def __init__(self) -> None:
        self._runs: set[str] = set()
        self._left_out = self._had_runs = False

    def leave_out(self, run: str) -> None:
        """A run has started: the loaded objects are left out until no run is under way.

        Not if the user has called ``gc.freeze()``, who takes care of it then.
        """
        self._runs.add(run)
        if len(self._runs) > 1 or gc.get_freeze_count():
            return
        if self._had_runs:
            gc.collect()  # what an earlier crawl of this process has left must not stay
        gc.freeze()
        self._left_out = self._had_runs = True

    def take_back(self, run: str) -> None:
        """A run has ended."""
        self._runs.discard(run)
        if not self._runs and self._left_out:
            self._left_out = False
            gc.unfreeze()


LOADED = LoadedObjects()
