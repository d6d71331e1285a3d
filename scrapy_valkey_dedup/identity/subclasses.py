"""The built-in value that an instance of a subclass says it equals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from scrapy_valkey_dedup.identity.third_party import exact_time
from scrapy_valkey_dedup.model import UnkeyedError

# Methods are called by the name of the base: a subclass may have odd ones.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__index__),
    (float, float.__float__),
    (Decimal, Decimal),
    (UUID, lambda value: UUID(UUID.__str__(value))),
    (bytes, lambda value: bytes(memoryview(value))),
    (bytearray, lambda value: bytearray(memoryview(value))),
    (date, lambda value: datetime.combine(value, time.min).date()),
    (time, lambda value: datetime.combine(date.min, value).timetz()),
    (list, list.copy),
    (tuple, lambda value: tuple.__getitem__(value, slice(None))),
    (dict, dict.copy),
    (set, set),
    (frozenset, frozenset),
)


def value_of_base(value: Any) -> Any | None:
    """The built-in value (of a datetime: its exact time); None without a built-in base.

    Raises:
        UnkeyedError: the value itself says that it differs.

    """
    if isinstance(value, datetime):  # before its base
        exact = exact_time(value)
        if isinstance(exact, datetime):
            _refuse_more_than(datetime, lambda _: exact, value)
        return exact
    for base, built_in in _BASES:
        if isinstance(value, base):
            _refuse_more_than(base, built_in, value)
            return built_in(value)
    return None


def class_name(cls: type) -> str:
    """With its module, for messages."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _refuse_more_than(base: type, built_in: Callable[[Any], Any], value: Any) -> None:
    """Refuses what differs from the built-in value.

    Of two posts that differ only in what the subclass adds, one would be lost.
    """
    cls = type(value)
    if cls.__eq__ is base.__eq__ or value != value:  # noqa: PLR0124 (not a number: said elsewhere)
        return
    if not value == built_in(value):
        raise UnkeyedError(
            f"a {class_name(cls)} holds more than a {base.__name__}, and has no encoding"
        )
