"""How tests start processes: forked from one that has imported what they need."""

from __future__ import annotations

import multiprocessing

# A crawl starts in less than a tenth of a second, and shares nothing with its test. Of a program
# there is one forkserver: who named another list of imports would take this one away.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.support.processes.preloaded"])
