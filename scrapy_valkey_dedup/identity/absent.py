"""Says which fields of its identity an item does not have, and which fields it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scrapy_valkey_dedup.identity.rules import FieldRule

_NAMES = 10
_LONGEST = 40
"""Characters of a name."""


def lacks_fields(item: Any, rules: Sequence[FieldRule]) -> bool:
    """Whether :func:`absent_fields` has something to say. It is cheap: items are many."""
    try:
        return isinstance(item, Mapping) and any(rule.path[0] not in item for rule in rules)
    except Exception:  # noqa: BLE001 (it is the user's)
        return False


def absent_fields(item: Any, rules: Sequence[FieldRule]) -> str | None:
    """Names only, never values. None if the item is no dict and no Item, or all are there.

    None too if it cannot be known: what a dict of the user's own raises must not lose the item.
    """
    try:
        return _absent(item, rules) if isinstance(item, Mapping) else None
    except Exception:  # noqa: BLE001 (it is the user's)
        return None


def _absent(item: Mapping[Any, Any], rules: Sequence[FieldRule]) -> str | None:
    absent = [rule.path[0] for rule in rules if rule.path[0] not in item]
    if not absent:
        return None
    noun = "field" if len(absent) == 1 else "fields"
    is_one = len(item) == 1
    has = f"its {'only field is' if is_one else 'fields are'} {_listed(item)}"
    if not item:
        has = "it has none at all"
    return f"it has no {noun} {_listed(absent)}; {has}"


def _listed(names: Iterable[Any]) -> str:
    listed = [f"{str(name)!r:.{_LONGEST}}" for name in names]
    more = f" and {len(listed) - _NAMES} more" if len(listed) > _NAMES else ""
    return ", ".join(listed[:_NAMES]) + more
