"""An item as it was when it came, for spiders that fill one object again and again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any

import scrapy
from itemadapter import ItemAdapter

_UNSET = object()
_CONTAINERS = (list, dict, set, bytearray, scrapy.Item)


class Snapshot:
    """The values of an item's fields at one moment.

    While the ledger is asked for a post, the callback that has sent it goes on: it may fill the
    same object with the next post. What lies inside a value (a list, a dict) is not looked at.
    """

    __slots__ = ("_values",)

    def __init__(self, item: Any) -> None:
        self._values = _reader(type(item))(item)  # type: ignore[arg-type] # (as in identity)

    def is_of(self, item: Any) -> bool:
        """Whether the item still has these values."""
        now = _reader(type(item))(item)  # type: ignore[arg-type] # (as in identity)
        try:
            return bool(self._values == now)  # the same objects are equal without being asked
        except Exception:  # noqa: BLE001 (their classes define "==")
            return False

    @property
    def has_containers(self) -> bool:
        """Whether a value may have changed inside."""
        values = self._values
        listed = values.values() if isinstance(values, dict) else values
        return any(isinstance(value, _CONTAINERS) for value in listed)

    def of(self, item: Any) -> Any:
        """A copy of the item with the values that it had."""
        made = item.copy() if isinstance(item, scrapy.Item) else copy.copy(item)
        adapter, values = ItemAdapter(made), self._values
        if not isinstance(values, dict):
            names = _fields(type(item))  # type: ignore[arg-type] # (as in identity)
            values = dict(zip(names, values, strict=True))
        for name in [name for name in adapter if values.get(name, _UNSET) is _UNSET]:
            del adapter[name]
        for name, value in values.items():
            if value is not _UNSET:
                adapter[name] = value
        return made


@lru_cache(maxsize=1000)
def _reader(cls: type) -> Callable[[Any], Any]:
    """How the values of a class's items are read: a dict for dicts and Items, else a tuple."""
    if issubclass(cls, dict):
        return dict
    if issubclass(cls, scrapy.Item):
        return _of_item
    names = _fields(cls)  # type: ignore[arg-type] # (as in identity)
    if len(names) < 2:  # noqa: PLR2004 (of one name attrgetter makes no tuple)
        return lambda item: tuple(getattr(item, name, _UNSET) for name in names)
    quick = attrgetter(*names)

    def read(item: Any) -> tuple[Any, ...]:
        try:
            found: tuple[Any, ...] = quick(item)
        except AttributeError:  # a field that was never set
            found = tuple(getattr(item, name, _UNSET) for name in names)
        return found

    return read


def _of_item(item: Any) -> dict[str, Any]:
    return dict(item._values)  # noqa: SLF001 (through its methods it is ten times as slow)


@lru_cache(maxsize=1000)
def _fields(cls: type) -> tuple[str, ...]:
    """The fields of a dataclass, an attrs class or a pydantic model."""
    return tuple(ItemAdapter.get_field_names_from_class(cls) or ())
