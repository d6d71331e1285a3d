"""Records what real runs say to Valkey and are told: the events that the model is to accept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from scrapy_valkey_dedup.model import DedupError, Key, Verdict
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.session import Session
from tests.protocol.acceptance import TOLD_HELD, Event

_RUNS = "AB"
_GAVE_UP = "no reply: gives it up"


class Tape:
    """Of the runs of one test; ``items`` as in a :class:`~tests.protocol.state.Scope`."""

    def __init__(self, items: Sequence[tuple[int, int]], keys: Sequence[Key]) -> None:
        self.events: list[Event] = []
        self._items = items
        self._keys = keys
        self._begun: set[int] = set()
        self._at: dict[tuple[int, Key], int] = {}
        """The item that is at a post."""
        self._told: dict[int, int] = {}
        """Where its last reply stands."""

    def watch(self, session: Session, run: int) -> None:  # noqa: C901 (it stands in for three)
        """Listens between a run and its connection."""
        ledger = session._posts._ledger
        claim_many, settle_many, leave = ledger.claim_many, ledger.settle_many, ledger.runs.sign_off

        async def claim(keys: Sequence[Key], *more: Any, **others: Any) -> Any:
            for key in keys:
                self._note(self._asking(run, key), "asks")
            try:
                answers = await claim_many(keys, *more, **others)
            except DedupError:
                for key in keys:
                    self._note(self._at[run, key], _GAVE_UP)
                raise
            for key, answer in zip(keys, answers, strict=True):
                item, what = self._at[run, key], "is told NEW"
                if answer.taken_over:
                    what = "is told TAKEN_OVER"
                elif answer.verdict is Verdict.HELD:
                    what = TOLD_HELD
                elif answer.verdict is Verdict.SEEN:
                    what = "is told SEEN and dropped"
                self._told[item] = len(self.events)
                self._note(item, what)
            return answers

        async def settle(stored: Sequence[Key], given: Sequence[Any]) -> None:
            stored, given = list(stored), list(given)
            keys = [*stored, *(each.key for each in given)]
            try:
                await settle_many(stored, given)
            except DedupError:
                self.events += [Event(_RUNS[run], _GAVE_UP) for _ in keys]
                raise
            self.events += [Event(_RUNS[run], "is acknowledged") for _ in keys]

        async def end(*last: Any) -> None:
            await leave(*last)
            self.events.append(Event(_RUNS[run], "ends"))

        ledger.claim_many, ledger.settle_many = claim, settle  # type: ignore[method-assign]
        ledger.runs.sign_off = end  # type: ignore[method-assign]

    def _note(self, item: int, what: str) -> None:
        run, _ = self._items[item]
        self.events.append(Event(f"{_RUNS[run]}{item}", what))

    def _begins(self, run: int, key: Key) -> int:
        same = (run, self._keys.index(key))
        item = next(
            number
            for number, each in enumerate(self._items)
            if each == same and number not in self._begun
        )
        self._begun.add(item)
        return item

    def _asking(self, run: int, key: Key) -> int:
        if (run, key) not in self._at:
            self._at[run, key] = self._begins(run, key)
        return self._at[run, key]

    async def item(self, session: Session, run: int, post: int, ending: str = "stored") -> str:
        """An item on its way: asks, and is stored or fails. Returns what became of it."""
        key = self._keys[post]
        outcome = await session.claim(key)
        if outcome is Verdict.NEW:
            return "recorded"
        if isinstance(outcome, Claim):
            item = self._asking(run, key)
            await asyncio.sleep(0)
            if ending == "killed":
                return "killed"
            del self._at[run, key]
            self._note(item, "is stored" if ending == "stored" else "fails")
            if ending == "stored":
                outcome.confirm()
            else:
                outcome.release()
            return ending
        asked = self._at.pop((run, key), None)
        if asked is None or asked not in self._told:
            self._note(self._begins(run, key), "learns from a twin that it is stored")
        elif outcome is Verdict.HELD:
            dropped = Event(self.events[self._told[asked]].who, "is told HELD and dropped")
            self.events[self._told[asked]] = dropped
        return outcome.value

    def killed(self, run: int) -> None:
        """It has been, as others see it."""
        self.events.append(Event(_RUNS[run], "is killed"))

    def cancelled(self, run: int, post: int) -> None:
        """An item was cancelled while its question was under way."""
        self._note(self._at.pop((run, self._keys[post])), "an item is cancelled at its question")
