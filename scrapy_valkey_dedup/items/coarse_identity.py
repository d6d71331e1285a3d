"""Warns when hardly any of a run's first posts differ in identity: something is wrong then."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from scrapy_valkey_dedup.model import Key

logger = logging.getLogger(__name__)

_FIRST = 500
"""So many posts of a run are looked at."""
_FEWEST = 20
_NAMES = 5
_SHARE = 5
"""One different post in so many, or fewer, is told."""


class CoarseIdentityCheck:
    """Warns, once, of an identity that seems too coarse: it would drop posts as duplicates."""

    def __init__(self) -> None:
        self._seen = 0
        self._names: dict[Key, frozenset[str]] = {}
        """The fields of the first dict of each key; of other items none."""
        self._told = False

    def add(self, key: Key, item: Any) -> bool:
        """Notes a post and its key; returns whether the next one is to be noted, too."""
        self._seen += 1
        names = frozenset(map(str, item)) if type(item) is dict else frozenset()
        first = self._names.setdefault(key, names)
        if names != first and not self._told:
            self._compare(first, names)
        if self._seen < _FIRST:
            return True
        self.tell()
        return False

    def _compare(self, first: frozenset[str], names: frozenset[str]) -> None:
        """Two dicts count as one post. A field that may be missing makes no other kind of them."""
        if first - names and names - first:
            self._told = True
            logger.warning(
                "Two dicts with the same identity have different fields: %s in one, %s in the "
                "other. If they are posts of different kinds, one of them is lost: declare an item "
                "class for each kind, or add a field to VALKEY_DEDUP_FIELDS that differs between "
                "them.",
                _listed(first - names),
                _listed(names - first),
            )

    def tell(self) -> None:
        """Says what was found, if it is worth a line."""
        seen, different = self._seen, len(self._names)
        self._seen = 0
        if seen >= _FEWEST and different * _SHARE <= seen:
            logger.warning(
                "Of the first %d posts of this run only %d differ in their identity; the others "
                "count as duplicates of these. If they are different posts, VALKEY_DEDUP_FIELDS "
                "names too few fields, or the spider fills one item object again and again.",
                seen,
                different,
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:_NAMES])
