"""Looks posts up that nothing will store: they are not claimed."""

from __future__ import annotations

from functools import cached_property

from scrapy_valkey_dedup.model import DedupError, Key, Verdict
from scrapy_valkey_dedup.session.keyset import KNOWN_TO_NONE_ELSE, RecentKeys
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.questions import Questions
from scrapy_valkey_dedup.stats import StatNames, Stats


class Lookups:
    """What the ledger remembers, and what this run itself has looked up before."""

    def __init__(
        self, questions: Questions, outage: Outage, stats: Stats, names: StatNames
    ) -> None:
        self._questions = questions
        self._outage = outage
        self._stats = stats
        self._names = names

    async def look(self, key: Key) -> Verdict:
        """``SEEN`` if the post is remembered or was looked up before, else ``NEW``."""
        if self._is_repeated(key):
            return Verdict.SEEN
        while True:
            try:
                seen = await self._questions.is_remembered(key)
            except DedupError:
                if await self._outage.over():
                    continue
                self._stats.count(self._names.unchecked)
                return Verdict.NEW
            self._stats.count(self._names.duplicate if seen else self._names.new)
            return Verdict.SEEN if seen else Verdict.NEW

    def look_at_own(self, key: Key) -> Verdict:
        """``SEEN`` if the post was looked up before, whatever the ledger remembers."""
        if self._is_repeated(key):
            return Verdict.SEEN
        self._stats.count(self._names.new)
        return Verdict.NEW

    @cached_property
    def _known(self) -> RecentKeys:
        """What was looked up; few runs need it."""
        return RecentKeys(KNOWN_TO_NONE_ELSE)

    def _is_repeated(self, key: Key) -> bool:
        if key in self._known:
            self._stats.count(self._names.duplicate)
            return True
        self._known.add(key)
        return False
