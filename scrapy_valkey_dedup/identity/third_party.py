"""Values of other libraries, recognised without importing these libraries.

NumPy's scalars, URLs of pydantic, yarl and others, the ids of MongoDB: what users put into items.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from datetime import date, datetime, timezone
from math import isfinite
from numbers import Integral, Real
from typing import Any
from urllib.parse import urlsplit

from scrapy_valkey_dedup.model import UnkeyedError

_BITS = {2: 11, 4: 24, 8: 53}  # by the bytes of a float: integers of more bits share one
_OUTSIDE = "a datetime outside the years 1 to 9999 has no encoding"
_MICROSECONDS = len("2026-01-02T03:04:05.678901")
_FINER = re.compile(r"(\d+-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})(\d*?)0*")


def check_digits(value: float, size: int = 8) -> None:
    """Refuses a float so large that several integers, so several ids, become this float.

    Raises:
        UnkeyedError: ``value``, of ``size`` bytes, is such a float.

    """
    bits = _BITS.get(size, _BITS[8])
    if abs(value) >= 1 << bits:
        raise UnkeyedError(
            f"a float of 2**{bits} or more: an id has lost digits on its way; "
            "read it as a text or an int"
        )


@dataclass(frozen=True)
class PreciseTime:
    """A time that is finer than a ``datetime``, or outside its years: ISO 8601."""

    text: str


def builtin_value(value: Any) -> Any:
    """The built-in value that it stands for, or a :class:`PreciseTime`; None if none is known.

    Raises:
        UnkeyedError: it is known, and identifies nothing.

    """
    if isinstance(value, Integral):
        return _integer(value)
    if isinstance(value, Real):
        return _real(value)
    cls = type(value)
    if cls.__module__ == "numpy" and cls.__name__ in ("bool", "bool_"):
        return bool(value)
    if cls.__module__ == "numpy" and cls.__name__ == "datetime64":
        return _time(value)
    if _is_url(value) or _is_object_id(value):
        return str(value)
    return None


def exact_time(value: Any) -> datetime | PreciseTime:
    """What an instance of a subclass of ``datetime`` says, to its last digit.

    pandas' and Google's have nanoseconds, and pandas' more years.

    Raises:
        UnkeyedError: it is no time, or outside the years of a ``datetime``.

    """
    if value != value:  # noqa: PLR0124 (pandas' NaT)
        raise UnkeyedError("a time that is not one (NaT) identifies nothing")
    if value.year != date.__dict__["year"].__get__(value):
        raise UnkeyedError(_OUTSIDE)
    exact = datetime.combine(datetime.date(value), datetime.timetz(value))
    nanoseconds = getattr(value, "nanosecond", 0) % 1000  # Google's are those of the whole second
    if not nanoseconds:
        return exact
    text = in_utc(exact).isoformat(timespec="microseconds")
    return PreciseTime(f"{text[:_MICROSECONDS]}{nanoseconds:03}{text[_MICROSECONDS:]}")


def in_utc(value: datetime) -> datetime:
    """An aware ``datetime`` in UTC; a naive one as it is.

    Raises:
        UnkeyedError: UTC cannot write it.

    """
    if value.utcoffset() is None:
        return value
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise UnkeyedError(_OUTSIDE) from None


def _integer(value: Any) -> int | None:
    try:
        return operator.index(value)
    except TypeError:  # numpy.timedelta64 calls itself an integer, and has a unit
        return None


def _real(value: Any) -> float | None:
    """None if it is finer than a float, such as a Fraction of 1/3."""
    found = float(value)
    if isfinite(found):
        check_digits(found, getattr(value, "itemsize", 8))
    return found if found == value or found != found else None  # noqa: PLR0124 (not a number)


def _time(value: Any) -> date | PreciseTime | None:
    found = value.item()
    if isinstance(found, date):  # a datetime is one
        return found
    text = str(value)
    finer = _FINER.fullmatch(text)
    return None if found is None else PreciseTime(finer[1] + finer[2] if finer else text)


def _is_url(value: Any) -> bool:
    """Whether it has the parts of a URL, and is written as one."""
    scheme = getattr(value, "scheme", None)
    if not isinstance(scheme, str) or not hasattr(value, "host") or not hasattr(value, "path"):
        return False
    try:
        return urlsplit(str(value)).scheme == scheme.lower()
    except ValueError:
        return False


def _is_object_id(value: Any) -> bool:
    """Whether it is 12 bytes that are written as hex, as ``bson.ObjectId``."""
    content = getattr(value, "binary", None)
    return isinstance(content, bytes) and len(content) == 12 and str(value) == content.hex()  # noqa: PLR2004
