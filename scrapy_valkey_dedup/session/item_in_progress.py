"""An item on its way through the pipelines: what the ledger says of it, and how it ends."""

from __future__ import annotations

from enum import Enum

from scrapy_valkey_dedup.model import Key, Verdict
from scrapy_valkey_dedup.session.claim import NO_CLAIM


class ItemOutcome(Enum):
    """How an item left the pipelines: by Scrapy's signals."""

    SCRAPED = "item_scraped"
    DROPPED = "item_dropped"
    FAILED = "item_error"


class ItemInProgress:
    """One item between its first pipeline and its end: the ledger's verdict, and the claim."""

    __slots__ = (
        "_among",
        "claim",
        "duplicate_of",
        "ended",
        "key",
        "outer",
        "remembered",
        "verdict",
    )

    def __init__(self, outer: ItemInProgress | None = None) -> None:
        """``outer``: the item whose pipeline sends this one and waits for it."""
        self._among: set[ItemInProgress] | None = None
        self.claim = NO_CLAIM
        self.ended = False
        self.key: Key | None = None
        self.outer = outer
        self.remembered = True
        """Off: nothing stores the crawl's posts, so none is remembered."""
        self.duplicate_of = NO_CLAIM
        """The claim, not settled yet, on an earlier item of this run of which it is a duplicate."""
        self.verdict: Verdict | None = None
        """None: the ledger was not asked, the item has no identity or did not come that far."""

    def keep_in(self, under_way: set[ItemInProgress]) -> None:
        """Has itself kept in a set until it ends."""
        self._among = under_way
        under_way.add(self)

    def end(self) -> None:
        """The item has left the pipelines."""
        self.ended = True
        if self._among is not None:
            self._among.discard(self)

    def forget_ended(self) -> None:
        """Lets go of the items around it that have ended: a chain of them would only grow."""
        while self.outer is not None and self.outer.ended:
            self.outer = self.outer.outer
