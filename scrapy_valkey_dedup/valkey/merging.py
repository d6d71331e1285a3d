"""Sends in one round trip what several callers ask at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from scrapy_valkey_dedup.valkey.connections import Outcome
from scrapy_valkey_dedup.valkey.resp import Question

_TURNS = 10
"""Turns of the event loop in which others may join: each task within a task takes one."""

_Outcomes: TypeAlias = Sequence[Outcome]
_Exchange: TypeAlias = Callable[[Sequence[Question]], Awaitable[_Outcomes]]


class MergedExchanges:
    """Makes one exchange of those that begin within a few turns of the event loop."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._joinable: _Merged | None = None

    async def __call__(self, questions: Sequence[Question]) -> _Outcomes:
        """The outcome of each question."""
        if self._joinable is None:
            self._joinable = _Merged(self._exchange, self._closed)
        return await self._joinable.outcomes_of(questions)

    def _closed(self) -> None:
        self._joinable = None


class _Merged:
    """One exchange for many callers."""

    def __init__(self, exchange: _Exchange, closed: Callable[[], None]) -> None:
        """``closed`` is called when no caller can join any more."""
        self._exchange = exchange
        self._closed = closed
        self._callers: list[tuple[Sequence[Question], asyncio.Future[_Outcomes]]] = []
        self._sending = asyncio.get_running_loop().create_task(self._send())

    async def outcomes_of(self, questions: Sequence[Question]) -> _Outcomes:
        """Joins; returns the outcomes of the caller's own questions."""
        own: asyncio.Future[_Outcomes] = asyncio.get_running_loop().create_future()
        self._callers.append((questions, own))
        try:
            return await own
        finally:
            if all(outcomes.done() for _, outcomes in self._callers):
                self._closed()  # a caller that joins from now on would never be answered
                self._sending.cancel()  # nobody waits any more

    async def _send(self) -> None:
        try:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        finally:
            self._closed()
        try:
            asked = [question for questions, _ in self._callers for question in questions]
            found = iter(await self._exchange(asked))
            for questions, outcomes in self._callers:
                own = [next(found) for _ in questions]
                if not outcomes.done():
                    outcomes.set_result(own)
        except Exception as error:  # noqa: BLE001 (the callers get it)
            for _, outcomes in self._callers:
                if not outcomes.done():
                    outcomes.set_exception(error)
