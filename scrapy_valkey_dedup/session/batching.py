"""Gathers single questions into one call, whatever it asks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")

PATIENCE = 0.01
"""Seconds after which questions no longer wait for the end of the calls under way."""


class Batcher(Generic[_Question, _Answer]):
    """One call takes all questions that wait at that moment.

    The first question of an idle batcher goes with those asked in the same turn of the event loop.
    While a call is under way the next questions gather for the one after it, which begins when that
    call has ended; or, if several calls may be under way at once, ``PATIENCE`` after the question:
    a server nearby has answered by then, of one far away nobody waits for two answers. Answers are
    given in the order of the calls. An error of a call reaches every question of that call. A
    question cancelled before its call starts is left out; of one cancelled later the answer is
    dropped. The others get theirs.
    """

    def __init__(
        self,
        call: Callable[[Sequence[_Question]], Awaitable[Sequence[_Answer]]],
        limit: int = 2000,
        *,
        at_once: int = 1,
    ) -> None:
        """``call`` returns one answer for each question, in order; it gets at most ``limit``.

        ``at_once``: how many calls may be under way at once.
        """
        self._call = call
        self._limit = limit
        self._at_once = at_once
        self._queue: deque[tuple[_Question, asyncio.Future[_Answer] | None]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._next_worker: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Future[None]] = set()
        """Those under way, each as the future of its end."""
        self._after_calls: list[tuple[set[asyncio.Future[None]], Callable[[], None]]] = []

    def ask(self, question: _Question) -> asyncio.Future[_Answer]:
        """Returns a future of the answer, or of what the call raises."""
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._put(question, answer)
        return answer

    def tell(self, question: _Question) -> None:
        """Asks without waiting for an answer; ``call`` must deal with its errors itself."""
        self._put(question, None)

    def after_call(self, action: Callable[[], None]) -> None:
        """Runs ``action`` when all calls under way have ended; at once if there is none."""
        if self._calls:
            self._after_calls.append((set(self._calls), action))
        else:
            action()

    async def given_up(self, patience: float) -> None:
        """Returns when nothing waits any more for the end of a call, or after ``patience``."""
        if self._after_calls:
            ended = asyncio.Event()
            self.after_call(ended.set)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ended.wait(), patience)

    async def drain(self) -> None:
        """Returns when nothing waits and no call is under way."""
        while self._workers:
            await asyncio.wait(list(self._workers))

    async def close(self) -> None:
        """Gives up what waits and what is under way: its futures are cancelled."""
        for _, answer in self._queue:
            if answer is not None:
                answer.cancel()
        self._queue.clear()
        for worker in self._workers:
            worker.cancel()
        await self.drain()

    def _put(self, question: _Question, answer: asyncio.Future[_Answer] | None) -> None:
        self._queue.append((question, answer))
        if not self._workers:
            self._start_worker()
        elif len(self._workers) < self._at_once and self._next_worker is None:
            loop = asyncio.get_running_loop()
            self._next_worker = loop.call_later(PATIENCE, self._start_another)

    def _start_another(self) -> None:
        """The calls under way take long: those that wait do not wait for them."""
        self._next_worker = None
        if self._queue:
            self._start_worker()

    def _start_worker(self) -> None:
        worker = asyncio.get_running_loop().create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)  # one that is cancelled may not have begun

    def _next_batch(self) -> list[tuple[_Question, asyncio.Future[_Answer] | None]]:
        batch: list[tuple[_Question, asyncio.Future[_Answer] | None]] = []
        while self._queue and len(batch) < self._limit:
            question, answer = self._queue.popleft()
            if answer is None or not answer.done():
                batch.append((question, answer))
        return batch

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                earlier = set(self._calls)
                call = asyncio.get_running_loop().create_future()
                self._calls.add(call)
                try:
                    await self._serve(batch, earlier)
                finally:
                    self._calls.discard(call)
                    call.set_result(None)
                    self._end_waits_for(call)
        finally:
            # Before anything else can run: the next question must find that nobody takes it.
            self._workers.discard(asyncio.current_task())

    def _end_waits_for(self, call: asyncio.Future[None]) -> None:
        waits, self._after_calls = self._after_calls, []
        for calls, action in waits:
            calls.discard(call)
            if calls:
                self._after_calls.append((calls, action))
            else:
                action()

    async def _serve(
        self,
        batch: list[tuple[_Question, asyncio.Future[_Answer] | None]],
        earlier: set[asyncio.Future[None]],
    ) -> None:
        waiting = [answer for _, answer in batch if answer is not None]
        try:
            answers = await self._call([question for question, _ in batch])
            if earlier:
                await asyncio.wait(earlier)
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
