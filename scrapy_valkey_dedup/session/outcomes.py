"""What becomes of an item on its way through the pipelines."""

from __future__ import annotations

from enum import Enum

from scrapy_valkey_dedup.model import Key, Verdict
from scrapy_valkey_dedup.session.claim import NO_CLAIM


class Ending(Enum):
    """How an item's way through the pipelines ended: by Scrapy's signals."""

    SCRAPED = "item_scraped"
    DROPPED = "item_dropped"
    FAILED = "item_error"


class Passage:
    """An item's way through the pipelines, the ledger's verdict, and the claim on it."""

    __slots__ = ("_among", "claim", "ended", "key", "outer", "remembered", "twin", "verdict")

    def __init__(self, outer: Passage | None = None) -> None:
        """``outer``: the way of an item whose pipeline sends this one and waits for it."""
        self._among: set[Passage] | None = None
        self.claim = NO_CLAIM
        self.ended = False
        self.key: Key | None = None
        self.outer = outer
        self.remembered = True
        """Off: nothing stores the crawl's posts, so none is remembered."""
        self.twin = NO_CLAIM
        """The claim on the twin, not settled yet, of which this item is a duplicate."""
        self.verdict: Verdict | None = None
        """None: the ledger was not asked, the item has no identity or did not come that far."""

    def keep_in(self, under_way: set[Passage]) -> None:
        """Has itself kept in a set until it ends."""
        self._among = under_way
        under_way.add(self)

    def end(self) -> None:
        """The item's way has ended."""
        self.ended = True
        if self._among is not None:
            self._among.discard(self)

    def forget_ended(self) -> None:
        """Lets go of the passages around it that have ended: a chain of them would only grow."""
        while self.outer is not None and self.outer.ended:
            self.outer = self.outer.outer
