"""What a month costs on ElastiCache Serverless, by new posts a month: the model of ``estimate``.

Nothing is measured here: the model's figures were, by ``bench.ecpu`` and ``bench.memory``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.suite.results import Row
from bench.suite.sizes import Sizes
from bench.suite.ways import OURS
from scrapy_valkey_dedup.commands.shared.estimates.costs import KEYS, LEDGER, SET, estimate
from scrapy_valkey_dedup.commands.shared.estimates.prices import known_prices
from scrapy_valkey_dedup.commands.shared.estimates.workload import Workload

USD, ECPU, GB = "USD a month", "million ECPU a month", "GB"
CASE = "each post met twice, kept for 90 days"
POSTS = (10**6, 10**7, 10**8, 10**9)
NAMES = {LEDGER: OURS.name, KEYS: KEYS, SET: SET}
_TOGETHER = 40.0


def measure(row: Row, _: Sizes, __: Any) -> Iterator[str]:
    """The table, a year after the start."""
    prices = known_prices()
    for posts in POSTS:
        work = Workload(posts / prices.days_per_month, sightings=2.0, together=_TOGETHER)
        for name, cost in estimate(work, prices).ways.items():
            row.add(USD, CASE, NAMES[name], posts, cost.usd)
            row.add(ECPU, CASE, NAMES[name], posts, cost.ecpu / 1e6)
            row.add(GB, CASE, NAMES[name], posts, cost.gb)
    yield f"prices of {prices.region}, {prices.date}"
    row.note(
        f"{prices.usd_per_gb_hour:g} USD a GB and hour, {prices.usd_per_million_ecpu:g} USD a "
        f"million ECPU, at least {prices.minimum_gb:g} GB ({prices.region}, {prices.date})"
    )
