"""The prices of ElastiCache Serverless, from ``prices.json`` and ``--price``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from scrapy_valkey_dedup.commands.shared.usage import CommandError, suggestion

_NAMES = (
    "usd_per_gb_hour",
    "usd_per_million_ecpu",
    "minimum_gb",
    "hours_per_month",
    "script_us_per_ecpu",
)
"""The prices that ``--price`` can change."""


@dataclass(frozen=True)
class Prices:
    """Prices, with their region, date and source."""

    service: str
    region: str
    date: str
    """When the prices were looked up."""
    source: str
    links: Sequence[str]
    check: str
    """The page that has the current prices."""
    usd_per_gb_hour: float
    usd_per_million_ecpu: float
    minimum_gb: float
    """GB that are charged even if less is stored."""
    hours_per_month: float
    script_us_per_ecpu: float
    """Microseconds of a script that are charged as one ECPU."""
    script_source: str
    changed: tuple[str, ...] = ()
    """The names of prices that ``--price`` has changed."""

    def storage(self, gb: float) -> float:
        """USD a month for GB that are stored all the time."""
        return max(gb, self.minimum_gb) * self.usd_per_gb_hour * self.hours_per_month

    def processing(self, ecpu: float) -> float:
        """USD for a number of ECPU."""
        return ecpu / 1e6 * self.usd_per_million_ecpu

    @property
    def days_per_month(self) -> float:
        """Days in a month, as AWS bills it."""
        return self.hours_per_month / 24


def known_prices() -> Prices:
    """The prices of ``prices.json``."""
    text = files(__package__).joinpath("prices.json").read_text("utf-8")
    return Prices(**json.loads(text))


def with_prices(prices: Prices, given: Iterable[str]) -> Prices:
    """Changes prices; each of ``given`` is ``NAME=NUMBER``.

    Raises:
        CommandError: there is no price of this name, or it is not a number.

    """
    changes: dict[str, Any] = {}
    for each in given:
        name, _, written = each.partition("=")
        if name not in _NAMES:
            raise CommandError(f"--price {each}: {suggestion(name, _NAMES)}")
        changes[name] = _price(each, name, written)
    return replace(prices, **changes, changed=tuple(changes))


def _price(each: str, name: str, written: str) -> float:
    try:
        price = float(written)
    except ValueError:
        price = -1
    least = "0" if name.startswith(("usd", "minimum")) else "more than 0"
    if not 0 <= price < float("inf") or (price == 0 and least != "0"):
        raise CommandError(f"--price {each}: write a number, {least} or more, as in {name}=0.1")
    return price
