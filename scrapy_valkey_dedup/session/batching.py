"""Gathers single questions into one call, whatever it asks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


class Batcher(Generic[_Question, _Answer]):
    """One call takes all questions that wait at that moment; there is no timer.

    The first question of an idle batcher goes with those asked in the same turn of the event loop.
    While a call is under way the next questions gather for the one after it. An error of the call
    reaches every question of that call. A question cancelled before the call starts is left out; of
    one cancelled later the answer is dropped. The others get theirs.
    """

    def __init__(
        self,
        call: Callable[[Sequence[_Question]], Awaitable[Sequence[_Answer]]],
        limit: int = 2000,
    ) -> None:
        """``call`` returns one answer for each question, in order; it gets at most ``limit``."""
        self._call = call
        self._limit = limit
        self._queue: deque[tuple[_Question, asyncio.Future[_Answer] | None]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._calls = False
        self._after_call: list[Callable[[], None]] = []

    def ask(self, question: _Question) -> asyncio.Future[_Answer]:
        """Returns a future of the answer, or of what the call raises."""
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._put(question, answer)
        return answer

    def tell(self, question: _Question) -> None:
        """Asks without waiting for an answer; ``call`` must deal with its errors itself."""
        self._put(question, None)

    def after_call(self, action: Callable[[], None]) -> None:
        """Runs ``action`` when the call under way has ended; at once if there is none."""
        if self._calls:
            self._after_call.append(action)
        else:
            action()

    async def given_up(self, patience: float) -> None:
        """Returns when nothing waits any more for the end of a call, or after ``patience``."""
        if self._after_call:
            ended = asyncio.Event()
            self.after_call(ended.set)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ended.wait(), patience)

    async def drain(self) -> None:
        """Returns when nothing waits and no call is under way."""
        while self._worker is not None and not self._worker.done():
            await asyncio.wait([self._worker])

    async def close(self) -> None:
        """Gives up what waits and what is under way: its futures are cancelled."""
        for _, answer in self._queue:
            if answer is not None:
                answer.cancel()
        self._queue.clear()
        if self._worker is not None:
            self._worker.cancel()
            await self.drain()

    def _put(self, question: _Question, answer: asyncio.Future[_Answer] | None) -> None:
        self._queue.append((question, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def _next_batch(self) -> list[tuple[_Question, asyncio.Future[_Answer] | None]]:
        batch: list[tuple[_Question, asyncio.Future[_Answer] | None]] = []
        while self._queue and len(batch) < self._limit:
            question, answer = self._queue.popleft()
            if answer is None or not answer.done():
                batch.append((question, answer))
        return batch

    async def _work(self) -> None:
        while batch := self._next_batch():
            self._calls = True
            try:
                await self._serve(batch)
            finally:
                self._calls = False
                actions, self._after_call = self._after_call, []
                for action in actions:
                    action()

    async def _serve(self, batch: list[tuple[_Question, asyncio.Future[_Answer] | None]]) -> None:
        waiting = [answer for _, answer in batch if answer is not None]
        try:
            answers = await self._call([question for question, _ in batch])
            for (_, asker), answer in zip(batch, answers, strict=True):
                if asker is not None and not asker.done():
                    asker.set_result(answer)
        except Exception as error:  # noqa: BLE001 (the futures get it)
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
            if not waiting:
                context = {
                    "message": "a call of which no answer was asked for failed",
                    "exception": error,
                }
                asyncio.get_running_loop().call_exception_handler(context)
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
