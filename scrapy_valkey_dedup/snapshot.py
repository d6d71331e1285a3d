"""An item as it was when it came, for spiders that fill one object again and again."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import scrapy
from itemadapter import ItemAdapter


class Snapshot:
    """The values of an item's fields at one moment.

    While the ledger is asked for a post, the callback that has sent it goes on: it may fill the
    same object with the next post. What lies inside a value (a list, a dict) is not looked at.
    """

    __slots__ = ("_values",)

    def __init__(self, item: Any) -> None:
        self._values = _values(item)

    def is_of(self, item: Any) -> bool:
        """Whether the item still has these values."""
        return _same(self._values, _values(item))

    @property
    def has_containers(self) -> bool:
        """Whether a value may have changed inside."""
        return any(isinstance(value, _CONTAINERS) for value in self._values.values())

    def of(self, item: Any) -> Any:
        """A copy of the item with the values that it had."""
        made = item.copy() if isinstance(item, scrapy.Item) else copy.copy(item)
        adapter = ItemAdapter(made)
        for name in [name for name in adapter if self._values.get(name, _UNSET) is _UNSET]:
            del adapter[name]
        for name, value in self._values.items():
            if value is not _UNSET:
                adapter[name] = value
        return made


_UNSET = object()
_CONTAINERS = (list, dict, set, bytearray, scrapy.Item)


def _values(item: Any) -> dict[str, Any]:
    if isinstance(item, dict):
        return dict(item)
    if isinstance(item, scrapy.Item):
        return dict(item._values)  # noqa: SLF001 (through its methods it is ten times as slow)
    return {name: getattr(item, name, _UNSET) for name in _fields(type(item))}  # type: ignore[arg-type] # (as in identity)


@lru_cache(maxsize=1000)
def _fields(cls: type) -> tuple[str, ...]:
    """The fields of a dataclass, an attrs class or a pydantic model."""
    return tuple(ItemAdapter.get_field_names_from_class(cls) or ())


def _same(ones: dict[str, Any], others: dict[str, Any]) -> bool:
    """Whether they hold the same objects: what ``==`` means is the business of their classes."""
    if len(ones) != len(others):
        return False
    return all(others.get(name, _same) is value for name, value in ones.items())
