"""Short texts for numbers, durations and trends, each of a known width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

UNKNOWN = "-"
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-:=+*#"
_UNITS = ("", "k", "M", "G", "T", "P")
_THOUSAND, _HUNDRED, _TEN = 1000, 100, 10
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def short(number: float | None) -> str:
    """A number in five characters or fewer: "0", "0.4", "12", "345", "6.7k", "890k", "1.2M"."""
    if number is None:
        return UNKNOWN
    if 0 < number < 0.05:  # noqa: PLR2004 (what would be shown as 0.0)
        return "<0.1"
    for unit in _UNITS:
        is_whole = unit == "" and number == int(number)
        text = f"{number:.{0 if number >= _TEN or is_whole else 1}f}"
        if float(text) < _THOUSAND or unit == _UNITS[-1]:
            return text.removesuffix(".0") + unit
        number /= _THOUSAND
    raise AssertionError  # the last unit takes everything


def percent(part: float, whole: float) -> str:
    """A share, such as "83%"; only all of it is "100%", and only nothing is "0%"."""
    if not whole:
        return UNKNOWN
    share = _HUNDRED * part / whole
    if 0 < share < 1:
        return "<1%"
    return f"{min(round(share), _HUNDRED - 1) if part < whole else _HUNDRED}%"


def duration(seconds: float | None) -> str:
    """In six characters or fewer: "42s", "12m", "3h05m", "12d03h"."""
    if seconds is None:
        return UNKNOWN
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    if whole < _HUNDRED * _DAY:
        return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"
    return f"{whole // _DAY}d"


def clock(at: float) -> str:
    """The time of day of a moment in seconds since 1970, in UTC as all verbs have it."""
    return f"{datetime.fromtimestamp(at, timezone.utc):%H:%M:%S}"


def sparkline(values: Sequence[float | None], *, plain: bool = False) -> str:
    """One character a value, by the largest; a space where it is not known.

    ``plain``: without characters that a terminal may not have.
    """
    bars = _PLAIN_BARS if plain else _BARS
    most = max((value for value in values if value), default=0.0)
    steps = len(bars) - 1  # the lowest bar is nothing at all, and the highest is the largest
    return "".join(
        " " if value is None else bars[math.ceil(value / most * steps) if value else 0]
        for value in values
    )
