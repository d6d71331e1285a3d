"""The right of one run to store one post, or to fetch one page: settled once."""

from __future__ import annotations

from collections.abc import Callable

from scrapy_valkey_dedup.model import Key


class Claim:
    """The right to store one post. It settles once: by :meth:`confirm` or by :meth:`release`.

    What comes after the first is ignored, so a claim may be settled from several places. Neither
    method waits: Valkey is told with the next batch, at the latest when the spider closes.
    """

    __slots__ = ("_settle", "_watchers", "accepted", "in_doubt", "key", "number", "stored")

    def __init__(self, key: Key, settle: Callable[[Claim, bool], None] | None) -> None:
        self.key = key
        self.number = 0
        """The number of the last question for it: two claims of a run on one post differ in it."""
        self.in_doubt = False
        """Its question was sent more than once, and a copy may still be on its way."""
        self.accepted = False
        """Every pipeline has accepted the item. It will be stored later."""
        self.stored: bool | None = None
        """How it was settled: True if confirmed, False if released, None before that."""
        self._settle = settle
        self._watchers: list[Callable[[bool], None]] | None = None

    def confirm(self) -> None:
        """The post is stored: remember it."""
        self._end(stored=True)

    def release(self) -> None:
        """The post was not stored: the next run that meets it may store it."""
        self._end(stored=False)

    @property
    def is_open(self) -> bool:
        """Neither confirmed nor released yet."""
        return self._settle is not None

    def _end(self, *, stored: bool) -> None:
        settle, self._settle = self._settle, None
        if settle is not None:
            self.stored = stored
            settle(self, stored)
            self._tell(stored=stored)

    def void(self, *, stored: bool) -> None:
        """The claim was not granted: the post is stored already, or another run is storing it."""
        self._settle, self.stored = None, stored
        self._tell(stored=stored)

    def _tell(self, *, stored: bool) -> None:
        for watcher in self._watchers or ():
            watcher(stored)

    def watch(self, watcher: Callable[[bool], None]) -> None:
        """Calls ``watcher`` when the claim is settled, with whether the post is stored."""
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(watcher)

    def __repr__(self) -> str:
        return f"<Claim {self.key.hex()} {'open' if self.is_open else 'settled'}>"


NO_CLAIM = Claim(b"", None)
"""Stands for "nothing to settle": an item without identity, a marked duplicate."""
