"""How many of a run's first posts are different ones: if hardly any is, something is wrong."""

from __future__ import annotations

import logging

from scrapy_valkey_dedup.model import Key

logger = logging.getLogger(__name__)

_FIRST = 500
"""So many posts of a run are looked at."""
_FEWEST = 20
_SHARE = 5
"""One different post in so many, or fewer, is told."""


class Variety:
    """Tells, once, of an identity that seems too coarse: it would drop posts as duplicates."""

    def __init__(self) -> None:
        self._seen = 0
        self._different: set[Key] = set()

    def add(self, key: Key) -> bool:
        """Notes the key of a post; returns whether the next one is to be noted, too."""
        self._seen += 1
        self._different.add(key)
        if self._seen < _FIRST:
            return True
        self.tell()
        return False

    def tell(self) -> None:
        """Says what was found, if it is worth a line."""
        seen, different = self._seen, len(self._different)
        self._seen = 0
        if seen >= _FEWEST and different * _SHARE <= seen:
            logger.warning(
                "Of the first %d posts of this run only %d differ in their identity; the others "
                "count as duplicates of these. If they are different posts, VALKEY_DEDUP_FIELDS "
                "names too little of them, or the spider fills one item object again and again.",
                seen,
                different,
            )
