"""Posts without an identity: what becomes of them, and a warning if a run has no others."""

from __future__ import annotations

import logging
from typing import Any

from scrapy.exceptions import DropItem

from scrapy_valkey_dedup.model import UnkeyedError
from scrapy_valkey_dedup.stats import ITEMS, Stats, quantity

logger = logging.getLogger(__name__)

_OTHERS = (ITEMS.new, ITEMS.duplicate, ITEMS.in_flight, ITEMS.unchecked)
_FATES = {
    "pass": "each was stored unchecked, and will be stored again in every run",
    "drop": "each was dropped",
    "error": "each ended as item_error",
}
_CURES = {
    False: "Let VALKEY_DEDUP_FIELDS name fields that the items have",
    True: "Correct the function that VALKEY_DEDUP_IDENTITY names",
}


class UnkeyedPosts:
    """``VALKEY_DEDUP_ON_UNKEYED``."""

    def __init__(self, policy: str, stats: Stats, *, by_function: bool) -> None:
        """``policy`` is the setting; ``by_function``: a function of the user's identifies posts."""
        self._policy = policy
        self._cure = _CURES[by_function]
        self._stats = stats

    def handle(self, item: Any) -> Any:
        """Counts a post without an identity, and returns it if it passes."""
        self._stats.count(ITEMS.unkeyed)
        if self._policy == "drop":
            raise DropItem("the post has no identity (VALKEY_DEDUP_ON_UNKEYED = 'drop')")
        if self._policy == "error":
            raise UnkeyedError("the post has no identity (VALKEY_DEDUP_ON_UNKEYED = 'error')")
        return item

    def warn_if_all(self) -> None:
        """At the end of a run that has deduplicated nothing."""
        unkeyed = self._stats.number(ITEMS.unkeyed)
        if unkeyed and not any(map(self._stats.number, _OTHERS)):
            logger.warning(
                "Nothing was deduplicated, as no item of this run has an identity (%s): %s. The "
                "first warning above says why. %s; `scrapy dedup check --spider NAME ITEM` tries "
                "an item.",
                quantity(unkeyed, "item"),
                _FATES[self._policy],
                self._cure,
            )
