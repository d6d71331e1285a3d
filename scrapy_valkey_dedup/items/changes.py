"""Protects an item against a spider that changes it while the ledger is asked for it."""

from __future__ import annotations

import logging
from typing import Any

from scrapy_valkey_dedup.identity.identifier import Identifier
from scrapy_valkey_dedup.items.snapshot import Snapshot
from scrapy_valkey_dedup.model import DedupError, Key

logger = logging.getLogger(__name__)


class ChangeGuard:
    """Compares an item with its snapshot; says once that one was changed."""

    def __init__(self, identifier: Identifier) -> None:
        self._identifier = identifier
        self._has_warned = False

    def unchanged(self, item: Any, came: Snapshot, key: Key, spider: Any) -> Any:
        """The item as it ``came``, or a copy of that.

        Raises:
            DedupError: a list or a dict inside it was changed, so that it is another post now.

        """
        if not came.is_of(item):
            self._warn(type(item))
            item = came.of(item)
        if self._identifier.looks_inside(type(item)) and came.has_containers:
            self._check_inside(item, key, spider)
        return item

    def _warn(self, kind: type) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "An item of class %s was changed after the spider had yielded it, while the "
                "ledger was asked for it: a copy of what was yielded is stored. Make a new item "
                "for each post. Further ones are not reported.",
                kind.__qualname__,
            )

    def _check_inside(self, item: Any, key: Key, spider: Any) -> None:
        """Its values before the change are lost, so it cannot be stored as it was."""
        if self._identifier.key(item, spider) != key:
            raise DedupError(
                f"an item of class {type(item).__qualname__} has become another post while the "
                "ledger was asked for it: a list or a dict inside it was changed after the spider "
                "had yielded it; make new ones for each post"
            )
