"""Marks duplicates instead of dropping them: ``VALKEY_DEDUP_ON_DUPLICATE = "mark"``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from itemadapter import ItemAdapter

logger = logging.getLogger(__name__)

MARK_REFUSED = "dedup_mark_field"
"""The reason with which a spider is closed whose items cannot be marked."""


class Marker:
    """Sets a field of duplicates. A class of items that does not have it closes the spider."""

    def __init__(self, field: str, close_spider: Callable[[str], None]) -> None:
        """``field`` is the setting ``VALKEY_DEDUP_MARK_FIELD``; ``close_spider`` gets a reason."""
        self._field = field
        self._close_spider = close_spider
        self._checked: set[type] = set()
        self._has_refused = False

    def check(self, item: Any) -> None:
        """Looks at the first item of each class, and not at its first duplicate, hours later."""
        kind = type(item)
        if kind in self._checked:
            return
        if not isinstance(item, dict) and self._field not in ItemAdapter(item).field_names():
            self._refuse(kind)
        self._checked.add(kind)

    def mark(self, item: Any) -> bool:
        """Whether the item could be marked."""
        try:
            ItemAdapter(item)[self._field] = True
        except (AttributeError, KeyError, TypeError, ValueError):
            self._refuse(type(item))
            return False
        return True

    def _refuse(self, kind: type) -> None:
        if self._has_refused:
            return
        self._has_refused = True
        logger.error(
            "VALKEY_DEDUP_MARK_FIELD = %r: %s has no such field that can be set; add it, or name a "
            "field that it has. The spider is closed; new posts that still come are stored, "
            "duplicates are dropped.",
            self._field,
            kind.__qualname__,
        )
        self._close_spider(MARK_REFUSED)
