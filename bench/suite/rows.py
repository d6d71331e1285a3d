"""The rows of the results, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bench.suite.measures import cores, costs, crawls, fleets, growth, ledger, lost, pages, profile
from bench.suite.peers import Usable
from bench.suite.results import Row
from bench.suite.sizes import Sizes

PEERS = "peers"
Measure = Callable[[Row, Sizes, list[Usable]], Iterator[Any]]
ROWS: dict[str, Measure] = {
    "lost": lost.measure,
    "crawls": crawls.measure,
    "html": crawls.measure_html,
    "far": crawls.measure_far,
    "pages": pages.measure,
    "fleets": fleets.measure,
    "ledger": ledger.measure,
    "cores": cores.measure,
    "growth": growth.measure,
    "profile": profile.measure,
    "costs": costs.measure,
}
ON_DEMAND: dict[str, Measure] = {ledger.LARGE: ledger.measure_large}
"""What is measured only when asked for: it takes long. What was measured before stays."""
