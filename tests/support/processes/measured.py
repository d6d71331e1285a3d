"""With ``make coverage``: what a forked process runs is kept, too.

It goes on measuring as the process does that it was forked from: to begin anew in each, as coverage
does by itself, takes longer.
"""

from __future__ import annotations

import sys
from multiprocessing import util
from typing import Any


def keep_measuring() -> None:
    """Does nothing where nothing is measured."""
    coverage = sys.modules.get("coverage")
    measured = coverage and coverage.Coverage.current()
    if measured is not None:
        util.register_after_fork(measured, _begin)


def _begin(measured: Any) -> None:
    # What was run before the fork is told by the process that is forked from.
    measured._collector.data.clear()

    def end() -> None:
        measured.stop()
        # save() would look, each time, for what was never imported: that takes longer than a crawl.
        measured._collector.flush_data()

    util.Finalize(None, end, exitpriority=-1000)
